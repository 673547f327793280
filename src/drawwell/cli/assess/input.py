"""The input of ``drawwell assess``: a file, a pipe or a capture."""

import argparse
import asyncio
import base64
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from drawwell.cli.output import Output
from drawwell.entropy.health import NoiseClaim
from drawwell.errors import BadData, DrawwellError, SourceUnavailable, UsageError
from drawwell.reports import Firmware, SourceIdentity
from drawwell.units import format_size

MOST_BYTES: Final = 1 << 28
"""The size limit: the estimators would need too much memory for more."""
PIECE_BYTES: Final = 32_768  # limit of a running source's sample command
READ_BYTES: Final = 4096


class CannotWrite(DrawwellError):
    """An output file cannot be written."""

    exit_code = 69


@dataclass(frozen=True, slots=True)
class Taken:
    """Samples and facts about them; `claim` is None if there is no claim."""

    name: str
    data: bytes = field(repr=False)
    identity: SourceIdentity | None = None
    claim: NoiseClaim | None = None
    configuration: Mapping[str, str] = field(default_factory=dict)


def take(args: argparse.Namespace, out: Output) -> Taken:
    """Read the file, or capture from the source, in the command line.

    Raises:
        BadData: the file cannot be read.
        SourceError: the source does not exist or failed during the capture.
    """
    if args.input == "-":
        return _samples_of(Taken("standard input", _read(sys.stdin.fileno(), "standard input")), args.format)
    if args.input and is_file(args.input):
        return take_file(args.input, args.format)
    return _samples_of(capture(args, args.input, args.samples, out), args.format)


def take_file(path: str, form: str | None) -> Taken:
    """Read samples from a file in the given format; same errors as `take`."""
    return _samples_of(_file(path), form)


def _samples_of(taken: Taken, form: str | None) -> Taken:
    from drawwell.assess.forms import read_as

    read = read_as(form, taken.data, taken.name)
    how = {"read as": read.how} if read.how else {}
    return replace(taken, data=read.data, configuration={**taken.configuration, **how})


def is_file(path: str) -> bool:
    """Return whether the argument is a file, not a node or a source name."""
    try:
        return not stat.S_ISCHR(os.stat(path).st_mode)
    except OSError:
        return "/" in path and not path.startswith("/dev/")


def _file(path: str) -> Taken:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BadData(
            f"cannot open {path}: {error.strerror}", hint="Choose a file that you can read."
        ) from None
    try:
        return Taken(os.path.basename(path), _read(fd, path))
    finally:
        os.close(fd)


def read_file(path: str) -> bytes:
    return _file(path).data


def _read(fd: int, name: str) -> bytes:
    data = bytearray()
    try:
        while piece := os.read(fd, 1 << 20):
            data += piece
            if len(data) > MOST_BYTES:
                raise BadData(
                    f"{name} is larger than {format_size(MOST_BYTES)}",
                    hint="Assess part of the file: 'head -c 10000000 FILE | drawwell assess -'.",
                )
    except OSError as error:
        raise BadData(
            f"cannot read {name}: {error.strerror}", hint="Choose a file with one sample per byte."
        ) from None
    return bytes(data)


def capture(args: argparse.Namespace, source: str | None, wanted: int, out: Output) -> Taken:
    """Capture through the broker if it runs the source, else directly."""
    taken = _through_broker(args, source, wanted, out)
    return _directly(args, source, wanted, out) if taken is None else taken


def _through_broker(args: argparse.Namespace, source: str | None, wanted: int, out: Output) -> Taken | None:
    from drawwell.cli import client

    samples = bytearray()
    while len(samples) < wanted:
        piece = client.source_command(
            args, source, "capture", {"bytes": min(PIECE_BYTES, wanted - len(samples))}
        )
        if piece is None and samples:
            raise SourceUnavailable(
                "the broker disconnected during the capture", hint="See 'drawwell status'."
            )
        if piece is None:
            return None
        samples += base64.b64decode(piece["data"])
        show(out, "capture", len(samples), wanted)
    report = _running(args, source)
    identity = SourceIdentity(**{**report["identity"], "firmware": Firmware(report["identity"]["firmware"])})
    tests = report["tests"]
    claim = NoiseClaim(tests[0]["min_entropy"], bits=any(test["unit"] == "bit" for test in tests))
    return Taken(
        identity.name,
        bytes(samples),
        identity,
        claim,
        _configuration(claim, f"by the running broker, {PIECE_BYTES:,} consecutive samples at a time"),
    )


def _running(args: argparse.Namespace, source: str | None) -> dict[str, Any]:
    from drawwell.cli import client

    for report in client.call(args, "status", {})["sources"]:
        identity = report["identity"]
        if source in {None, identity["name"]} or os.path.realpath(str(source)) == os.path.realpath(
            identity["path"]
        ):
            found: dict[str, Any] = report
            return found
    raise SourceUnavailable(
        f"source {source} disconnected during the capture", hint="See 'drawwell source list'."
    )


def _directly(args: argparse.Namespace, source: str | None, wanted: int, out: Output) -> Taken:
    from drawwell.cli.source.direct import open_driver

    args.source = source
    try:
        driver, claim = open_driver(args, out)
    except UsageError as error:
        what = f"{source} is not a file, and {error}" if source else "nothing to assess"
        raise SourceUnavailable(
            what, hint=f"Specify a file, a source or a device node. {error.hint or ''}"
        ) from None

    async def read() -> bytes:
        samples = bytearray()
        try:
            await driver.open()
            while len(samples) < wanted:
                samples += (await driver.read(min(READ_BYTES, wanted - len(samples)))).data
                show(out, "capture", len(samples), wanted)
        finally:
            await driver.aclose()
        return bytes(samples)

    data = asyncio.run(read())
    identity = driver.identity
    return Taken(
        identity.name, data, identity, claim, _configuration(claim, "from the device, without a broker")
    )


def _configuration(claim: NoiseClaim, how: str) -> dict[str, str]:
    tested = "bytes and bits" if claim.bits else "bytes"
    return {"claim": f"{claim.min_entropy:g} bits per byte, health tests of {tested}", "captured": how}


def show(out: Output, what: str, done: int, whole: int) -> None:
    """Show a progress bar for bytes."""
    out.progress(f"{what} {bar(done / whole)} {format_size(done)} of {format_size(whole)}")


def bar(part: float, width: int = 24) -> str:
    """Return a bar that is filled to the fraction `part`."""
    full = round(width * min(1.0, max(0.0, part)))
    return "█" * full + "░" * (width - full)


def keep(path: str, data: bytes) -> None:
    """Write samples to a new file that only its owner can read.

    Raises:
        UsageError: the file exists.
        CannotWrite: the write failed, for example on a full disk; the file is removed.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} already exists", hint="Choose a new file.") from None
    except OSError as error:
        raise _cannot(path, error) from None
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
    except OSError as error:
        os.unlink(path)
        raise _cannot(path, error) from None


def write_whole(path: str, text: str) -> None:
    """Write or replace a file atomically; raise CannotWrite on failure."""
    part = f"{path}.part"
    try:
        with open(part, "w", encoding="utf-8", opener=_no_link) as file:
            file.write(text)
        os.replace(part, path)
    except OSError as error:
        if os.path.exists(part):
            os.unlink(part)
        raise _cannot(path, error) from None


def _no_link(path: str, flags: int) -> int:
    """Open a file without following a symbolic link from another user."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)


def _cannot(path: str, error: OSError) -> CannotWrite:
    return CannotWrite(
        f"cannot write {path}: {error.strerror}", hint="Free some space, or choose another directory."
    )

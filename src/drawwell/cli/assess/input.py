"""What ``drawwell assess`` judges: a file, a pipe, or raw samples taken from a source for this alone."""

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
"""More than this no estimator takes in the memory of an ordinary machine."""
PIECE_BYTES: Final = 32_768  # the most that a running source hands out at once
READ_BYTES: Final = 4096


class CannotWrite(DrawwellError):
    """A file cannot be written: make room, or name another one."""

    exit_code = 69


@dataclass(frozen=True, slots=True)
class Taken:
    """Samples, and what is known about them. `claim` is None where nothing is claimed."""

    name: str
    data: bytes = field(repr=False)
    identity: SourceIdentity | None = None
    claim: NoiseClaim | None = None
    configuration: Mapping[str, str] = field(default_factory=dict)


def take(args: argparse.Namespace, out: Output) -> Taken:
    """Read the file, or capture from the source, that the command line names.

    Raises:
        BadData: not a file that can be read.
        SourceError: no such source, or it died on the way.
        MissingExtra, UsageError: as their messages say.
    """
    if args.input == "-":
        return _samples_of(Taken("standard input", _read(sys.stdin.fileno(), "standard input")), args.format)
    if args.input and is_file(args.input):
        return take_file(args.input, args.format)
    return _samples_of(capture(args, args.input, args.samples, out), args.format)


def take_file(path: str, form: str | None) -> Taken:
    """Read a file of samples in a form of assess/forms.py; raises as `take`."""
    return _samples_of(_file(path), form)


def _samples_of(taken: Taken, form: str | None) -> Taken:
    from drawwell.assess.forms import read_as

    read = read_as(form, taken.data, taken.name)
    how = {"read as": read.how} if read.how else {}
    return replace(taken, data=read.data, configuration={**taken.configuration, **how})


def is_file(path: str) -> bool:
    """Is it meant for a file? A device node and a bare name that no file has are sources."""
    try:
        return not stat.S_ISCHR(os.stat(path).st_mode)
    except OSError:
        return "/" in path and not path.startswith("/dev/")


def _file(path: str) -> Taken:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BadData(
            f"cannot open {path}: {error.strerror}", hint="Name a file that you may read."
        ) from None
    try:
        return Taken(os.path.basename(path), _read(fd, path))
    finally:
        os.close(fd)


def read_file(path: str) -> bytes:
    """Read a whole file; raises BadData."""
    return _file(path).data


def _read(fd: int, name: str) -> bytes:
    data = bytearray()
    try:
        while piece := os.read(fd, 1 << 20):
            data += piece
            if len(data) > MOST_BYTES:
                raise BadData(
                    f"{name} is larger than {format_size(MOST_BYTES)}",
                    hint="Judge a part of it: 'head -c 10000000 FILE | drawwell assess -'.",
                )
    except OSError as error:
        raise BadData(
            f"cannot read {name}: {error.strerror}", hint="Name a file of samples, one a byte."
        ) from None
    return bytes(data)


def capture(args: argparse.Namespace, source: str | None, wanted: int, out: Output) -> Taken:
    """Capture raw samples, from the running broker when it has the source and from the device otherwise."""
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
            raise SourceUnavailable("the broker went away during the capture", hint="See 'drawwell status'.")
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
        f"source {source} went away during the capture", hint="See 'drawwell source list'."
    )


def _directly(args: argparse.Namespace, source: str | None, wanted: int, out: Output) -> Taken:
    from drawwell.cli.source.direct import open_driver

    args.source = source
    try:
        driver, claim = open_driver(args)
    except UsageError as error:
        words = f"no file and {error}" if source else "nothing to assess"
        raise SourceUnavailable(
            words, hint=f"Name a file, a source or a device node. {error.hint or ''}"
        ) from None
    out.say(f"nobody runs it: opening {driver.identity.path} myself")

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
        identity.name, data, identity, claim, _configuration(claim, "from the device, no broker running")
    )


def _configuration(claim: NoiseClaim, how: str) -> dict[str, str]:
    tested = "bytes and bits" if claim.bits else "bytes"
    return {"claim": f"{claim.min_entropy:g} bits a byte, health tests of {tested}", "captured": how}


def show(out: Output, what: str, done: int, whole: int) -> None:
    """Draw a progress bar for bytes."""
    out.progress(f"{what} {bar(done / whole)} {format_size(done)} of {format_size(whole)}")


def bar(part: float, width: int = 24) -> str:
    """Return a bar of text, `part` of it full."""
    full = round(width * min(1.0, max(0.0, part)))
    return "█" * full + "░" * (width - full)


def keep(path: str, data: bytes) -> None:
    """Write samples to a new file that only its owner may read.

    Raises:
        UsageError: there is such a file.
        CannotWrite: the disk is full, or the like; nothing is left behind.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} is there already", hint="Name a new file.") from None
    except OSError as error:
        raise _cannot(path, error) from None
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
    except OSError as error:
        os.unlink(path)
        raise _cannot(path, error) from None


def write_whole(path: str, text: str) -> None:
    """Write a file whole or not at all, in place of an older one; raises CannotWrite."""
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
    """Open what is no symbolic link: in a directory such as /tmp somebody else may have laid one."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)


def _cannot(path: str, error: OSError) -> CannotWrite:
    return CannotWrite(
        f"cannot write {path}: {error.strerror}", hint="Make room, or name a file in another directory."
    )

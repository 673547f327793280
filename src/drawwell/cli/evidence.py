"""``drawwell evidence``: collect evidence about a source for an auditor."""

import argparse
import json
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from drawwell.cli.output import Output
from drawwell.errors import SourceUnavailable, UsageError

if TYPE_CHECKING:  # to start faster
    from drawwell.entropy.health import NoiseClaim
    from drawwell.ports import NoiseSource
    from drawwell.reports import SourceIdentity

SAMPLES: Final = 1_000_000  # SP 800-90B 3.1.1
SIDE: Final = 1000  # SP 800-90B 3.1.4.1
READ_BYTES: Final = 4096
HOW: Final = {
    "pause": "the device was paused and resumed before each row; its power stayed on",
    "reopen": "the device was closed and reopened before each row; its power stayed on",
}
"""The restart methods as described in the folder. Neither method is a power cycle."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Captured samples, and how the source was restarted for the matrix."""

    how: str
    raw: bytes = field(repr=False)
    matrix: bytes = field(repr=False)


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "evidence", parents=[common], allow_abbrev=False,
        help="collect evidence about a source for an auditor in a signed folder",
        description="Capture raw samples and a restart matrix, derive all cutoffs, induce failures in drawwell's "
            "health tests, assess the source, and sign the folder. This is not a certification. No other program "
            "may use the source, because it is restarted 1000 times.",
    )  # fmt: skip
    parser.add_argument("source", nargs="?", help="name or device node (default: the only source)")
    parser.add_argument("-o", "--output", metavar="DIR", help="the folder to create; it must not exist")
    parser.add_argument(
        "--restart", choices=sorted(HOW), metavar="HOW",
        help="how to restart the source for the matrix: pause (default if supported) or reopen",
    )  # fmt: skip
    parser.add_argument(
        "--key", metavar="FILE",
        help="Ed25519 private key for the signature (default: the broker's receipt key, else a new key next to DIR)",
    )  # fmt: skip
    parser.add_argument("--verify", metavar="DIR", help="only verify the manifest and signature of a folder")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    if args.verify:
        return _verify(args.verify, out)
    if not args.output:
        raise UsageError("no output folder specified", hint="Specify a new folder: drawwell evidence -o DIR.")
    if os.path.lexists(args.output):
        raise UsageError(f"{args.output} already exists", hint="Choose a new folder.")
    import asyncio

    from drawwell.assess import sp80090b  # noqa: F401  fails early if a library is missing
    from drawwell.assess.text import require_samples
    from drawwell.cli.source.direct import open_driver

    _refuse_in_use(args)
    driver, claim = open_driver(args, out)
    gathered = asyncio.run(_gather(driver, args.restart, out))
    require_samples(gathered.raw, driver.identity.name)
    files, facts = _made(gathered, driver.identity, claim, out)
    key_text = _write(args, files, facts)
    text = f"{len(files)} files in {args.output}, signed with {key_text}"
    out.say(f"to verify the folder, run 'drawwell evidence --verify {args.output}'")
    out.result({"directory": args.output, **facts, "signed_with": key_text}, text)
    return 0


def _verify(directory: str, out: Output) -> int:
    from drawwell.assess.evidence.folder import verify
    from drawwell.cli.assess.input import read_file

    try:
        names = [entry.name for entry in os.scandir(directory) if entry.is_file()]
    except OSError as error:
        raise UsageError(
            f"cannot read {directory}: {error.strerror}", hint="Choose an evidence folder."
        ) from None
    found = verify({name: read_file(os.path.join(directory, name)) for name in names})
    simulated = ", a SIMULATED device" if found.get("simulated") else ""
    out.result(
        found,
        f"{directory}: {len(found['files'])} files match the signature, source {found.get('source')}{simulated}",
    )
    return 0


def _refuse_in_use(args: argparse.Namespace) -> None:
    from drawwell.cli import client
    from drawwell.errors import LinkUnavailable

    try:
        running = client.call(args, "status", {})["sources"]
    except LinkUnavailable:
        return
    for source in running:
        identity = source["identity"]
        paths = {os.path.realpath(str(args.source)), args.source, None}
        if identity["name"] == args.source or identity["path"] in paths or args.source is None:
            raise SourceUnavailable(
                f"the running broker uses {identity['name']}",
                hint="Stop the broker first, because the restart matrix needs exclusive use of the device.",
            )


async def _gather(driver: "NoiseSource", wanted: str | None, out: Output) -> Gathered:
    """Capture the raw samples and the restart matrix."""
    from drawwell.cli.assess.input import show

    try:
        await driver.open()
        raw = bytearray()
        while len(raw) < SAMPLES:
            raw += (await driver.read(min(READ_BYTES, SAMPLES - len(raw)))).data
            show(out, "raw samples", len(raw), SAMPLES)
        how = wanted or await _way(driver)
        matrix = bytearray()
        for row in range(SIDE):
            await _restart(driver, how)
            matrix += await _exactly(driver, SIDE)
            show(out, f"restart {row + 1} of {SIDE}", len(matrix), SIDE * SIDE)
    finally:
        await driver.aclose()
    return Gathered(how, bytes(raw), bytes(matrix))


async def _way(driver: "NoiseSource") -> str:
    """Return "pause" if the source supports it, else "reopen"."""
    try:
        await driver.command("pause", {})
        await driver.command("resume", {})
    except UsageError:
        return "reopen"
    return "pause"


async def _restart(driver: "NoiseSource", how: str) -> None:
    if how == "pause":
        await driver.command("pause", {})
        await driver.command("resume", {})
    else:
        await driver.aclose()
        await driver.open()


async def _exactly(driver: "NoiseSource", n: int) -> bytes:
    samples = bytearray()
    while len(samples) < n:
        samples += (await driver.read(n - len(samples))).data
    return bytes(samples)


def _made(
    gathered: Gathered, identity: "SourceIdentity", claim: "NoiseClaim", out: Output
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return all files of the folder and the facts for its manifest."""
    from drawwell.assess.evidence import folder
    from drawwell.assess.evidence.induced_failures import induce_failures, log_of
    from drawwell.assess.report.page import page_of
    from drawwell.cli.assess.input import Taken
    from drawwell.cli.assess.run import assess_taken, versions
    from drawwell.entropy.health import HealthMonitor
    from drawwell.reports import as_json

    raw, how = gathered.raw, gathered.how
    configuration = {"claim": f"{claim.min_entropy:g} bits per byte", "restarted by": HOW[how]}
    taken = Taken(identity.name, raw, identity, claim, configuration)
    found = assess_taken(taken, out, restart=gathered.matrix)
    failures = induce_failures(raw, claim, os.urandom(32))
    rows = folder.derivations(HealthMonitor(claim, hash_key=os.urandom(32)).reports())
    restart = found.restart
    facts = {
        "source": identity.name,
        "simulated": identity.simulated,
        "restarted_by": how,
        "made_at": found.subject.assessed_at,
        "claims": folder.DISCLAIMER,
    }
    files = {
        "raw.bin": raw,
        "restart.bin": gathered.matrix,
        "assessment.html": page_of(found).encode(),
        "assessment.json": _json(as_json(found)),
        "cutoffs.json": _json(rows),
        "cutoffs.txt": folder.cutoffs_text(
            rows, restart=restart.cutoff if restart else None, h_initial=restart.h_initial if restart else 0.0
        ).encode(),
        "induced-failures.json": _json([as_json(failure) for failure in failures]),
        "induced-failures.log": log_of(failures, simulated=identity.simulated).encode(),
        "source.json": _json(
            {"identity": as_json(identity), "configuration": configuration, "versions": versions()}
        ),
        "README.md": folder.readme(
            name=identity.name,
            simulated=identity.simulated,
            noise=identity.noise,
            restart=HOW[how],
            samples=len(raw),
        ).encode(),
    }
    return files, facts


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()


def _write(args: argparse.Namespace, files: dict[str, bytes], facts: dict[str, Any]) -> str:
    """Create the complete folder or none; return the name of the signing key."""
    from drawwell.assess.evidence import folder
    from drawwell.cli.assess.input import keep

    key, text, made = _key(args)
    manifest = folder.manifest(files, facts)
    try:
        signature, public = folder.sign(manifest, key)
    except ValueError as error:
        raise UsageError(
            f"cannot sign with {text}: {error}", hint="Use an Ed25519 private key in PEM."
        ) from None
    part = f"{args.output.rstrip('/')}.part"
    os.makedirs(part, mode=0o700, exist_ok=False)
    try:
        signed = {folder.MANIFEST: manifest, folder.SIGNATURE: signature, folder.PUBLIC_KEY: public}
        for name, data in (files | signed).items():
            keep(os.path.join(part, name), data)
        if made:
            keep(made, key)
        os.rename(part, args.output)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return text


def _key(args: argparse.Namespace) -> tuple[bytes, str, str]:
    """Return the private key, its description and where to save a new key."""
    from drawwell.cli.assess.input import read_file
    from drawwell.config.load import load
    from drawwell.crypto.receipts import receipt_key_from_seed

    if args.key:
        return read_file(args.key), args.key, ""
    receipts = os.path.join(load(args.config).broker.state_dir, "receipt-key.pem")
    if os.access(receipts, os.R_OK):
        return read_file(receipts), f"the broker's receipt key, {receipts}", ""
    path = f"{args.output.rstrip('/')}.key.pem"
    return receipt_key_from_seed(os.urandom(32)), f"a new key, stored in {path}", path

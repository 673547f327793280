"""``drawwell onerng``: send commands to a device.

A command goes through the device's source if the source is running; otherwise, this process
opens the device. ``verify`` exits with 0 if the firmware signature is valid, 1 if it is not,
and 65 (EX_DATAERR) if it could not be checked.
"""

import argparse
import errno
import os
import stat
from collections.abc import Sequence
from typing import Any

from drawwell.cli.output import Output
from drawwell.config.drivers import ONERNG
from drawwell.errors import PermissionRefused, SourceError, UsageError

NOISE_MODES = ("cmd0", "cmd1", "cmd2", "cmd3", "cmd6", "cmd7")
EXIT_NOT_VERIFIED = 1
EXIT_COULD_NOT_CHECK = 65


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser("onerng", help="control a OneRNG", allow_abbrev=False)
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(
        name: str,
        summary: str,
        path: str = "device node or source name (default: the only configured OneRNG)",
    ) -> Any:
        made = verbs.add_parser(name, parents=[common], help=summary, allow_abbrev=False)
        if name == "mode":
            made.add_argument(
                "mode", choices=NOISE_MODES, metavar="MODE",
                help=f"{', '.join(NOISE_MODES)}; cmd1 is raw avalanche noise",
            )  # fmt: skip
        made.add_argument("path", nargs="?", metavar="PATH", help=path)
        made.set_defaults(run=_run, verb=name)
        return made

    _add_acceptance(verbs, common)
    verb("info", "show firmware version, hardware ID and port")
    verb("mode", "select the noise sources and the whitener")
    verb("pause", "pause the device")
    verb("resume", "resume the device")
    verb("flush", "empty the device's entropy pool")
    dump = verb("dump", "write the firmware image to a file")
    dump.add_argument("-o", "--output", required=True, metavar="FILE", help="the new file, mode 0600")
    verify = verb(
        "verify",
        "verify the firmware signature; exit codes: 0 verified, 1 not verified, 65 could not check",
        "device node, source name or dump file (default: the only configured OneRNG)",
    )
    verify.add_argument(
        "--test-key", action="store_true",
        help="for a dump file: also accept the simulator's published test key, although everyone can sign with it",
    )  # fmt: skip


def _add_acceptance(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "acceptance", parents=[common], allow_abbrev=False,
        help="compare a real device with the simulator, interactively, in about ten minutes",
        description="Observe a OneRNG, prompt you to unplug and replug it, and write a file with all differences from"
        " drawwell's simulator. No other program may use the device. Please send the file in a bug report, because"
        " drawwell was developed without a OneRNG. The file contains the device's ID and port, but no noise.",
        epilog="Exit codes: 0 no differences, 1 differences found, 69 no device.",
    )  # fmt: skip
    parser.add_argument("path", nargs="?", metavar="PATH", help="device node (default: the only OneRNG)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="onerng-acceptance.json",
        help="the new file (default: onerng-acceptance.json)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=20.0, metavar="N", help="seconds to read in each mode (default: 20)"
    )
    parser.set_defaults(run=_accept)


def _accept(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.acceptance import run

    return run(args, out)


def _run(args: argparse.Namespace, out: Output) -> int:
    if args.verb == "verify" and _is_file(args.path):
        return _show_verdict(_verify_file(args.path, test_key=args.test_key), out)
    if args.verb == "verify" and args.test_key:
        raise UsageError(
            "--test-key needs a dump file",
            hint="A simulated device does not need this option: drawwell detects its pseudo-terminal.",
        )
    result = _carry_out(args, out)
    if args.verb == "verify":
        return _show_verdict(result, out)
    out.result(result, _text(args.verb, result))
    return 0


def _carry_out(args: argparse.Namespace, out: Output) -> dict[str, Any]:
    from drawwell.cli.client import source_command

    arguments = {}
    if args.verb == "mode":
        arguments["mode"] = args.mode
    elif args.verb == "dump":
        arguments["path"] = os.path.abspath(args.output)
    source, node = _which(args, out)
    doing = "reading the firmware image" if args.verb in {"dump", "verify"} else "waiting for the device"
    with out.working(doing):
        result = source_command(args, source, args.verb, arguments) if source else None
        if result is None:
            import asyncio

            result = asyncio.run(_directly(args, node, arguments, out))
    return result


def _which(args: argparse.Namespace, out: Output) -> tuple[str | None, str]:
    """Return the device's source name or None, and its node."""
    known, whose = _known(args, out)
    path: str | None = args.path
    if path is None and len(known) > 1:
        raise UsageError("there are several OneRNGs", hint=f"Specify one of {', '.join(known)}.")
    if path is None and known:
        path = next(iter(known))
    if path is None:
        return None, "auto"
    if path in known:
        return path, known[path]
    if "/" in path or os.path.exists(path):
        # the broker can have a different working directory
        return os.path.abspath(path), path
    names = f"{whose} {', '.join(known)}. Use one of these or" if known else "Use"
    raise UsageError(f"unknown OneRNG {path!r}", hint=f"{names} the device's node, such as /dev/ttyACM0.")


def _known(args: argparse.Namespace, out: Output) -> tuple[dict[str, str], str]:
    """Return OneRNG nodes by name, and a label for these names."""
    from drawwell.cli.client import NoBroker, call, read_configuration

    try:
        running = [each["identity"] for each in call(args, "status", {})["sources"]]
    except NoBroker:
        configured = read_configuration(args, out).sources
        return {each.name: each.path for each in configured if each.driver == ONERNG}, "Configured OneRNGs:"
    return {each["name"]: each["path"] for each in running if each["kind"] == ONERNG}, "Running OneRNGs:"


async def _directly(
    args: argparse.Namespace, path: str, arguments: dict[str, Any], out: Output
) -> dict[str, Any]:
    """Open the device and run the command."""
    from drawwell.config.load import load
    from drawwell.drivers.firmware_key import firmware_signer
    from drawwell.drivers.onerng import OneRngSource
    from drawwell.onerng.verify import VENDOR

    sections = [each for each in load(args.config).sources if each.driver == ONERNG]
    verb, section = args.verb, next((each for each in sections if each.path in {path, "auto"}), None)
    signer = firmware_signer(section) if section else VENDOR
    source = OneRngSource(ONERNG, path, verify="report", signer=signer)
    try:
        source.attach()
        if verb == "dump":
            out.say(f"reading the firmware image of {source.identity.path}; this takes up to 10 s")
        return await source.command(verb, arguments)
    except SourceError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in {errno.EACCES, errno.EPERM}:
            raise PermissionRefused(str(error), hint=error.hint) from error
        raise
    finally:
        source.detach()


def _is_file(path: str | None) -> bool:
    try:
        return path is not None and stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _verify_file(path: str, *, test_key: bool) -> dict[str, Any]:
    from drawwell.onerng.image import DUMP_BYTES
    from drawwell.onerng.verify import SIMULATOR, VENDOR, verify_dump
    from drawwell.reports import as_json

    try:
        with open(path, "rb") as file:
            stream = file.read(4 * DUMP_BYTES)
    except PermissionError as error:
        raise PermissionRefused(f"cannot read {path}", hint="Run the command as the file's owner.") from error
    verdict = verify_dump(stream, SIMULATOR if test_key else VENDOR)
    return as_json(verdict) | {"path": path, "detail": verdict.detail}


def _show_verdict(verdict: dict[str, Any], out: Output) -> int:
    from drawwell.reports import Firmware

    out.result(verdict, _verdict_text(verdict))
    if verdict["simulated"]:
        out.say("simulated: signed with a published test key, so the signature does not prove authenticity")
    match verdict["outcome"]:
        case Firmware.VERIFIED:
            return 0
        case Firmware.NOT_VERIFIED:
            out.say("hint: Do not use this device unless the firmware is your own.")
            return EXIT_NOT_VERIFIED
        case Firmware.NOT_APPLICABLE:
            out.say("hint: A virtual OneRNG has no firmware. Verify the real device on the host.")
            return EXIT_COULD_NOT_CHECK
    out.say("hint: This result is inconclusive. Dump the firmware again.")
    return EXIT_COULD_NOT_CHECK


def _verdict_text(verdict: dict[str, Any]) -> str:
    rows = [("firmware", verdict["outcome"])]
    if not verdict["key_fingerprint"]:
        return _rows([*rows, ("reason", verdict["reason"])])
    signed_by = verdict["signed_by"]
    rows += [
        ("version", f"{verdict['version']} (from the image's header, which is not signed)"),
        ("hash", verdict["hash_name"]),
        ("key", f"{verdict['key_fingerprint']} ({verdict['key_owner']})"),
        ("signed by", "this key" if signed_by == verdict["key_fingerprint"] else f"subkey {signed_by}"),
    ]
    return _rows(rows)


def _text(verb: str, result: dict[str, Any]) -> str:
    match verb:
        case "info":
            return _info_text(result)
        case "mode":
            return f"{_device(result)}: {result['mode']} ({result['words']})"  # wording: a JSON key
        case "dump":
            simulated = " of a simulated device" if result["simulated"] else ""
            return f"wrote {result['bytes']} bytes of firmware {result['version']}{simulated} to {result['path']}"
    return f"{_device(result)}: {_DONE[result['done']]}"


_DONE = {"pause": "paused", "resume": "resumed", "flush": "flushed"}


def _device(result: dict[str, Any]) -> str:
    return f"{result['path']}{' (simulated)' if result['simulated'] else ''}"


def _info_text(info: dict[str, Any]) -> str:
    rows = [
        ("device", _device(info)),
        ("port", info["stable_name"] or "unknown"),
        ("version", str(info["version"])),
        ("hardware id", info["hardware_id"] or "none (firmware before version 3)"),
    ]
    if info["mode"]:
        rows += [("mode", info["mode"]), ("firmware", f"{info['firmware']}: {info['firmware_detail']}")]
    return _rows(rows)


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<12} {value}" for name, value in rows)

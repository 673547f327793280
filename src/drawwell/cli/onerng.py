"""``drawwell onerng``: an operator's verbs for one device.

While a source runs on the device, they go through it; otherwise the device is opened here.
``verify`` exits 0 when the image signature is verified, 1 when it is not, and 65 (EX_DATAERR) when it could not be
checked.
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
    """Add the noun and its verbs."""
    parser = nouns.add_parser(
        "onerng", help="talk to a OneRNG: info, mode, dump, verify …", allow_abbrev=False
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(
        name: str, words: str, path: str = "device node or source name (default: the only OneRNG configured)"
    ) -> Any:
        made = verbs.add_parser(name, parents=[common], help=words, allow_abbrev=False)
        if name == "mode":
            made.add_argument(
                "mode", choices=NOISE_MODES, metavar="MODE",
                help=f"one of {', '.join(NOISE_MODES)}; cmd1 is raw avalanche noise",
            )  # fmt: skip
        made.add_argument("path", nargs="?", metavar="PATH", help=path)
        made.set_defaults(run=_run, verb=name)
        return made

    _add_acceptance(verbs, common)
    verb("info", "version, hardware ID, port")
    verb("mode", "choose its sources and whether it whitens")
    verb("pause", "stop it sending")
    verb("resume", "let it send")
    verb("flush", "empty its pool")
    dump = verb("dump", "write its firmware image to a file")
    dump.add_argument("-o", "--output", required=True, metavar="FILE", help="new file, mode 0600")
    verify = verb(
        "verify",
        "check its firmware image's signature: exit 0 verified, 1 not verified, 65 could not check",
        "device node, source name, or a file that holds a dump (default: the only OneRNG configured)",
    )
    verify.add_argument(
        "--test-key", action="store_true",
        help="for a file: accept the simulated device's published test key, which proves nothing",
    )  # fmt: skip


def _add_acceptance(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "acceptance", parents=[common], allow_abbrev=False,
        help="compare a real device with the simulated one, in about ten minutes, with questions to you",
        description="Observe a OneRNG that nothing else uses, ask you to unplug it and to plug it in, and write one"
        " file that states where it differs from drawwell's simulated device. Please send it with a bug report: no"
        " OneRNG was at hand when drawwell was written. No noise is in the file; the device's ID and port are.",
        epilog="Exit codes: 0 as assumed, 1 something differs, 69 no device.",
    )  # fmt: skip
    parser.add_argument("path", nargs="?", metavar="PATH", help="device node (default: the only OneRNG)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="onerng-acceptance.json",
        help="new file (default: onerng-acceptance.json)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=20.0, metavar="N", help="how long each mode is read (default: 20)"
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
            "--test-key is for a file", hint="A simulated device is known by its pseudo-terminal."
        )
    result = _carry_out(args, out)
    if args.verb == "verify":
        return _show_verdict(result, out)
    out.result(result, _words(args.verb, result))
    return 0


def _carry_out(args: argparse.Namespace, out: Output) -> dict[str, Any]:
    from drawwell.cli.client import source_command

    arguments = {}
    if args.verb == "mode":
        arguments["mode"] = args.mode
    elif args.verb == "dump":
        arguments["path"] = os.path.abspath(args.output)
    source, node = _which(args)
    doing = "reading the firmware image" if args.verb in {"dump", "verify"} else "asking the device"
    with out.working(doing):
        result = source_command(args, source, args.verb, arguments) if source else None
        if result is None:
            import asyncio

            result = asyncio.run(_directly(args, node, arguments, out))
    return result


def _which(args: argparse.Namespace) -> tuple[str | None, str]:
    """How a running broker knows the device, None when it cannot; and the node to open where none runs it."""
    known, whose = _known(args)
    path: str | None = args.path
    if path is None and len(known) > 1:
        raise UsageError("which OneRNG?", hint=f"Name one of these: {', '.join(known)}.")
    if path is None and known:
        path = next(iter(known))
    if path is None:
        return None, "auto"
    if path in known:
        return path, known[path]
    if "/" in path or os.path.exists(path):
        # the same to a broker with another working directory
        return os.path.abspath(path), path
    names = f"{whose} {', '.join(known)}; or name" if known else "Name"
    raise UsageError(
        f"no OneRNG is called {path!r}", hint=f"{names} the device's node, such as /dev/ttyACM0."
    )


def _known(args: argparse.Namespace) -> tuple[dict[str, str], str]:
    """Return the nodes of OneRNGs by name, and where they are from: the running broker, or the file."""
    from drawwell.cli.client import NoBroker, call
    from drawwell.config.load import load

    try:
        running = [each["identity"] for each in call(args, "status", {})["sources"]]
    except NoBroker:
        configured = load(args.config).sources
        return {each.name: each.path for each in configured if each.driver == ONERNG}, "Configured are:"
    return {each["name"]: each["path"] for each in running if each["kind"] == ONERNG}, "Running are:"


async def _directly(
    args: argparse.Namespace, path: str, arguments: dict[str, Any], out: Output
) -> dict[str, Any]:
    """Open the device, carry the verb out, and leave the device as the verb made it."""
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
            out.say(f"reading the firmware image of {source.identity.path}, which takes up to 10 s")
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
        raise PermissionRefused(f"cannot read {path}", hint="Read it as the user who wrote it.") from error
    verdict = verify_dump(stream, SIMULATOR if test_key else VENDOR)
    return as_json(verdict) | {"path": path, "detail": verdict.detail}


def _show_verdict(verdict: dict[str, Any], out: Output) -> int:
    from drawwell.reports import Firmware

    out.result(verdict, _verdict_words(verdict))
    if verdict["simulated"]:
        out.say("simulated: signed by a published test key, which proves nothing about any device")
    match verdict["outcome"]:
        case Firmware.VERIFIED:
            return 0
        case Firmware.NOT_VERIFIED:
            out.say(
                "hint: Do not use this device for anything that matters, unless the firmware is your own."
            )
            return EXIT_NOT_VERIFIED
        case Firmware.NOT_APPLICABLE:
            out.say("hint: A virtual OneRNG has none; verify the stick on this machine's host.")
            return EXIT_COULD_NOT_CHECK
    out.say("hint: Dump it again; nothing is said about the firmware.")
    return EXIT_COULD_NOT_CHECK


def _verdict_words(verdict: dict[str, Any]) -> str:
    rows = [("firmware", verdict["outcome"])]
    if not verdict["key_fingerprint"]:
        return _rows([*rows, ("because", verdict["reason"])])
    signed_by = verdict["signed_by"]
    rows += [
        ("version", str(verdict["version"])),
        ("hash", verdict["hash_name"]),
        ("key", f"{verdict['key_fingerprint']} ({verdict['key_owner']})"),
        ("signed by", "that key" if signed_by == verdict["key_fingerprint"] else f"its subkey {signed_by}"),
    ]
    return _rows(rows)


def _words(verb: str, result: dict[str, Any]) -> str:
    match verb:
        case "info":
            return _info_words(result)
        case "mode":
            return f"{_device(result)}: {result['mode']} ({result['words']})"
        case "dump":
            simulated = " of a simulated device" if result["simulated"] else ""
            return f"{result['bytes']} bytes of firmware version {result['version']}{simulated} in {result['path']}"
    return f"{_device(result)}: {_DONE[result['done']]}"


_DONE = {"pause": "paused", "resume": "resumed", "flush": "flushed"}


def _device(result: dict[str, Any]) -> str:
    return f"{result['path']}{' (simulated)' if result['simulated'] else ''}"


def _info_words(info: dict[str, Any]) -> str:
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

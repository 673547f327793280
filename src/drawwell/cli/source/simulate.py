"""``drawwell source simulate``: a OneRNG without the hardware, for trying things out and for other people's tests."""

import argparse
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output
from drawwell.errors import DrawwellError, UsageError

if TYPE_CHECKING:
    from drawwell.simulator.pty import PtyDevice
    from drawwell.simulator.usb import UsbStick

    Device = PtyDevice | UsbStick

DEFAULT_RATE = 57_000.0

_EPILOG = """\
While it runs, lines on standard input change it: 'fault NAME', 'unplug', 'replug'.
SIGUSR1 unplugs it, or plugs it in again. Its firmware image is signed by a published test key, which
--export-key writes as an OpenPGP public key; drawwell accepts that key from a pseudo-terminal only.
"""


def add_verb(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb to ``drawwell source``."""
    parser = verbs.add_parser(
        "simulate",
        parents=[common],
        allow_abbrev=False,
        help="run a simulated OneRNG on a pseudo-terminal, or in a virtual machine",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--link", metavar="PATH", help="make PATH a symbolic link to the simulated device")
    parser.add_argument(
        "--usbredir",
        metavar="SOCKET",
        help="plug it into the QEMU guest whose usb-redir device listens at SOCKET",
    )
    parser.add_argument(
        "--fault", metavar="NAME", default="none",
        help="stuck, zeros, counter, loop, biased, silent, slow, bad-firmware or unplugged",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help="make the same noise in every run")
    parser.add_argument(
        "--rate", type=float, default=DEFAULT_RATE, metavar="BYTES/S",
        help="noise in bytes per second; 0 for as fast as it is read (default: 57000, as measured)",
    )  # fmt: skip
    parser.add_argument("--firmware", type=int, choices=(1, 2, 3), default=3, help="version (default: 3)")
    parser.add_argument("--export-key", metavar="FILE", help="write the test key for GnuPG to FILE")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    import asyncio

    if args.rate < 0:
        raise UsageError("a rate is not negative")
    if args.export_key:
        _export_key(args.export_key, out)
    elif not (args.link or args.usbredir):
        raise UsageError("nothing to do", hint="Say --link PATH, --usbredir SOCKET, or --export-key FILE.")
    if args.link and args.usbredir:
        raise UsageError("one stick is in one place", hint="Say --link or --usbredir, and run two for both.")
    if args.link or args.usbredir:
        asyncio.run(_simulate(args, out))
    return 0


def _export_key(path: str, out: Output) -> None:
    from drawwell.simulator.firmware_image import export_public_key

    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(export_public_key())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    out.say(f"wrote the published test key of the simulated device to {path}; it proves nothing")


async def _simulate(args: argparse.Namespace, out: Output) -> None:
    import asyncio

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with _device(args) as device:
        loop.add_signal_handler(signal.SIGUSR1, _toggle, device, out)
        _listen(device, out)
        _announce(device, out)
        await stop.wait()
    out.say(f"simulated OneRNG stopped after {device.sent_bytes} bytes")


def _device(args: argparse.Namespace) -> "Device":
    from drawwell.simulator.pty import PtyDevice
    from drawwell.simulator.usb import UsbStick

    options = {"seed": args.seed, "fault": args.fault, "rate": args.rate, "version": args.firmware}
    return UsbStick(args.usbredir, **options) if args.usbredir else PtyDevice(args.link, **options)


def _place(device: "Device") -> str:
    """Where one looks for it: the link, or the virtual machine's socket."""
    from drawwell.simulator.pty import PtyDevice

    return str(device.link if isinstance(device, PtyDevice) else device.where)


def _announce(device: "Device", out: Output) -> None:
    document = {
        "simulated": True,
        "link": _place(device),
        "node": device.node,
        "fault": str(device.fault),
        "pid": os.getpid(),
    }
    fault = "" if device.fault == "none" else f", fault: {device.fault}"
    place = _place(device)
    where = place if place == device.node else f"{place} -> {device.node}" if device.node else "unplugged"
    out.result(document, f"simulated OneRNG: {where}{fault}; Ctrl-C ends it")


def _toggle(device: "Device", out: Output) -> None:
    _obey("unplug" if device.node else "replug", device, out)


def _listen(device: "Device", out: Output) -> None:
    """Take lines from standard input, where it is one that can be waited for."""
    import asyncio

    if sys.stdin is None:  # started with its standard input closed
        return
    loop, fd = asyncio.get_running_loop(), sys.stdin.fileno()

    def read_lines() -> None:
        data = b"" if _in_background(fd) else os.read(fd, 4096)
        if not data:
            loop.remove_reader(fd)
        for words in data.decode("utf-8", errors="replace").splitlines():
            _obey(words, device, out)

    with suppress(OSError):  # epoll takes no regular file and no /dev/null
        loop.add_reader(fd, read_lines)


def _in_background(fd: int) -> bool:
    """Would reading this terminal stop us (SIGTTIN)?"""
    return os.isatty(fd) and os.tcgetpgrp(fd) != os.getpgrp()


def _obey(words: str, device: "Device", out: Output) -> None:
    try:
        match words.split():
            case ["unplug"]:
                device.unplug()
            case ["replug"]:
                device.replug()
            case ["fault", name]:
                device.set_fault(name)
            case []:
                return
            case _:
                raise UsageError(f"simulated OneRNG does not understand {words!r}")
    except DrawwellError as error:
        out.error(error)
        return
    out.say(f"simulated OneRNG: {words.strip()}{'' if device.node else ' (not plugged in)'}")

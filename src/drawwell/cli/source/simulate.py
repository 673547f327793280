"""``drawwell source simulate``: run a simulated OneRNG for tests."""

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
While the device is running, it reads commands from standard input: 'fault NAME', 'unplug', 'replug'.
SIGUSR1 unplugs the device or plugs it in again. The firmware image is signed with a published test
key, which drawwell accepts only on a pseudo-terminal. --export-key writes the OpenPGP public key.
"""


def add_verb(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "simulate",
        parents=[common],
        allow_abbrev=False,
        help="run a simulated OneRNG on a pseudo-terminal or in a virtual machine",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--link", metavar="PATH", help="create symbolic link PATH to the simulated device")
    parser.add_argument(
        "--usbredir",
        metavar="SOCKET",
        help="plug the simulated OneRNG into the QEMU guest whose usb-redir device listens on SOCKET",
    )
    parser.add_argument(
        "--fault", metavar="NAME", default="none",
        help="fault to simulate: stuck, zeros, counter, loop, biased, silent, slow, bad-firmware or unplugged",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help="produce the same noise in every run")
    parser.add_argument(
        "--rate", type=float, default=DEFAULT_RATE, metavar="BYTES/S",
        help="noise in bytes per second; 0 means no limit (default: 57000, as measured)",
    )  # fmt: skip
    parser.add_argument("--firmware", type=int, choices=(1, 2, 3), default=3, help="version (default: 3)")
    parser.add_argument("--export-key", metavar="FILE", help="write the public test key to FILE for GnuPG")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    import asyncio

    if args.rate < 0:
        raise UsageError("the rate must not be negative")
    if args.export_key:
        _export_key(args.export_key, out)
    elif not (args.link or args.usbredir):
        raise UsageError("nothing to do", hint="Use --link PATH, --usbredir SOCKET or --export-key FILE.")
    if args.link and args.usbredir:
        raise UsageError(
            "--link and --usbredir cannot be combined", hint="Use one of them, or run two simulated devices."
        )
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
    out.say(f"wrote the simulator's published test key to {path}; its signatures prove nothing")


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
    """Return the location of the device: its link or the guest's socket."""
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
    out.result(document, f"simulated OneRNG: {where}{fault}; Ctrl-C stops")


def _toggle(device: "Device", out: Output) -> None:
    _obey("unplug" if device.node else "replug", device, out)


def _listen(device: "Device", out: Output) -> None:
    """Read commands from standard input, if it can be polled."""
    import asyncio

    if sys.stdin is None:  # started with standard input closed
        return
    loop, fd = asyncio.get_running_loop(), sys.stdin.fileno()

    def read_lines() -> None:
        data = b"" if _in_background(fd) else os.read(fd, 4096)
        if not data:
            loop.remove_reader(fd)
        for line in data.decode("utf-8", errors="replace").splitlines():
            _obey(line, device, out)

    with suppress(OSError):  # epoll accepts neither regular files nor /dev/null
        loop.add_reader(fd, read_lines)


def _in_background(fd: int) -> bool:
    """Return whether reading this terminal would stop this process (SIGTTIN)."""
    return os.isatty(fd) and os.tcgetpgrp(fd) != os.getpgrp()


def _obey(line: str, device: "Device", out: Output) -> None:
    try:
        match line.split():
            case ["unplug"]:
                device.unplug()
            case ["replug"]:
                device.replug()
            case ["fault", name]:
                device.set_fault(name)
            case []:
                return
            case _:
                raise UsageError(f"unknown command {line!r}")
    except DrawwellError as error:
        out.error(error)
        return
    out.say(f"simulated OneRNG: {line.strip()}{'' if device.node else ' (not plugged in)'}")

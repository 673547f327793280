"""``drawwell init``: a first configuration, made of what this machine has."""

import argparse
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from drawwell.cli.output import Output

if TYPE_CHECKING:
    from drawwell.config.model import Config

BROKER_UNIT: Final = "drawwell-broker.service"
READY_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.2
_ONERNG: Final = """\
# the OneRNG that is plugged in
[[source]]
driver = "onerng"
"""
_DEVICE: Final = """\
# the {kind} that is plugged in; take min_entropy from an assessment of yours
{section}
"""
_HWRNG: Final = """\
# the kernel's hardware generator, already conditioned: each byte counts as one bit
[[source]]
name = "hwrng"
driver = "chardev"
path = "/dev/hwrng"
min_entropy = 1.0
"""
_KERNEL: Final = """
# mix it into this machine's kernel, which never makes that worse
[kernel]
feed = true
"""
_TLS: Final = """
# where other machines connect; 'drawwell consumer invite NAME' lets one join
[tls]
listen = "*:55000"
# the first name goes into invitations
names = ["{name}"]
"""


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    parser = nouns.add_parser(
        "init", parents=[common], help="write a first configuration and start with it", allow_abbrev=False,
        description="Write a first configuration. As root it goes to conf.d, and the units start with it; otherwise "
        "it is printed, or written to the file of --output.",
        epilog="Exit codes: 0 written, 69 written but nothing serves yet, 78 it does not fit what is configured.",
    )  # fmt: skip
    parser.add_argument(
        "kind", choices=("host", "broker", "hwrng"), metavar="KIND",
        help="host: a noise source for this machine; broker: for other machines too; hwrng: only /dev/hwrng",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="FILE", help="write to this new file, and start nothing")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.set_up import MARK, part_path, parts_directory, write_part
    from drawwell.config.load import load

    text = f"{MARK.format('init')} {args.kind}'\n" + configuration(args.kind, load(args.config))
    directory = None if args.output else parts_directory(args)
    if args.output:
        with open(args.output, "x", encoding="utf-8") as file:
            file.write(text)
    path = part_path(directory, args.kind) if directory else args.output
    if directory:
        write_part(directory, args.kind, text)
    out.result({"file": path, "configuration": text}, text.rstrip("\n"))
    if not path:
        out.say(f"nothing was written; to keep it: drawwell init {args.kind} -o drawwell.toml")
    elif not directory:
        out.say(f"wrote {path}; start with it: drawwell -c {path} run")
    else:
        out.say(f"wrote {path}")
        return _start(args.kind, out)
    return 0


def configuration(kind: str, config: "Config") -> str:
    """Return the text for a kind of machine, without what is configured."""
    from drawwell.host.kernel import kernel_facts

    text = "" if config.written_sources else _HWRNG if kind == "hwrng" else _source()
    kernel = kernel_facts()
    if kernel.may_feed and not kernel.container and not config.kernel.feed:
        text += _KERNEL
    if kind == "broker" and not config.tls.listen:
        text += _TLS.format(name=socket.getfqdn())
    return text


def _source() -> str:
    """Return the table of the device here, or of a OneRNG to come."""
    from drawwell.config.devices import DEVICES
    from drawwell.drivers.discovery import ONERNG, discover, lasting_path
    from drawwell.host.kernel import hardware_generator

    device = next((each for each in discover() if each.path or DEVICES[each.kind].command), None)
    if device and device.kind != ONERNG:
        section = DEVICES[device.kind].section(lasting_path(device.path))
        return _DEVICE.format(kind=device.kind, section=section)
    return _ONERNG if device or not hardware_generator() else _HWRNG


def _start(kind: str, out: Output) -> int:
    """Restart the units and wait until they serve."""
    from drawwell.cli.set_up import enable_and_restart, has_unit, restart_if_running
    from drawwell.errors import SourceUnavailable

    if not has_unit(BROKER_UNIT):
        out.say("start it: drawwell run")
        return 0
    enable_and_restart(BROKER_UNIT)
    restart_if_running("drawwell-kernel.service")
    if why := _not_ready(out):
        raise SourceUnavailable(
            f"written and started, but nothing serves yet: {why}", hint="Ask 'drawwell doctor' for the cause."
        )
    following = (
        "invite a machine: drawwell consumer invite NAME" if kind == "broker" else "drawwell draw 32 --hex"
    )
    out.say(f"it serves; next: {following}")
    return 0


def _not_ready(out: Output) -> str:
    """Wait for the broker; return why it serves nothing, "" when it does."""
    from drawwell.cli.client import ask
    from drawwell.config.load import load
    from drawwell.errors import DrawwellError

    deadline = time.monotonic() + READY_S
    why = "no broker answers"
    while time.monotonic() < deadline:
        try:
            report = ask(load().control.path, "status", {})
        except DrawwellError as error:
            why = str(error)
        else:
            if report["ready"]:
                return ""
            why = str(report["not_ready_because"])
        out.progress(f"waiting: {why} …")
        time.sleep(_LOOK_EVERY_S)
    return why

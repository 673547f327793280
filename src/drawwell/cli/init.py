"""``drawwell init``: write a first configuration for this machine."""

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
# the {kind} that is plugged in; replace min_entropy after you assess your device
{section}
"""
_HWRNG: Final = """\
# the kernel's hardware generator; its output is conditioned, so each byte counts as one bit
[[source]]
name = "hwrng"
driver = "chardev"
path = "/dev/hwrng"
min_entropy = 1.0
"""
_KERNEL: Final = """
# feed the random number generator of this machine's kernel
[kernel]
feed = true
"""
_TLS: Final = """
# the address for other machines; 'drawwell consumer invite NAME' invites one
[tls]
listen = "*:55000"
# invitations contain the first name
names = ["{name}"]
"""


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "init", parents=[common], help="write a first configuration and start drawwell", allow_abbrev=False,
        description="Write a first configuration. As root, this command writes it to conf.d and starts the units. As "
        "another user, it prints the configuration or writes it to the file given with --output.",
        epilog="Exit codes: 0 written; 69 written, but the broker is not ready; 78 conflict with the configuration.",
    )  # fmt: skip
    parser.add_argument(
        "kind", choices=("host", "broker", "hwrng"), metavar="KIND",
        help="host: serve this machine; broker: also serve other machines; hwrng: serve this machine from /dev/hwrng",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="FILE", help="write only to this new file")
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
        out.say(f"no file was written; to write one, run 'drawwell init {args.kind} -o drawwell.toml'")
    elif not directory:
        out.say(f"wrote {path}; to start drawwell, run 'drawwell -c {path} run'")
    else:
        out.say(f"wrote {path}")
        return _start(args.kind, out)
    return 0


def configuration(kind: str, config: "Config") -> str:
    """Return the settings to add for a kind of machine."""
    from drawwell.host.kernel import kernel_facts

    text = "" if config.written_sources else _HWRNG if kind == "hwrng" else _source()
    kernel = kernel_facts()
    if kernel.may_feed and not kernel.container and not config.kernel.feed:
        text += _KERNEL
    if kind == "broker" and not config.tls.listen:
        text += _TLS.format(name=socket.getfqdn())
    return text


def _source() -> str:
    """Return the [[source]] for the connected device, or for a OneRNG."""
    from drawwell.config.devices import DEVICES
    from drawwell.drivers.discovery import ONERNG, discover, lasting_path
    from drawwell.host.kernel import hardware_generator

    device = next((each for each in discover() if each.path or DEVICES[each.kind].command), None)
    if device and device.kind != ONERNG:
        section = DEVICES[device.kind].section(lasting_path(device.path))
        return _DEVICE.format(kind=device.kind, section=section)
    return _ONERNG if device or not hardware_generator() else _HWRNG


def _start(kind: str, out: Output) -> int:
    """Restart the units and wait until the broker is ready."""
    from drawwell.cli.set_up import enable_and_restart, has_unit, restart_if_running
    from drawwell.errors import SourceUnavailable

    if not has_unit(BROKER_UNIT):
        out.say("to start drawwell, run 'drawwell run'")
        return 0
    enable_and_restart(BROKER_UNIT)
    restart_if_running("drawwell-kernel.service")
    if why := _not_ready(out):
        raise SourceUnavailable(
            f"the broker was started but is not ready: {why}", hint="Run 'drawwell doctor'."
        )
    following = "drawwell consumer invite NAME" if kind == "broker" else "drawwell draw 32 --hex"
    out.say(f"the broker is ready; next, run '{following}'")
    return 0


def _not_ready(out: Output) -> str:
    """Wait for the broker; return why it is not ready, or ""."""
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

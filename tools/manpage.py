"""Write the generated manual pages from the command line and the settings.

drawwell.7 and drawwell.8 are written by hand. With --check the command writes nothing, and
exits with 1 if a page is out of date.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from command_tree import Argument, CommandNode, command_tree

from drawwell.cli.examples import EXAMPLES
from drawwell.cli.parser import build_parser
from drawwell.config.devices import DEVICES
from drawwell.config.fields import Setting, settings
from drawwell.config.model import TABLES
from drawwell.observe.link_series import EVERY_SERIES

MAN: Final = Path(__file__).resolve().parent.parent / "docs" / "man"
EXIT_CODES: Final = (
    ("0", "Success."),
    ("1", "A check or test failed."),
    ("64", "The command line or a draw request is invalid."),
    ("69", "No source is healthy, a device is missing, or no broker is reachable."),
    ("70", "A self-test failed."),
    ("74", "A file, the state on disk or the kernel could not be read or written."),
    ("75", "The reservoir is too low or the quota is used up. The error shows when to retry."),
    ("76", "The peer violated the protocol."),
    ("77", "Permission is denied, or the peer has the wrong identity."),
    ("78", "The configuration has faults. The error lists all of them."),
)
"""As in errors.py, which follows sysexits(3)."""


def pages() -> dict[str, str]:
    """Return every generated page by its file name."""
    return {
        "drawwell.1": _commands(command_tree(build_parser())),
        "drawwell.toml.5": _configuration(),
        "drawwell-metrics.7": _metrics(),
    }


def text(plain: str) -> str:
    """Escape text so that roff prints it literally."""
    escaped = plain.replace("\\", "\\e").replace("-", "\\-")
    escaped = escaped.replace("…", "...")
    escaped = "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in escaped)
    return f"\\&{escaped}" if escaped[:1] in {".", "'"} else escaped


def _bold(plain: str) -> str:
    return f"\\fB{text(plain)}\\fR"


def _italic(plain: str) -> str:
    return f"\\fI{text(plain)}\\fR"


def _page(title: str, section: int, name: str, body: Iterator[str]) -> str:
    head = [
        '.\\" Made by tools/manpage.py. Do not edit.',
        f'.TH "{title}" "{section}" "" "drawwell" "drawwell manual"',
        ".SH NAME",
        name,
    ]
    return "\n".join([*head, *body]) + "\n"


# ---- drawwell(1)


def _commands(tree: CommandNode) -> str:
    return _page(
        "DRAWWELL",
        1,
        f"drawwell \\- {text(tree.description[:1].lower() + tree.description[1:].rstrip('.'))}",
        _command_body(tree),
    )


def _command_body(tree: CommandNode) -> Iterator[str]:
    yield from (
        ".SH SYNOPSIS",
        f"{_bold('drawwell')} {_italic('COMMAND')} [{_italic('VERB')}] [{_italic('OPTION')} ...]",
    )
    yield from (".SH DESCRIPTION", text(tree.description))
    yield from (
        ".PP",
        text(
            "Without a command, drawwell shows the status of the running broker. Results go to standard output, "
            "messages to standard error. With --json, results and errors are JSON documents."
        ),
    )
    common = _common_options(tree)
    yield ".SH OPTIONS"
    for option in tree.options:  # includes the options of all verbs
        yield from _argument(option)
    yield ".SH COMMANDS"
    for command in tree.walk():
        if command.path:
            yield from _command(command, common)
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_CODES:
        yield from (".TP", _bold(code), text(meaning))
    yield text("drawwell check has the exit codes of rngtest(1).")
    yield from (".SH ENVIRONMENT", ".TP", _bold("DRAWWELL_CONFIG"), "The configuration file to read.")
    yield from (".TP", _bold("DRAWWELL_LOOP"), "With asyncio, the broker and the link do not use uvloop.")
    yield from (".TP", _bold("NO_COLOR"), "If set, output has no colour.")
    yield from (
        ".SH FILES",
        ".TP",
        _italic("/etc/drawwell/drawwell.toml"),
        "The configuration.",
    )
    yield from (
        ".TP",
        _italic("/etc/drawwell/conf.d/*.toml"),
        "More configuration, in order of the file names.",
    )
    yield from (
        ".SH SEE ALSO",
        _see("drawwell.toml(5)", "drawwell(7)", "drawwell(8)", "rngtest(1)", "random(4)"),
    )


def _common_options(tree: CommandNode) -> tuple[Argument, ...]:
    """Return the options that most commands share, to explain them only once."""
    verbs = [command for command in tree.walk() if command.path and not command.children]
    candidates = dict.fromkeys(option for verb in verbs for option in verb.options)
    return tuple(
        each
        for each in candidates
        if "--help" not in each.flags and sum(each in verb.options for verb in verbs) * 2 > len(verbs)
    )


def _command(command: CommandNode, common: tuple[Argument, ...]) -> Iterator[str]:
    if command.children:
        yield from (f".SS {_bold(' '.join(command.path))}", text(_sentence(command.help)))
        return
    usage = [_bold(" ".join(command.path)), *(_usage(each) for each in command.positionals)]
    yield from (f".SS {' '.join(usage)}", text(_sentence(command.description or command.help)))
    for argument in command.arguments:
        if argument not in common and "--help" not in argument.flags:
            yield from _argument(argument)
    if command.epilog:
        yield from (".PP", text(command.epilog))
    for line, what in EXAMPLES.get(" ".join(command.path), ()):
        yield from (".PP", _bold(line), ".br", text(_sentence(what)))


def _usage(argument: Argument) -> str:
    word = _italic(argument.value) + (" ..." if argument.many else "")
    return f"[{word}]" if argument.optional else word


def _argument(argument: Argument) -> Iterator[str]:
    flags = ", ".join(_bold(flag) for flag in argument.flags)
    value = _italic(argument.value) if argument.value else ""
    yield from (".TP", f"{flags} {value}".strip(), text(_sentence(argument.help)))


def _sentence(help_text: str) -> str:
    help_text = help_text[:1].upper() + help_text[1:]
    return help_text if help_text.endswith((".", "!")) else f"{help_text}."


# ---- drawwell.toml(5)


def _configuration() -> str:
    name = f"drawwell.toml \\- {text('settings of drawwell')}"
    return _page("DRAWWELL.TOML", 5, name, _configuration_body())


def _configuration_body() -> Iterator[str]:
    yield from (
        ".SH DESCRIPTION",
        text("No setting is required. Without a file, drawwell uses the first OneRNG that it finds."),
        ".PP",
        text(
            "The configuration is TOML. drawwell reads /etc/drawwell/drawwell.toml and then "
            "/etc/drawwell/conf.d/*.toml in order of the file names. A later value wins, and lists of "
            "tables ([[source]]) accumulate. Option -c or DRAWWELL_CONFIG selects a single file instead. "
            "To reload the configuration, send SIGHUP."
        ),
        ".PP",
        text(
            "Examples of sizes are 64, 4KiB and 1.5MB, of durations 90s, 15min and 1 day, of rates 4KiB/s and "
            "10MiB/day. 'drawwell config check' lists all faults, 'drawwell config show --origin' shows all values "
            "with their origins, and 'drawwell config sample' prints a sample file. "
            "The file contains no secrets. Other users must not have write permission."
        ),
    )
    for table in TABLES:
        yield from (f".SH {text(table.header)}", text(table.about))
        for each in settings(table.section):
            yield from _setting(each)
    yield from _devices()
    yield from (".SH SEE ALSO", _see("drawwell(1)", "drawwell(7)", "drawwell(8)"))


def _devices() -> Iterator[str]:
    yield ".SH NOISE DEVICES"
    yield text(
        "These devices are known. Each entry shows the data that drawwell reads, the claim to configure, the "
        "basis of the support, and a [[source]] table. 'drawwell doctor' prints this table for a "
        "device that is plugged in. For other devices, use driver chardev."
    )
    for device in DEVICES.values():
        numbers = f"USB {', '.join(device.usb)}" if device.usb else ""
        behind = f"/dev/hwrng if rng_current starts with {device.hwrng}" if device.hwrng else ""
        where = "; or ".join(filter(None, [numbers, behind])) or "not a separate USB device"
        package = f" Package: {device.package}." if device.package else ""
        yield from (".TP", _bold(device.name), text(f"{where}. Data: {device.made_of}.{package}"), ".br")
        yield from (
            text(f"Claim: {device.min_entropy:g} bits per byte ({device.claim}). Basis: {device.seen}."),
            ".br",
        )
        node = f"/dev/{device.node}{'' if device.node == 'hwrng' else '0'}"
        yield text(device.section(node)).replace("\n", "\n.br\n")


def _setting(each: Setting) -> Iterator[str]:
    yield from (".TP", _bold(each.key), text(each.what), ".br", text(each.why), ".br")
    yield text(f"Default: {each.default_is}. Range: {each.range}.")
    yield from (".br", text(f"Example: {each.key} = {each.example}"))


def _see(*pages: str) -> str:
    return ", ".join(f"{_bold(name)}({rest}" for name, _, rest in (page.partition("(") for page in pages))


# ---- drawwell-metrics(7)


def _metrics() -> str:
    return _page("DRAWWELL-METRICS", 7, "drawwell\\-metrics \\- metrics for Prometheus", _metrics_body())


def _metrics_body() -> Iterator[str]:
    yield from (
        ".SH DESCRIPTION",
        text(
            "A broker answers GET /metrics in the text formats of OpenMetrics 1.0 and Prometheus. Metrics at [health] "
            "listen do not contain consumers' names. Metrics with names are available to the owner at [http] listen, "
            "and over TLS to the consumers in [health] observers. If more than a hundred consumers are active, series "
            "for single consumers are omitted. Names of counters end in _total, and counters restart at zero with the "
            "broker. On a machine without a broker, 'drawwell link run' answers at [health] listen with the build, "
            "ready, not_ready, uptime and link_ series."
        ),
        ".SH SERIES",
    )
    for each in EVERY_SERIES:
        labels = f" {{{', '.join(each.labels)}}}" if each.labels else ""
        yield from (".TP", _bold(each.full_name) + text(labels), text(f"{each.what} ({each.kind})"))
    yield from (".SH FILES", ".TP", _italic("/usr/share/doc/drawwell/prometheus/rules.yml"))
    yield text("Alerts. Each alert has a hint with the command to run.")
    yield from (".TP", _italic("/usr/share/doc/drawwell/grafana/drawwell.json"))
    yield text("A dashboard with all series. A script generated it, and it has never been opened in Grafana.")
    yield from (".SH SEE ALSO", _see("drawwell(1)", "drawwell.toml(5)"))


def main() -> int:
    """Write or compare the pages."""
    MAN.mkdir(parents=True, exist_ok=True)
    stale = [
        name
        for name, page in pages().items()
        if not (MAN / name).is_file() or (MAN / name).read_text() != page
    ]
    if "--check" in sys.argv[1:]:
        print("\n".join(f"stale: docs/man/{name}" for name in stale) or "the manual is up to date")
        return 1 if stale else 0
    for name in stale:
        (MAN / name).write_text(pages()[name])
        print(f"wrote docs/man/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

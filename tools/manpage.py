"""Write the generated manual pages: docs/man/drawwell.1 from the command line, drawwell.toml.5 from the settings.

drawwell.7 and drawwell.8 are written by hand. With --check nothing is written, and the exit code is 1 if a page is
out of date.
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
from drawwell.observe.series import SERIES

MAN: Final = Path(__file__).resolve().parent.parent / "docs" / "man"
EXIT_CODES: Final = (
    ("0", "It worked."),
    ("1", "A verdict is negative, for instance a block that failed a test."),
    ("64", "The command line, or a draw, asks for what makes no sense."),
    ("69", "No healthy source, no such device, or no broker to be reached."),
    ("70", "A self-test failed."),
    ("74", "A file, the state on disk or the kernel could not be read or written."),
    ("75", "Starved, or over the quota: the error says when to come back."),
    ("76", "The other side broke the protocol."),
    ("77", "A right is missing, or the other side is not who it must be."),
    ("78", "The configuration has faults; all of them are listed."),
)
"""As in errors.py, which follows sysexits(3)."""


def pages() -> dict[str, str]:
    """Return every generated page by its file name."""
    return {
        "drawwell.1": _commands(command_tree(build_parser())),
        "drawwell.toml.5": _configuration(),
        "drawwell-metrics.7": _metrics(),
    }


def text(words: str) -> str:
    """Words as roff prints them: nothing in them is a request or an escape."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-")
    escaped = escaped.replace("…", "...")
    escaped = "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in escaped)
    return f"\\&{escaped}" if escaped[:1] in {".", "'"} else escaped


def _bold(words: str) -> str:
    return f"\\fB{text(words)}\\fR"


def _italic(words: str) -> str:
    return f"\\fI{text(words)}\\fR"


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
            "Without a command it shows the status of the running broker. Results go to standard output, words to "
            "standard error. With --json the result is one JSON document, and an error is one on standard error."
        ),
    )
    common = _common_options(tree)
    yield ".SH OPTIONS"
    for option in tree.options:  # those of all verbs are among them
        yield from _argument(option)
    yield ".SH COMMANDS"
    for command in tree.walk():
        if command.path:
            yield from _command(command, common)
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_CODES:
        yield from (".TP", _bold(code), text(meaning))
    yield text("drawwell check exits as rngtest(1) does.")
    yield from (".SH ENVIRONMENT", ".TP", _bold("DRAWWELL_CONFIG"), "The configuration file to read.")
    yield from (".TP", _bold("DRAWWELL_LOOP"), "asyncio keeps the broker and the link from using uvloop.")
    yield from (".TP", _bold("NO_COLOR"), "Set to anything: no colour on a terminal.")
    yield from (
        ".SH FILES",
        ".TP",
        _italic("/etc/drawwell/drawwell.toml"),
        "The configuration, where there is one.",
    )
    yield from (".TP", _italic("/etc/drawwell/conf.d/*.toml"), "Read after it, in the order of their names.")
    yield from (
        ".SH SEE ALSO",
        _see("drawwell.toml(5)", "drawwell(7)", "drawwell(8)", "rngtest(1)", "random(4)"),
    )


def _common_options(tree: CommandNode) -> tuple[Argument, ...]:
    """The options that most verbs share; explained once."""
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


def _sentence(words: str) -> str:
    words = words[:1].upper() + words[1:]
    return words if words.endswith((".", "!")) else f"{words}."


# ---- drawwell.toml(5)


def _configuration() -> str:
    name = f"drawwell.toml \\- {text('what an operator can set')}"
    return _page("DRAWWELL.TOML", 5, name, _configuration_body())


def _configuration_body() -> Iterator[str]:
    yield from (
        ".SH DESCRIPTION",
        text("Nothing needs to be set: without any file the first OneRNG found serves this machine."),
        ".PP",
        text(
            "The configuration is TOML, read from /etc/drawwell/drawwell.toml and then from "
            "/etc/drawwell/conf.d/*.toml in the order of their names: a later value wins, and lists of "
            "tables ([[source]]) add up. The option -c and DRAWWELL_CONFIG name one file that is read "
            "instead of all these. SIGHUP makes a running drawwell "
            "read it again."
        ),
        ".PP",
        text(
            "Sizes are written as 64, 4KiB or 1.5MB, durations as 90s, 15min or 1 day, rates as 4KiB/s or 10MiB/day. "
            "'drawwell config check' reports every fault at once, 'drawwell config show --origin' shows every value "
            "and where it comes from, 'drawwell config sample' prints all of this page as a file to start from. "
            "No secret stands in the file, and nobody else may be able to write to it."
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
        "Devices that are known, what is read from each, what is claimed for it where nothing is configured, and how "
        "far that was tried. A node not listed here is read by driver chardev. 'drawwell doctor' writes the table "
        "below of a device that is plugged in."
    )
    for device in DEVICES.values():
        numbers = f"USB {', '.join(device.usb)}" if device.usb else ""
        behind = f"/dev/hwrng while rng_current begins with {device.hwrng}" if device.hwrng else ""
        where = "; or ".join(filter(None, [numbers, behind])) or "no device of its own on USB"
        package = f" Its program is in {device.package}." if device.package else ""
        yield from (".TP", _bold(device.name), text(f"{where}. Read are {device.made_of}.{package}"), ".br")
        yield from (
            text(f"Claim: {device.min_entropy:g} bits a byte ({device.claim}). Tried: {device.seen}."),
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
    return _page(
        "DRAWWELL-METRICS", 7, "drawwell\\-metrics \\- the series that Prometheus reads", _metrics_body()
    )


def _metrics_body() -> Iterator[str]:
    yield from (
        ".SH DESCRIPTION",
        text(
            "A broker answers GET /metrics in the text formats of OpenMetrics 1.0 and Prometheus: without names "
            "of consumers at [health] listen; with them to its owner at [http] listen, and over TLS to the "
            "consumers in [health] observers. Series of single consumers are left out if more than a hundred are "
            "active. A counter ends in _total, and starts again at zero with the broker."
        ),
        ".SH SERIES",
    )
    for each in SERIES:
        labels = f" {{{', '.join(each.labels)}}}" if each.labels else ""
        yield from (".TP", _bold(each.full_name) + text(labels), text(f"{each.what} ({each.kind})"))
    yield from (".SH FILES", ".TP", _italic("/usr/share/doc/drawwell/prometheus/rules.yml"))
    yield text("Alerts. Each has a hint with the command to type.")
    yield from (".TP", _italic("/usr/share/doc/drawwell/grafana/drawwell.json"))
    yield text("A dashboard with all series. It was made by a script and never opened in Grafana.")
    yield from (".SH SEE ALSO", _see("drawwell(1)", "drawwell.toml(5)"))


def main() -> int:
    """Write the pages, or compare them."""
    MAN.mkdir(parents=True, exist_ok=True)
    stale = [
        name
        for name, page in pages().items()
        if not (MAN / name).is_file() or (MAN / name).read_text() != page
    ]
    if "--check" in sys.argv[1:]:
        print("\n".join(f"stale: docs/man/{name}" for name in stale) or "the manual is fresh")
        return 1 if stale else 0
    for name in stale:
        (MAN / name).write_text(pages()[name])
        print(f"wrote docs/man/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

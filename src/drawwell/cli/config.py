"""``drawwell config``: show, check and explain the configuration."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output
from drawwell.units import format_duration, format_size

if TYPE_CHECKING:
    from drawwell.config.model import Config


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser("config", help="show, check or explain the configuration", allow_abbrev=False)
    verbs = parser.add_subparsers(metavar="VERB", dest="verb", required=True)

    show = verbs.add_parser(
        "show",
        parents=[common],
        help="print all current settings as a valid configuration file",
        allow_abbrev=False,
    )
    show.add_argument("--origin", action="store_true", help="also show the file and line of each value")
    show.set_defaults(run=_show)

    check = verbs.add_parser(
        "check", parents=[common], help="list all faults, or what would run", allow_abbrev=False
    )
    check.add_argument("file", nargs="?", metavar="FILE", help="check this file instead of the default files")
    check.set_defaults(run=_check)

    sample = verbs.add_parser(
        "sample",
        parents=[common],
        help="print a sample file that explains all settings",
        allow_abbrev=False,
    )
    sample.set_defaults(run=_sample)


def _show(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load
    from drawwell.config.render import as_document, shown

    config = load(args.config)
    out.say(
        f"read {', '.join(config.files)}"
        if config.files
        else "no configuration file: all settings have their defaults"
    )
    out.result(as_document(config, origin=args.origin), shown(config, origin=args.origin))
    return 0


def _check(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load
    from drawwell.roles.runnable import require_runnable

    config = load(args.file or args.config)
    require_runnable(config)
    runs = list(_would_run(config))
    files = ", ".join(config.files) or "no file, all defaults"
    text = "\n".join(
        [f"the configuration is valid ({files})", *(out.style.wrap(f"  {line}", "    ") for line in runs)]
    )
    out.result({"good": True, "files": list(config.files), "would_run": runs}, text)
    return 0


def _sample(_args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.render import sample

    text = sample()
    out.result({"sample": text}, text.rstrip("\n"))
    return 0


def _would_run(config: "Config") -> Iterator[str]:
    """Yield a line for each part that ``drawwell run`` would start."""
    if config.serves:
        yield from _serving(config)
    for upstream in config.upstreams:
        yield f"draw from {upstream.url}"
    kernel = config.kernel
    if kernel.feed:
        interval = format_duration(kernel.interval)
        amount, credit = format_size(kernel.amount), _credit(config)
        yield f"feed the kernel {amount} every {interval}, credit {credit}"
    for sink in config.sinks:
        yield f"pour class {sink.draw_class} into {sink.kind} {sink.path}".rstrip()  # wording: pour into
    if not (config.serves or config.has_sinks):
        yield "nothing to run: this machine draws only on request"


def _credit(config: "Config") -> str:
    if config.kernel.credit is not None:
        return f"at most {config.kernel.credit:g} bits per byte"
    return "0, because the bytes come over a link" if config.draws_elsewhere else "as the sources earn it"


def _serving(config: "Config") -> Iterator[str]:
    for source in config.sources:
        what = " ".join(source.command) or source.path
        yield f"source {source.name}: {source.driver} {what}, {source.min_entropy:g} bits of min-entropy per byte"
    broker = config.broker
    yield (
        f"broker {broker.name}: reservoir of {format_size(broker.reservoir)}, "
        f"serves while {broker.min_sources} of {len(config.sources)} sources are healthy"
        f"{', including sources that deposit' if broker.deposits else ''}"
    )
    if broker.deposits:
        yield f"source deposits at {broker.source_socket}"
    yield f"unix door at {config.unix.path}"
    if config.tls.listen:
        ca = config.pki.ca or "the built-in CA"
        enrolment = f", enrolment at {config.enrol.listen}" if config.enrol.listen else ""
        yield f"tls door at {config.tls.listen} for certificates from {ca}{enrolment}"
    if config.http.listen:
        yield f"http at {config.http.listen}"
    if config.health.listen:
        yield f"health at {config.health.listen}"
    for consumer in config.consumers:
        bounds = [f"rate {consumer.rate}"] if consumer.rate else []
        bounds += [f"quota {consumer.quota}"] if consumer.quota else []
        who = f"consumer {consumer.name}" if consumer.name else f"each identity that matches {consumer.match}"
        yield f"{who}: class {consumer.draw_class}, {', '.join(bounds) or 'no limits'}"

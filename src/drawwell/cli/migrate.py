"""``drawwell migrate``: convert the settings of other programs."""

import argparse
import os
from collections.abc import Collection, Sequence
from glob import glob
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output
from drawwell.cli.style import Style
from drawwell.errors import ConfigError, SourceUnavailable, UsageError

if TYPE_CHECKING:
    from drawwell.cli.doctor.other_programs import Rival
    from drawwell.config.migrate.settings import Migration
    from drawwell.config.model import Config

ONERNG_CONF = "/etc/onerng.conf"
_UNITS = "/etc/systemd/system"
PLACES = (
    ONERNG_CONF,
    "/etc/default/rng-tools*",  # Debian
    "/etc/sysconfig/rngd",  # Fedora
    "/etc/conf.d/rngd",  # Arch, Gentoo
    *(f"{_UNITS}/{unit}.service{part}" for unit in ("rng*", "onerng*") for part in ("", ".d/*.conf")),
)
MOST_BYTES = 1 << 16


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "migrate", parents=[common], allow_abbrev=False,
        help="convert settings of the vendor's package or of rng-tools",
        description="Read /etc/onerng.conf and the settings and units of rng-tools, report whether each option is "
        "kept or obsolete, and print an equivalent configuration. The other programs are not changed or stopped. Plug "
        "in the devices first, because devices that are not connected are skipped.",
    )  # fmt: skip
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="read these files instead; onerng.conf is recognized by its name",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE",
        help="write the configuration to this new file, such as /etc/drawwell/conf.d/migrated.toml",
    )  # fmt: skip
    parser.add_argument(
        "--who",
        action="store_true",
        help="only list other programs that are installed, use a device or feed the kernel",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.doctor.other_programs import in_the_way, readers, rivals
    from drawwell.reports import as_json

    needed = readers(_config(args.config))
    others = in_the_way(rivals(), needed)
    documents = [as_json(each) for each in others]
    if args.who:
        shown = "\n".join(_sentences(others, needed))
        out.result(
            {"others": documents}, shown or "no other program that feeds the kernel is installed or running"
        )
        return 0
    files = args.files or [file for place in PLACES for file in sorted(glob(place))]
    migration = _read(files)
    text = migration.toml() if migration.settings else ""
    if args.output and text:
        fd = os.open(args.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
    answers = [as_json(answer) for answer in migration.answers]
    document = {"files": files, "answers": answers, "configuration": text, "others": documents}
    out.result(document, _text(files, migration, "" if args.output else text, out.style))
    if not out.as_json:
        _advise(out, files, _sentences(others, needed))
        if args.output and text:
            out.say(f"wrote {args.output}; check it with 'drawwell config check'")
    if migration.unseen:
        raise SourceUnavailable(
            f"no source was configured for {', '.join(migration.unseen)}: the device is not connected",
            hint="Plug the device in and run this command again, or add a [[source]] yourself.",
        )
    return 0


def _read(files: Sequence[str]) -> "Migration":
    from drawwell.config.migrate.rngd import from_rng_tools
    from drawwell.config.migrate.settings import Migration, assignments, from_onerng
    from drawwell.config.migrate.units import from_unit, is_unit

    migration = Migration()
    for file in sorted(files, key=lambda each: os.path.basename(each) != os.path.basename(ONERNG_CONF)):
        with open(file, encoding="utf-8", errors="replace") as opened:
            text = opened.read(MOST_BYTES)
        if not any(assignments(text)) and any(
            line.strip()[:1] not in {"", "#"} for line in text.splitlines()
        ):
            raise UsageError(
                f"{file} contains no settings", hint=f"Choose a file such as {' or '.join(PLACES[:2])}."
            )
        if is_unit(text):
            from_unit(file, text, migration, _kind_of)
        elif os.path.basename(file) == os.path.basename(ONERNG_CONF):
            from_onerng(file, text, migration)
        else:
            from_rng_tools(file, text, migration, _kind_of)
    return migration


def _kind_of(node: str) -> str | None:
    from drawwell.drivers.discovery import device_of

    if not os.path.exists(node):
        return None
    device = device_of(node)
    return device.kind if device else ""


def _text(files: Sequence[str], migration: "Migration", text: str, style: Style) -> str:
    if not files:
        return f"nothing to migrate: found none of {', '.join(PLACES)}"
    heading = ("OPTION", "VALUE", "RESULT", "REASON OR NEW SETTING")
    rows = [
        (each.option, each.value, str(each.verdict), each.words)  # wording: in JSON
        for each in migration.answers
    ]
    answers = style.table([heading, *rows]) if rows else f"{', '.join(files)}: no options are set"
    return f"{answers}\n\n{text}".rstrip()


def _advise(out: Output, files: Sequence[str], sentences: Sequence[str]) -> None:
    for file in files:
        if os.path.basename(file) == os.path.basename(ONERNG_CONF) and not os.access(file, os.X_OK):
            out.say(f"{file} is not executable, so the vendor's script ignored it and used defaults")
    for sentence in sentences:
        out.say(sentence)


def _sentences(others: "Sequence[Rival]", needed: Collection[str]) -> list[str]:
    from drawwell.cli.doctor.other_programs import KEEP

    remove = "; when drawwell is set up, run 'apt remove {}'"
    return [
        each.text + (f"; {KEEP}" if each.program in needed else each.package and remove.format(each.package))
        for each in others
    ]


def _config(file: str | None) -> "Config | None":
    from drawwell.config.load import load

    try:
        return load(file)
    except ConfigError:
        return None

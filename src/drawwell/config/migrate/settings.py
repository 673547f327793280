"""Migrates settings of the vendor's package; also has the common parts.

This module is pure: its input is text. The files of the vendor's package (onerng.conf) and of
rng-tools are shell files that contain only assignments. units.py handles systemd units.
"""

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from drawwell.config.values import write_text
from drawwell.reports import Report


class OptionFate(StrEnum):
    """How an option was migrated."""

    KEPT = "kept"
    OBSOLETE = "obsolete"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class MigratedOption(Report):
    """The result for the option on `line` (from 1): a reason or new settings."""

    file: str
    line: int
    option: str
    value: str
    verdict: OptionFate
    words: str  # wording: a JSON key


class Assignment(NamedTuple):
    """A shell assignment: line number, name and unquoted value."""

    line: int
    name: str
    value: str


class NewSetting(NamedTuple):
    """A new setting: table, key and TOML value.

    The table is ``kernel``, or ``source`` followed by the source's name.
    """

    table: str
    key: str
    value: str

    def __str__(self) -> str:
        """Format the setting for display: ``[kernel] feed = true``."""
        return f"{_header(self.table)} {self.key} = {self.value}"


def _header(table: str) -> str:
    return "[[source]]" if table.startswith("source ") else f"[{table}]"


@dataclass(slots=True)
class Migration:
    """The result for one or more files: migrated options and new settings."""

    answers: list[MigratedOption] = field(default_factory=list)
    settings: dict[tuple[str, str], str] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)
    """Device nodes that do not currently exist."""

    def keep(self, file: str, at: Assignment, *settings: NewSetting, note: str = "") -> None:
        """Record new settings for an option; later settings win."""
        for each in settings:
            self.settings[each.table, each.key] = each.value
        said = ", ".join(map(str, settings))
        self._answer(file, at, OptionFate.KEPT, f"{said}; {note}" if note else said)

    def drop(self, file: str, at: Assignment, why: str) -> None:
        """Record that an option is obsolete."""
        self._answer(file, at, OptionFate.OBSOLETE, why)

    def wonder(self, file: str, at: Assignment, why: str) -> None:
        """Record that an option or its value is unknown."""
        self._answer(file, at, OptionFate.UNKNOWN, why)

    def _answer(self, file: str, at: Assignment, verdict: OptionFate, answer: str) -> None:
        self.answers.append(MigratedOption(file, at.line, at.name, at.value, verdict, answer))

    def toml(self) -> str:
        """Return the new configuration as TOML, sources first."""
        tables: dict[str, list[str]] = {}
        for (table, key), value in self.settings.items():
            tables.setdefault(table, []).append(f"{key} = {value}")
        blocks = [
            "\n".join([_header(table), *lines])
            for table, lines in sorted(tables.items(), key=lambda item: not item[0].startswith("source "))
        ]
        return "# Made by 'drawwell migrate'.\n" + "".join(f"\n{block}\n" for block in blocks)


def assignments(text: str) -> Iterator[Assignment]:
    """Yield the assignments of a shell file in order; skip other lines."""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            tokens = shlex.split(line, comments=True)
        except ValueError:  # an open quote that continues on the next line
            continue
        for word in tokens:
            name, equals, value = word.partition("=")
            if equals and name.isidentifier():
                yield Assignment(number, name, value)


def other_lines(text: str) -> Iterator[Assignment]:
    """Yield each other line as a name, but no blank lines and no comments."""
    assigned = {at.line for at in assignments(text)}
    for number, line in enumerate(text.splitlines(), 1):
        text_line = line.strip()
        if text_line[:1] not in {"", "#"} and number not in assigned:
            yield Assignment(number, text_line if len(text_line) <= 40 else f"{text_line[:37]}...", "")


# ---- the vendor's package

FEED: Final = NewSetting("kernel", "feed", "true")
NO_FEED: Final = NewSetting("kernel", "feed", "false")
STICK: Final = "source onerng"
ONERNG: Final = (NewSetting(STICK, "name", '"onerng"'), NewSetting(STICK, "driver", '"onerng"'))
_SILENT_MODES: Final = {"cmd4", "cmd5"}
_OBSOLETE: Final = {
    "ONERNG_AES_WHITEN": "drawwell conditions the noise with SHA-512, which needs no key from the device",
    "ONERNG_URANDOM_RESEED": "since Linux 5.18, the kernel ignores urandom_min_reseed_secs and reseeds itself",
}


def from_onerng(file: str, text: str, migration: Migration) -> None:
    """Migrate the vendor's onerng.conf (package onerng 3.0 to 3.7)."""
    migration.settings[FEED.table, FEED.key] = FEED.value  # the package feeds the kernel even without a file
    for each in ONERNG:
        migration.settings[each.table, each.key] = each.value
    for at in assignments(text):
        if at.name in _OBSOLETE:
            migration.drop(file, at, _OBSOLETE[at.name])
        elif at.name in _ONERNG:
            _ONERNG[at.name](file, at, migration)
        else:
            migration.wonder(file, at, "the vendor's script does not have this option")
    for at in other_lines(text):
        migration.wonder(file, at, "this line is not an assignment, and drawwell does not run it")


def _start(file: str, at: Assignment, migration: Migration) -> None:
    migration.keep(file, at, NO_FEED if at.value == "0" else FEED)


def _mode(file: str, at: Assignment, migration: Migration) -> None:
    if at.value == "cmd0":
        why = "this was the default and uses the device's whitener. drawwell reads raw noise (cmd1), "
        migration.drop(file, at, why + "because only raw noise can be tested, and conditions it itself")
    elif at.value in _SILENT_MODES:
        migration.drop(file, at, "the device does not send noise in this mode")
    elif at.value in {f"cmd{number}" for number in range(8)}:
        migration.keep(file, at, NewSetting(STICK, "mode", write_text(at.value)))
    else:
        migration.wonder(file, at, "the device has only the modes cmd0 to cmd7")


def _verify(file: str, at: Assignment, migration: Migration) -> None:
    what = "off" if at.value == "0" else "require"
    migration.keep(file, at, NewSetting(STICK, "verify_firmware", write_text(what)))


def _entropy(file: str, at: Assignment, migration: Migration) -> None:
    """Migrate a claim in bits per bit; keep it if it is below our default."""
    share = _number(at.value)
    if share is not None and 0 < share < 0.75:
        migration.keep(file, at, NewSetting(STICK, "min_entropy", f"{share * 8:g}"))
    else:
        why = "this was rngd's credit for the kernel. drawwell claims 6 bits per byte for the raw noise "
        migration.drop(file, at, why + "until you measure your own device with 'drawwell assess'")


def _feeder(file: str, at: Assignment, migration: Migration) -> None:
    migration.drop(file, at, "this chose between two feeders; drawwell has only one")


def _interval(file: str, at: Assignment, migration: Migration) -> None:
    seconds = _number(at.value)
    if seconds is None or not 0 <= seconds <= 86_400:
        migration.wonder(file, at, "this is not a time in seconds")
        return
    note = "the shortest interval is one second" if seconds < 1 else ""
    migration.keep(
        file, at, NewSetting("kernel", "interval", write_text(f"{max(1.0, seconds):g}s")), note=note
    )


_ONERNG: Final[Mapping[str, Callable[[str, Assignment, Migration], None]]] = {
    "ONERNG_START_RNGD": _start,
    "ONERNG_MODE_COMMAND": _mode,
    "ONERNG_VERIFY_FIRMWARE": _verify,
    "ONERNG_ENTROPY": _entropy,
    "ONERNG_FEED_KERNEL": _feeder,
    "ONERNG_FEED_RATE": _interval,
}


def _number(text: str) -> float | None:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        return None
    return value if abs(value) < 1e9 else None

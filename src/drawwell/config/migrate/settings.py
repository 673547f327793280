"""From the settings of the programs that fed kernels before to ours: every option answered, kept or obsolete and why.

Pure: text in, answers out. The files are those of the vendor's package (onerng.conf) and of rng-tools (units.py has
the units of systemd); both are read by a shell, and hold nothing but assignments.
"""

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from drawwell.config.values import write_text
from drawwell.reports import Report


class OptionFate(StrEnum):
    """What becomes of an option."""

    KEPT = "kept"
    OBSOLETE = "obsolete"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class MigratedOption(Report):
    """What becomes of one option; `words` say why, or what it is called now. `line` counts from 1."""

    file: str
    line: int
    option: str
    value: str
    verdict: OptionFate
    words: str


class Assignment(NamedTuple):
    """A shell assignment: the line that it stands in, its name and its value without quotes."""

    line: int
    name: str
    value: str


class NewSetting(NamedTuple):
    """One setting of ours: its table, its key and its value as TOML writes it.

    A table is ``kernel``, or ``source`` and a name: there may be several of those.
    """

    table: str
    key: str
    value: str

    def __str__(self) -> str:
        """As people write it: ``[kernel] feed = true``."""
        return f"{_header(self.table)} {self.key} = {self.value}"


def _header(table: str) -> str:
    return "[[source]]" if table.startswith("source ") else f"[{table}]"


@dataclass(slots=True)
class Migration:
    """What is made of one or more files: answers in their order, and our settings."""

    answers: list[MigratedOption] = field(default_factory=list)
    settings: dict[tuple[str, str], str] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)
    """Nodes of devices that are not there now."""

    def keep(self, file: str, at: Assignment, *settings: NewSetting, words: str = "") -> None:
        """Take settings over; a later one wins."""
        for each in settings:
            self.settings[each.table, each.key] = each.value
        said = ", ".join(map(str, settings))
        self._answer(file, at, OptionFate.KEPT, f"{said}; {words}" if words else said)

    def drop(self, file: str, at: Assignment, why: str) -> None:
        """Answer an option that means nothing any more."""
        self._answer(file, at, OptionFate.OBSOLETE, why)

    def wonder(self, file: str, at: Assignment, why: str) -> None:
        """Answer an option that nobody knows."""
        self._answer(file, at, OptionFate.UNKNOWN, why)

    def _answer(self, file: str, at: Assignment, verdict: OptionFate, words: str) -> None:
        self.answers.append(MigratedOption(file, at.line, at.name, at.value, verdict, words))

    def toml(self) -> str:
        """Our configuration: a [[source]] and the other tables, each setting once."""
        tables: dict[str, list[str]] = {}
        for (table, key), value in self.settings.items():
            tables.setdefault(table, []).append(f"{key} = {value}")
        blocks = [
            "\n".join([_header(table), *lines])
            for table, lines in sorted(tables.items(), key=lambda item: not item[0].startswith("source "))
        ]
        return "# Made by 'drawwell migrate'.\n" + "".join(f"\n{block}\n" for block in blocks)


def assignments(text: str) -> Iterator[Assignment]:
    """The assignments of a file that a shell reads, in their order; every other line is passed by."""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a quote that does not end on its line
            continue
        for word in words:
            name, equals, value = word.partition("=")
            if equals and name.isidentifier():
                yield Assignment(number, name, value)


def other_lines(text: str) -> Iterator[Assignment]:
    """The lines that are neither empty, nor a comment, nor an assignment, as names without a value."""
    assigned = {at.line for at in assignments(text)}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if words[:1] not in {"", "#"} and number not in assigned:
            yield Assignment(number, words if len(words) <= 40 else f"{words[:37]}...", "")


# ---- the vendor's package

FEED: Final = NewSetting("kernel", "feed", "true")
NO_FEED: Final = NewSetting("kernel", "feed", "false")
STICK: Final = "source onerng"
ONERNG: Final = (NewSetting(STICK, "name", '"onerng"'), NewSetting(STICK, "driver", '"onerng"'))
_SILENT_MODES: Final = {"cmd4", "cmd5"}
_OBSOLETE: Final = {
    "ONERNG_AES_WHITEN": "the noise is conditioned with SHA-512, which needs no key from the device",
    "ONERNG_URANDOM_RESEED": "since Linux 5.18 the kernel ignores urandom_min_reseed_secs, and reseeds by itself",
}


def from_onerng(file: str, text: str, migration: Migration) -> None:
    """Answer the vendor's onerng.conf (package onerng 3.0 to 3.7)."""
    migration.settings[FEED.table, FEED.key] = FEED.value  # what the package does without any file
    for each in ONERNG:
        migration.settings[each.table, each.key] = each.value
    for at in assignments(text):
        if at.name in _OBSOLETE:
            migration.drop(file, at, _OBSOLETE[at.name])
        elif at.name in _ONERNG:
            _ONERNG[at.name](file, at, migration)
        else:
            migration.wonder(file, at, "the vendor's script has no such option")
    for at in other_lines(text):
        migration.wonder(file, at, "this is no assignment, and nothing is run here")


def _start(file: str, at: Assignment, migration: Migration) -> None:
    migration.keep(file, at, NO_FEED if at.value == "0" else FEED)


def _mode(file: str, at: Assignment, migration: Migration) -> None:
    if at.value == "cmd0":
        why = "it was the default: noise through the device's whitener; drawwell takes the raw noise (cmd1), "
        migration.drop(file, at, why + "which alone can be tested, and conditions it itself")
    elif at.value in _SILENT_MODES:
        migration.drop(file, at, "in this mode the device sends no noise")
    elif at.value in {f"cmd{number}" for number in range(8)}:
        migration.keep(file, at, NewSetting(STICK, "mode", write_text(at.value)))
    else:
        migration.wonder(file, at, "the device has the modes cmd0 to cmd7")


def _verify(file: str, at: Assignment, migration: Migration) -> None:
    what = "off" if at.value == "0" else "require"
    migration.keep(file, at, NewSetting(STICK, "verify_firmware", write_text(what)))


def _entropy(file: str, at: Assignment, migration: Migration) -> None:
    """Bits per bit; a claim more careful than our default (6 of 8) is taken over."""
    share = _number(at.value)
    if share is not None and 0 < share < 0.75:
        migration.keep(file, at, NewSetting(STICK, "min_entropy", f"{share * 8:g}"))
    else:
        why = "it was what rngd told the kernel; here the raw noise is claimed to hold 6 bits per byte, "
        migration.drop(file, at, why + "until 'drawwell assess' says more of your own device")


def _feeder(file: str, at: Assignment, migration: Migration) -> None:
    migration.drop(file, at, "it chose between rngd and the script's own feeder; there is one way now")


def _interval(file: str, at: Assignment, migration: Migration) -> None:
    seconds = _number(at.value)
    if seconds is None or not 0 <= seconds <= 86_400:
        migration.wonder(file, at, "this is no time in seconds")
        return
    words = "a feed a second is the fastest there is" if seconds < 1 else ""
    migration.keep(
        file, at, NewSetting("kernel", "interval", write_text(f"{max(1.0, seconds):g}s")), words=words
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

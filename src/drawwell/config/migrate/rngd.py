"""Migrates settings of rng-tools (Debian, Fedora, Arch, Gentoo).

The options are those of rngd(8) in rng-tools 5 and 6.x and in rng-tools-debian 2.x.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from drawwell.config.migrate.settings import (
    FEED,
    ONERNG,
    Assignment,
    Migration,
    NewSetting,
    assignments,
    other_lines,
)
from drawwell.config.values import NAME, PATH, write_text

DEVICE_NAMES: Final = {"HRNGDEVICE", "RNGDEVICE", "HWRNG_DEVICE"}
OPTION_NAMES: Final = {"RNGDOPTIONS", "RNGD_OPTS", "RNGD_ARGS", "EXTRA_OPTIONS"}
SELECT_NAME: Final = "HRNGSELECT"

KindOf = Callable[[str], str | None]
"""Returns a known device's name, "" for another device, or None if the node is missing."""

_SERVICE: Final = "systemd or your init system does this for drawwell"
_OWN: Final = (
    "this configures a built-in source of rngd. drawwell has no such source; the kernel uses rngd's directly"
)
_TESTS: Final = "drawwell health-tests every source (SP 800-90B) and uses none that fails"
_POOL: Final = "a kernel with a 256-bit pool does not request input, so drawwell feeds it at an interval"
_OBSOLETE: Final[Mapping[str, str]] = {
    "background": _SERVICE, "foreground": _SERVICE, "pid-file": _SERVICE, "pidfile": _SERVICE, "quiet": _SERVICE,
    "drop-privileges": _SERVICE, "debug": _SERVICE, "verbose": _SERVICE, "stats-interval": _SERVICE,
    "force-reseed": "drawwell feeds the kernel at an interval, and the kernel reseeds itself", "rng-quality": _OWN,
    "help": _SERVICE, "usage": _SERVICE, "version": _SERVICE,
    "random-device": "drawwell always feeds the kernel through /dev/random",
    "ignorefail": _TESTS, "rng-buffers": _TESTS, "test": _TESTS,
    "fill-watermark": _POOL, "fips": _TESTS,
    "no-tpm": _OWN, "no-drng": _OWN, "exclude": _OWN, "include": _OWN, "option": _OWN, "list": _OWN,
    "rng-driver": _OWN, "hrng": _OWN, "rng-timeout": "drawwell reopens a source that is silent; see [[source]] stall",
}  # fmt: skip
_LONG: Final[Mapping[str, str]] = {
    "b": "background", "f": "foreground", "p": "pid-file", "D": "drop-privileges", "q": "quiet", "d": "debug",
    "v": "verbose", "R": "force-reseed", "o": "random-device", "i": "ignorefail", "B": "rng-buffers",
    "W": "fill-watermark", "n": "no-tpm", "x": "exclude", "N": "include", "O": "option", "l": "list",
    "T": "rng-timeout", "r": "rng-device", "s": "random-step", "t": "feed-interval", "H": "rng-entropy",
    "e": "entropy-count", "S": "stats-interval",
    "Q": "rng-quality", "V": "version", "h": "help", "?": "help",
}  # fmt: skip
_WITHOUT_VALUE: Final = {
    "background", "foreground", "quiet", "verbose", "ignorefail", "list", "test", "help", "usage", "version"
}  # fmt: skip
_MAY_HAVE_VALUE: Final = {"no-tpm", "no-drng", "debug", "feed-interval"}


def from_rng_tools(file: str, text: str, migration: Migration, kind_of: KindOf) -> None:
    """Migrate a file of variables for rngd's start script."""
    known = DEVICE_NAMES | OPTION_NAMES | {SELECT_NAME}
    found = list(assignments(text))
    if not found or any(at.name in known for at in found):
        migration.settings.setdefault((FEED.table, FEED.key), FEED.value)  # rngd feeds the kernel
    for at in found:
        if at.name in DEVICE_NAMES:
            _device(file, at, migration, kind_of)
        elif at.name == SELECT_NAME:
            _select(file, at, migration)
        elif at.name in OPTION_NAMES:
            answer_options(file, at, migration, kind_of)
        else:
            migration.wonder(file, at, "the start scripts of rngd do not use this variable")
    for at in other_lines(text):
        migration.wonder(file, at, "this line is not an assignment, and drawwell does not run it")


def answer_options(file: str, at: Assignment, migration: Migration, kind_of: KindOf) -> None:
    """Migrate each option of an rngd command line."""
    for option, value in options(at.value):
        _option(file, at._replace(name=option, value=value), migration, kind_of)


def options(line: str) -> Iterator[tuple[str, str]]:
    """Yield rngd's options with their values; short options get long names."""
    try:
        tokens = shlex.split(line)
    except ValueError:
        tokens = line.split()
    while tokens:
        word = tokens.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            name, value = (_LONG.get(word[1:2], word[:2]), word[2:].removeprefix("="))
            equals = value
            if name in _WITHOUT_VALUE and value:  # several options in one token: -fv
                tokens.insert(0, f"-{value}")
                equals = value = ""
        takes = name not in _WITHOUT_VALUE and name in {*_LONG.values(), *_OBSOLETE, *_NUMBERS}
        if not equals and takes and tokens and (name not in _MAY_HAVE_VALUE or tokens[0].isdecimal()):
            value = tokens.pop(0)
        if name == "force-reseed" and value and not value.isdecimal():
            name = "rng-driver"  # -R in rng-tools-debian
        if name == "feed-interval" and not value:
            name = "test"  # -t in rng-tools 6
        yield f"--{name}" if len(name) > 1 and not name.startswith("-") else name, value


def _option(file: str, at: Assignment, migration: Migration, kind_of: KindOf) -> None:
    name = at.name.removeprefix("--")
    if name in _OBSOLETE:
        migration.drop(file, at, _OBSOLETE[name])
    elif name == "rng-device":
        _device(file, at, migration, kind_of)
    elif name in _NUMBERS and (setting := _NUMBERS[name](at.value)):
        migration.keep(file, at, setting)
    else:
        migration.wonder(file, at, "rngd(8) does not have this option or does not accept this value")


def _device(file: str, at: Assignment, migration: Migration, kind_of: KindOf) -> None:
    if at.value == "/dev/null" or not at.value.startswith("/"):
        migration.drop(file, at, "this is not a device")
        return
    if at.value in {"/dev/random", "/dev/urandom"}:
        migration.drop(file, at, "the kernel's own generator is not a source for the kernel")
        return
    if fault := _path_fault(at.value):
        migration.wonder(file, at, fault)
        return
    kind = kind_of(at.value)
    if kind == "OneRNG":
        note = "drawwell finds the OneRNG by itself, so the path is not needed"
        migration.keep(file, at, *ONERNG, note=note)
    elif kind is None and ONERNG[0][:2] in migration.settings:
        note = "this is taken to be the OneRNG from onerng.conf, which is not plugged in"
        migration.keep(file, at, *ONERNG, note=note)
    elif kind is None:
        migration.unseen.append(at.value)
        why = "the device is missing, so its kind is unknown. Plug it in and run this command again. "
        migration.wonder(file, at, why + "A OneRNG would need driver onerng")
    else:
        note = (
            f"{kind or 'unknown device'}; the claim is 1 bit of entropy per byte until you assess the device"
        )
        migration.keep(file, at, *_character_device(at.value), note=note)


def _path_fault(path: str) -> str:
    """Return why the configuration cannot contain a path, or "" if it can."""
    try:
        PATH.parse(path)
    except ValueError as error:
        return str(error)
    return "the path is not UTF-8 text" if "\ufffd" in path else ""  # `open` replaces invalid bytes


def _select(file: str, at: Assignment, migration: Migration) -> None:
    """Migrate HRNGSELECT of rng-tools-debian, the choice of a generator."""
    if not re.fullmatch(NAME.pattern, at.value):
        migration.wonder(file, at, "this is not the name of a generator")
        return
    hwrng = _character_device("/dev/hwrng")
    wanted = NewSetting(hwrng[0].table, "hwrng", write_text(at.value))
    note = "drawwell does not select this generator, but refuses any other"
    migration.keep(file, at, *hwrng, wanted, note=note)


def _character_device(path: str) -> list[NewSetting]:
    name = path.rpartition("/")[2]
    named = name if re.fullmatch(NAME.pattern, name) else "rng"
    pairs = {"name": named, "driver": "chardev", "path": path}
    settings = [NewSetting(f"source {named}", key, write_text(value)) for key, value in pairs.items()]
    return [*settings, NewSetting(f"source {named}", "min_entropy", "1.0")]


# ---- options with a number: each function returns the new setting, or None if invalid


def _step(text: str) -> NewSetting | None:
    if not text.isdecimal() or len(text) > 6:
        return None
    return NewSetting("kernel", "bytes", str(min(4096, max(32, int(text)))))


def _interval(text: str) -> NewSetting | None:
    if not text.isdecimal() or not 0 <= int(text[:9]) <= 86_400:
        return None
    return NewSetting("kernel", "interval", write_text(f"{max(1, int(text))}s"))


def _credit(whole: float) -> Callable[[str], NewSetting | None]:
    """Return a converter from bits per bit (`whole` 1) or per byte (8)."""

    def convert(text: str) -> NewSetting | None:
        try:
            bits = float(text) * 8 / whole
        except ValueError:
            return None
        return NewSetting("kernel", "credit", f"{bits:g}") if 0 <= bits <= 8 else None

    return convert


_NUMBERS: Final[Mapping[str, Callable[[str], NewSetting | None]]] = {
    "random-step": _step,
    "feed-interval": _interval,
    "timeout": _interval,
    "rng-entropy": _credit(1),
    "entropy-count": _credit(8),
}

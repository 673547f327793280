"""The settings of rng-tools in Debian, Fedora, Arch and Gentoo: the device, and rngd's options one by one.

The options are those of rngd(8) of rng-tools 5 and 6.x and of rng-tools-debian 2.x.
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
"""What is behind a device node: "OneRNG", another known device's name, or ""; None where there is no node."""

_SERVICE: Final = "systemd, or whoever starts drawwell, sees to it"
_OWN: Final = (
    "it is about sources of rngd's own, which drawwell does not have; the kernel uses them by itself"
)
_TESTS: Final = "each source is health-tested (SP 800-90B), and none that fails is used"
_POOL: Final = "a pool of 256 bits does not say when it wants input; it is fed at an interval"
_OBSOLETE: Final[Mapping[str, str]] = {
    "background": _SERVICE, "foreground": _SERVICE, "pid-file": _SERVICE, "pidfile": _SERVICE, "quiet": _SERVICE,
    "drop-privileges": _SERVICE, "debug": _SERVICE, "verbose": _SERVICE, "stats-interval": _SERVICE,
    "force-reseed": "the kernel is fed at an interval, and reseeds by itself", "rng-quality": _OWN,
    "help": _SERVICE, "usage": _SERVICE, "version": _SERVICE,
    "random-device": "the kernel's generator is fed through /dev/random, and nothing else is",
    "ignorefail": _TESTS, "rng-buffers": _TESTS, "test": _TESTS,
    "fill-watermark": _POOL, "fips": _TESTS,
    "no-tpm": _OWN, "no-drng": _OWN, "exclude": _OWN, "include": _OWN, "option": _OWN, "list": _OWN,
    "rng-driver": _OWN, "hrng": _OWN, "rng-timeout": "a source that is silent for [[source]] stall is opened again",
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
_MAY_HAVE_VALUE: Final = {"no-tpm", "no-drng", "debug"}


def from_rng_tools(file: str, text: str, migration: Migration, kind_of: KindOf) -> None:
    """Answer a file of variables that rngd's start script reads."""
    known = DEVICE_NAMES | OPTION_NAMES | {SELECT_NAME}
    found = list(assignments(text))
    if not found or any(at.name in known for at in found):
        migration.settings.setdefault((FEED.table, FEED.key), FEED.value)  # it is all that rngd does
    for at in found:
        if at.name in DEVICE_NAMES:
            _device(file, at, migration, kind_of)
        elif at.name == SELECT_NAME:
            _select(file, at, migration)
        elif at.name in OPTION_NAMES:
            answer_options(file, at, migration, kind_of)
        else:
            migration.wonder(file, at, "the start scripts of rngd read no such variable")
    for at in other_lines(text):
        migration.wonder(file, at, "this is no assignment, and nothing is run here")


def answer_options(file: str, at: Assignment, migration: Migration, kind_of: KindOf) -> None:
    """Answer a command line of rngd option by option."""
    for option, value in options(at.value):
        _option(file, at._replace(name=option, value=value), migration, kind_of)


def options(line: str) -> Iterator[tuple[str, str]]:
    """The options of rngd with their values, the short ones by their long names: ``-r /dev/x -s64``."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            name, value = (_LONG.get(word[1:2], word[:2]), word[2:].removeprefix("="))
            equals = value
            if name in _WITHOUT_VALUE and value:  # several in one word: -fv
                words.insert(0, f"-{value}")
                equals = value = ""
        takes = name not in _WITHOUT_VALUE and name in {*_LONG.values(), *_OBSOLETE, *_NUMBERS}
        if not equals and takes and words and (name not in _MAY_HAVE_VALUE or words[0].isdecimal()):
            value = words.pop(0)
        if name == "force-reseed" and value and not value.isdecimal():
            name = "rng-driver"  # -R of rng-tools-debian
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
        migration.wonder(file, at, "rngd(8) has no such option, or not with this value")


def _device(file: str, at: Assignment, migration: Migration, kind_of: KindOf) -> None:
    if at.value == "/dev/null" or not at.value.startswith("/"):
        migration.drop(file, at, "this is no device")
        return
    if at.value in {"/dev/random", "/dev/urandom"}:
        migration.drop(file, at, "the kernel's own generator fed to the kernel is no source at all")
        return
    if fault := _path_fault(at.value):
        migration.wonder(file, at, fault)
        return
    kind = kind_of(at.value)
    if kind == "OneRNG":
        words = "the one OneRNG that is plugged in, whatever its node is called"
        migration.keep(file, at, *ONERNG, words=words)
    elif kind is None and ONERNG[0][:2] in migration.settings:
        words = "the stick of onerng.conf, which is not plugged in: the node's number is no name of it"
        migration.keep(file, at, *ONERNG, words=words)
    elif kind is None:
        migration.unseen.append(at.value)
        why = "it is not there now, so what device it is cannot be seen; plug it in and type this again. "
        migration.wonder(file, at, why + "It could be a OneRNG, which needs driver onerng")
    else:
        words = (
            f"{kind or 'a device unknown to drawwell'}, claimed to hold 1 bit per byte until it was assessed"
        )
        migration.keep(file, at, *_character_device(at.value), words=words)


def _path_fault(path: str) -> str:
    """Tell why a configuration cannot hold a path, "" if it can."""
    try:
        PATH.parse(path)
    except ValueError as error:
        return str(error)
    return "this is not UTF-8 text" if "\ufffd" in path else ""  # as `open` replaces what is not


def _select(file: str, at: Assignment, migration: Migration) -> None:
    """HRNGSELECT of rng-tools-debian: which generator the kernel shall take."""
    if not re.fullmatch(NAME.pattern, at.value):
        migration.wonder(file, at, "this is no generator's name")
        return
    hwrng = _character_device("/dev/hwrng")
    wanted = NewSetting(hwrng[0].table, "hwrng", write_text(at.value))
    words = "drawwell does not switch the kernel to it, but refuses any other"
    migration.keep(file, at, *hwrng, wanted, words=words)


def _character_device(path: str) -> list[NewSetting]:
    name = path.rpartition("/")[2]
    named = name if re.fullmatch(NAME.pattern, name) else "rng"
    pairs = {"name": named, "driver": "chardev", "path": path}
    settings = [NewSetting(f"source {named}", key, write_text(value)) for key, value in pairs.items()]
    return [*settings, NewSetting(f"source {named}", "min_entropy", "1.0")]


# ---- options with a number: what each is called now, None when it makes no sense


def _step(text: str) -> NewSetting | None:
    if not text.isdecimal() or len(text) > 6:
        return None
    return NewSetting("kernel", "bytes", str(min(4096, max(32, int(text)))))


def _interval(text: str) -> NewSetting | None:
    if not text.isdecimal() or not 0 <= int(text[:9]) <= 86_400:
        return None
    return NewSetting("kernel", "interval", write_text(f"{max(1, int(text))}s"))


def _credit(whole: float) -> Callable[[str], NewSetting | None]:
    """Bits per bit (`whole` 1) or per byte (8), as [kernel] credit has it: per byte."""

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

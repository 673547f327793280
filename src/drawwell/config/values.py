"""The kinds of values: each parses TOML, writes TOML and has a range.

`parse` raises ValueError with a message to print after the key's name; `write` is the inverse.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from drawwell.config.addresses import parse_ssh_address
from drawwell.units import Allowance, format_size, parse_allowance, parse_duration, parse_size

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_HOST_PORT: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^:\s\[\]/]*)):(\d{1,5})")
_UPSTREAM: Final = re.compile(r"(tls|unix|ssh)://(.+)")


class ValueKind(Protocol):
    """Parses and writes the values of one setting."""

    @property
    def range(self) -> str:
        """A description of the valid values."""

    def parse(self, value: object) -> Any:
        """Parse a TOML value; raise ValueError with the reason if it is invalid."""

    def write(self, value: Any) -> str:
        """Format a parsed value as TOML."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """An address to listen on or connect to; host "" means all addresses."""

    host: str
    port: int

    def __str__(self) -> str:
        """Format the address as in the configuration."""
        host = f"[{self.host}]" if ":" in self.host else self.host or "*"
        return f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        import ipaddress  # noqa: PLC0415 - start-up time

        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_host_port(text: str) -> HostPort:
    """Parse ``*:55000``, ``[::1]:55000`` or ``well.example.org:55000``.

    Raises:
        ValueError: the text is not a host, a colon and a port from 1 to 65535.
    """
    match = _HOST_PORT.fullmatch(text)
    if not match or not 1 <= int(match[3]) <= 65535:
        raise ValueError(f"{text!r} is not an address and a port such as *:55000 or [::1]:55000")
    host = match[1] or match[2]
    return HostPort("" if host == "*" else host, int(match[3]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_written(value)} is not a string: put it in quotes")  # noqa: TRY004
    if _CONTROL.search(value):
        raise ValueError(f"{value!r} contains a control character")
    if _SURROGATE.search(value):
        raise ValueError(f"{value!r} is not UTF-8 text")
    return value


def write_text(text: str) -> str:
    """Format text as a TOML string (TOML 1.0, "String").

    Raises:
        ValueError: the text is not UTF-8.
    """
    if _SURROGATE.search(text):
        raise ValueError(f"{text!r} is not UTF-8 text")
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _written(value: object) -> str:
    """Describe a TOML value of the wrong type in a few characters."""
    if isinstance(value, str):
        return repr(value[:40])
    if isinstance(value, int | float) and -(2**63) <= value < 2**63:
        return json.dumps(value)
    names = {int: "this number", list: "a list", dict: "a table"}
    return names.get(type(value), "this value")


def _within(value: float, low: float, high: float, shown: str, bounds: str) -> None:
    if not low <= value <= high:
        raise ValueError(f"{shown} is outside the range {bounds}")


def write_size(size_bytes: int) -> str:
    """Format a size so that it parses back exactly."""
    for unit_bytes, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size_bytes % unit_bytes == 0:
            return f"{size_bytes // unit_bytes}{name}"
    return f"{size_bytes}B"


def write_duration(seconds: float) -> str:
    """Format a duration so that it parses back exactly."""
    for unit_s, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds % unit_s == 0:
            return f"{int(seconds // unit_s)}{name}"
    return f"{seconds:.15g}s"


class Text(NamedTuple):
    """A string; all of it must match `pattern`."""

    pattern: str = ".+"
    range: str = "any string"

    def parse(self, value: object) -> str:
        text = _text(value)
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"{text!r} is not {self.range}")
        return text

    def write(self, value: str) -> str:
        return write_text(value)


NAME: Final = Text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "a name of 1 to 63 letters, digits, dots, _ and -")
CONSUMER: Final = Text(rf"{NAME.pattern}|[a-z][a-z0-9+.-]*:[!-~]{{1,200}}", f"{NAME.range}, or a URI")
PATH: Final = Text(r"/.*", "an absolute path")


class Flag:
    """A boolean."""

    range: Final = "true or false"

    def parse(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{_written(value)} is neither true nor false")  # noqa: TRY004
        return value

    def write(self, value: bool) -> str:
        return "true" if value else "false"


class Whole(NamedTuple):
    """A whole number from `low` to `high`."""

    low: int
    high: int

    @property
    def range(self) -> str:
        return f"{self.low} to {self.high}"

    def parse(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{_written(value)} is not a whole number")  # noqa: TRY004
        _within(value, self.low, self.high, _written(value), self.range)
        return value

    def write(self, value: int) -> str:
        return str(value)


class Number(NamedTuple):
    """A number from `low` to `high`."""

    low: float
    high: float

    @property
    def range(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def parse(self, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{_written(value)} is not a number")  # noqa: TRY004
        _within(value, self.low, self.high, _written(value), self.range)
        return float(value)

    def write(self, value: float) -> str:
        return repr(float(value))


class Choice(NamedTuple):
    """One of several fixed strings."""

    choices: tuple[str, ...]

    @property
    def range(self) -> str:
        *most, last = self.choices
        return f"{', '.join(most)} or {last}"

    def parse(self, value: object) -> str:
        text = _text(value)
        if text not in self.choices:
            raise ValueError(f"{text!r} is not one of {self.range}")
        return text

    def write(self, value: str) -> str:
        return write_text(value)


class Size(NamedTuple):
    """A size in bytes."""

    low: int
    high: int

    @property
    def range(self) -> str:
        return f"{format_size(self.low)} to {format_size(self.high)}"

    def parse(self, value: object) -> int:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        size = parse_size(_text(text))
        _within(size, self.low, self.high, str(value), self.range)
        return size

    def write(self, value: int) -> str:
        return f'"{write_size(value)}"'


class Mark:
    """A percentage of the reservoir such as ``50%``, or a size in bytes."""

    range: Final = "1% to 100%, or a size up to the reservoir's size"

    def parse(self, value: object) -> int | str:
        text = _text(value).strip()
        if text.endswith("%"):
            if not re.fullmatch(r"\d{1,3}\s*%", text) or not 1 <= int(text[:-1]) <= 100:
                raise ValueError(f"{text!r} is not a percentage from 1% to 100%")
            return f"{int(text[:-1])}%"
        try:
            return parse_size(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a percentage such as 50% or a size such as 64KiB") from None

    def write(self, value: int | str) -> str:
        return f'"{value if isinstance(value, str) else write_size(value)}"'


class Duration(NamedTuple):
    """A duration in seconds."""

    low: float
    high: float

    @property
    def range(self) -> str:
        return f"{write_duration(self.low)} to {write_duration(self.high)}"

    def parse(self, value: object) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        duration = float(str(value)) if number else parse_duration(_text(value))
        _within(duration, self.low, self.high, str(value), self.range)
        return duration

    def write(self, value: float) -> str:
        return f'"{write_duration(value)}"'


class Rate:
    """A number of bytes per period."""

    range: Final = "a size, a slash and a period, such as 4KiB/s or 10MiB/day"

    def parse(self, value: object) -> Allowance:
        return parse_allowance(_text(value))

    def write(self, value: Allowance) -> str:
        names = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "day"}
        period = names.get(value.period_s) or write_duration(value.period_s)
        return f'"{write_size(value.limit_bytes)}/{period}"'


class Texts(NamedTuple):
    """A list of strings of one kind."""

    each: Text
    range: str
    at_least: int = 0

    def parse(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{_written(value)} is not a list: put it in square brackets")  # noqa: TRY004
        if len(value) < self.at_least:
            raise ValueError("the list must not be empty")
        return tuple(self.each.parse(item) for item in value)

    def write(self, value: tuple[str, ...]) -> str:
        return f"[{', '.join(self.each.write(item) for item in value)}]"


class Listen:
    """A network address that a door listens on; "" keeps the door closed."""

    range: Final = 'an address and a port such as "*:55000", or "" for none'

    def parse(self, value: object) -> HostPort | None:
        text = _text(value)
        return parse_host_port(text) if text else None

    def write(self, value: HostPort | None) -> str:
        return write_text(str(value or ""))


class LocalListen:
    """A loopback address or a Unix socket to listen on, or "" for neither."""

    range: Final = 'a loopback address and a port, the absolute path of a Unix socket, or ""'

    def parse(self, value: object) -> HostPort | str | None:
        text = _text(value)
        if not text or text.startswith("/"):
            return text or None
        address = parse_host_port(text)
        if not address.loopback:
            raise ValueError(f"{text!r} is not a loopback address. Only local connections are allowed here")
        return address

    def write(self, value: HostPort | str | None) -> str:
        return write_text(str(value or ""))


class BrokerUrl:
    """The address of a broker."""

    range: Final = "tls://HOST:PORT, ssh://[USER@]HOST[:PORT] or unix:///PATH"

    def parse(self, value: object) -> str:
        text = _text(value)
        match = _UPSTREAM.fullmatch(text)
        if not match or (match[1] == "unix" and not match[2].startswith("/")):
            raise ValueError(f"{text!r} is not {self.range}")
        if match[1] == "tls" and not parse_host_port(match[2]).host:
            raise ValueError(f"{text!r} has no host")
        if match[1] == "ssh":
            parse_ssh_address(match[2])
        return text

    def write(self, value: str) -> str:
        return write_text(value)


class FileMode:
    """A socket's permissions, written as an octal string."""

    range: Final = '"0600" to "0777"'

    def parse(self, value: object) -> int:
        text = _text(value)
        if not re.fullmatch(r"0?[67][0-7]{2}", text):
            raise ValueError(f'{text!r} is not an octal mode such as "0660"')
        return int(text, 8)

    def write(self, value: int) -> str:
        return f'"0{value:o}"'

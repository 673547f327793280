"""What a route of the HTTP API is made of, and how the values of its parameters are read."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from drawwell.entropy.blocks import DrawRequest, Grant
from drawwell.wire.http_answers import HttpResponse
from drawwell.wire.http_session import HttpRequest


@dataclass(frozen=True, slots=True)
class DrawAsk:
    """A draw, and how its grant is answered."""

    request: DrawRequest
    answer: Callable[[Grant], HttpResponse]


@dataclass(frozen=True, slots=True)
class CallAsk:
    """A control verb, and how its result is answered: `public` where that tells whether the broker is ready."""

    verb: str
    answer: Callable[[dict[str, Any]], HttpResponse]
    public: bool = False


@dataclass(frozen=True, slots=True)
class EventsAsk:
    """A stream of events: what `render` makes of the verb's result, whenever that changes."""

    verb: str
    render: Callable[[dict[str, Any]], str]


Ask = DrawAsk | CallAsk | EventsAsk


@dataclass(frozen=True, slots=True)
class Parameter:
    """A field of the query: what it is in words and in JSON Schema, and how it is read (ValueError)."""

    name: str
    what: str
    schema: dict[str, Any]
    read: Callable[[str], Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A path. `methods` say what may be done there, `media` what it answers, `ask` what is made of a request."""

    path: str
    name: str
    what: str
    methods: tuple[str, ...]
    media: tuple[str, ...]
    ask: Callable[[HttpRequest, Mapping[str, Any]], Ask | HttpResponse]
    parameters: tuple[Parameter, ...] = ()
    public: bool = False
    page: bool = False
    """Whether it is for a browser."""

    @property
    def draws(self) -> bool:
        """Whether bytes are taken here."""
        return "POST" in self.methods


def whole(least: int, most: int) -> Callable[[str], int]:
    """Read a whole number."""

    def read_whole(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise ValueError(f"{text[:40]!r} is not a whole number from {least} to {most}")
        return int(text)

    return read_whole


def seconds(most: int) -> Callable[[str], float]:
    """Read seconds, with decimals."""

    def read_seconds(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or float(text) > most:
            raise ValueError(f"{text[:40]!r} is not a time from 0 to {most} seconds")
        return float(text)

    return read_seconds


def one_of(*words: str) -> Callable[[str], str]:
    """Read one of these words."""

    def read_word(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text[:40]!r} is none of {', '.join(words)}")
        return text

    return read_word

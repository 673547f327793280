"""Routes of the HTTP API, and parsers of their parameters."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from drawwell.entropy.blocks import DrawRequest, Grant
from drawwell.wire.http_answers import HttpResponse
from drawwell.wire.http_session import HttpRequest


@dataclass(frozen=True, slots=True)
class DrawAsk:
    """A draw, and the renderer of its grant."""

    request: DrawRequest
    answer: Callable[[Grant], HttpResponse]


@dataclass(frozen=True, slots=True)
class CallAsk:
    """A control verb and its renderer; if `public`, it reveals only readiness."""

    verb: str
    answer: Callable[[dict[str, Any]], HttpResponse]
    public: bool = False


@dataclass(frozen=True, slots=True)
class EventsAsk:
    """A stream of events: the rendered result of a verb, after each change."""

    verb: str
    render: Callable[[dict[str, Any]], str]


Ask = DrawAsk | CallAsk | EventsAsk


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter; its parser `read` raises ValueError."""

    name: str
    what: str
    schema: dict[str, Any]
    read: Callable[[str], Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A path with its methods, media types, parameters and handler."""

    path: str
    name: str
    what: str
    methods: tuple[str, ...]
    media: tuple[str, ...]
    ask: Callable[[HttpRequest, Mapping[str, Any]], Ask | HttpResponse]
    parameters: tuple[Parameter, ...] = ()
    public: bool = False
    page: bool = False
    """Whether the route is a page for browsers."""

    @property
    def draws(self) -> bool:
        """Whether the route serves drawn bytes."""
        return "POST" in self.methods


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of integers."""

    def read_whole(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise ValueError(f"{text[:40]!r} is not an integer from {least} to {most}")
        return int(text)

    return read_whole


def seconds(most: int) -> Callable[[str], float]:
    """Return a parser of seconds with decimals."""

    def read_seconds(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or float(text) > most:
            raise ValueError(f"{text[:40]!r} is not a time from 0 to {most} seconds")
        return float(text)

    return read_seconds


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser that accepts one of `choices`."""

    def read_word(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text[:40]!r} is not one of {', '.join(choices)}")
        return text

    return read_word

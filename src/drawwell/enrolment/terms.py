"""Parsing of an operator's changes to a consumer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from drawwell.crypto.pki import CONSUMER_NAME
from drawwell.crypto.sshkeys import parse_public_key
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import UsageError
from drawwell.state.rows import ConsumerRow
from drawwell.units import Allowance, parse_allowance

BOTH: Final = frozenset(DrawClass)
_Value = TypeVar("_Value")


def check_name(name: str) -> None:
    """Check a consumer's name; raises UsageError."""
    if not CONSUMER_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid consumer name",
            hint="Use 1 to 63 of a-z, 0-9, dot, underscore and hyphen, beginning with a letter or digit.",
        )


def changed(
    consumer: ConsumerRow,
    *,
    rate: str | None,
    quota: str | None,
    draw_class: str | None,
    stream: str | None,
) -> ConsumerRow:
    """Return `consumer` with all changes that are not None.

    ``none`` removes an allowance. `stream` is yes or no.

    Raises:
        UsageError: a change is invalid.
    """
    return replace(
        consumer,
        rate=_allowance(rate, consumer.rate),
        quota=_allowance(quota, consumer.quota),
        classes=_classes(draw_class) if draw_class else consumer.classes,
        stream=_yes(stream) if stream else consumer.stream,
    )


def read(parse: Callable[[str], _Value], text: str) -> _Value:
    """Parse an allowance or a duration; raises UsageError."""
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(
            str(error), hint="Write rates like 4KiB/s, quotas like 10MiB/day and durations like 15min."
        ) from error


def public_key(text: str) -> str:
    """Parse an SSH public key; raises UsageError."""
    try:
        return parse_public_key(text)
    except ValueError as error:
        raise UsageError(
            str(error), hint="Use the file ending in .pub that 'ssh-keygen -t ed25519' created."
        ) from error


def _allowance(text: str | None, unchanged: Allowance | None) -> Allowance | None:
    if text is None:
        return unchanged
    return None if text == "none" else read(parse_allowance, text)


def _classes(text: str) -> frozenset[DrawClass]:
    if text == "both":
        return BOTH
    try:
        return frozenset({DrawClass(text)})
    except ValueError:
        raise UsageError(f"unknown class {text!r}", hint="Use full, drbg or both.") from None


def _yes(text: str) -> bool:
    if text not in {"yes", "no"}:
        raise UsageError(f"stream must be yes or no, not {text!r}")
    return text == "yes"

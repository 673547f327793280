"""What the operator's words change about a consumer."""

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
    """Refuse what cannot be a consumer's name; raises UsageError."""
    if not CONSUMER_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a consumer's name",
            hint="Use 1 to 63 of a-z, 0-9, dot, underscore and hyphen, a letter or digit first.",
        )


def changed(
    consumer: ConsumerRow,
    *,
    rate: str | None,
    quota: str | None,
    draw_class: str | None,
    stream: str | None,
) -> ConsumerRow:
    """Return `consumer` with what is not None changed: ``none`` lifts an allowance, `stream` is yes or no.

    Raises:
        UsageError: one of them makes no sense.
    """
    return replace(
        consumer,
        rate=_allowance(rate, consumer.rate),
        quota=_allowance(quota, consumer.quota),
        classes=_classes(draw_class) if draw_class else consumer.classes,
        stream=_yes(stream) if stream else consumer.stream,
    )


def read(parse: Callable[[str], _Value], text: str) -> _Value:
    """Read an allowance or a time; raises UsageError."""
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(
            str(error), hint="Write rates like 4KiB/s, totals like 10MiB/day and times like 15min."
        ) from error


def public_key(text: str) -> str:
    """Read an SSH public key; raises UsageError."""
    try:
        return parse_public_key(text)
    except ValueError as error:
        raise UsageError(
            str(error), hint="Name the file that 'ssh-keygen -t ed25519' made, ending in .pub."
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
        raise UsageError(f"{text!r} is no class", hint="Write full, drbg or both.") from None


def _yes(text: str) -> bool:
    if text not in {"yes", "no"}:
        raise UsageError(f"{text!r} is neither yes nor no")
    return text == "yes"

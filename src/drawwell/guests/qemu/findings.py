"""What the host can tell of a machine's virtio-rng: which settings leave a guest without bytes, or stop it. Pure."""

from collections.abc import Iterator
from typing import Final

from drawwell.guests.model import GuestFinding, GuestVerdict
from drawwell.guests.qemu.plan import REQUEST_BYTES

_LEAST_PERIOD_MS: Final = 2000
_TTYS: Final = ("/dev/tty", "/dev/serial/", "/dev/pts/")


def device_findings(
    *, has_rng: bool, backend: str, place: str, reconnects: bool, max_bytes: int | None, period_ms: int
) -> Iterator[GuestFinding]:
    """Judge the device, what is behind it, and its limit; `backend` is QEMU's name, such as ``rng-egd``."""
    if not has_rng:
        yield _found("it has virtio-rng", GuestVerdict.FAILS, "it has not", "Plan it: 'drawwell guest plan'.")
        return
    yield _backend(backend, place)
    if backend == "rng-egd":
        yield _reconnects(reconnects=reconnects, period_ms=period_ms)
    if max_bytes is not None:
        yield _limit(max_bytes, period_ms)


def generation_finding(*, present: bool | None) -> GuestFinding:
    """Judge whether the machine has a VM generation id; None is "cannot be known"."""
    what = "it has a VM generation id"
    if present is None:
        return _found(what, GuestVerdict.UNKNOWN, "that cannot be known from here")
    if present:
        return _found(what, GuestVerdict.HOLDS, "vmgenid")
    return _found(
        what, GuestVerdict.FAILS, "a copy of it comes back with the same generator state",
        "Give it one (QEMU: -device vmgenid,guid=auto), or reseed its copies: 'drawwell guest reseed'.",
    )  # fmt: skip


def limit_words(max_bytes: int | None, period_ms: int) -> str:
    """Say a limit for the table of guests."""
    return "none" if max_bytes is None else f"{max_bytes} bytes in each {period_ms} ms"


def _backend(backend: str, place: str) -> GuestFinding:
    what = "what feeds it does no harm"
    words = f"{backend}, {place}" if place else backend
    if backend == "rng-random" and place.startswith(_TTYS):
        return _found(
            what, GuestVerdict.FAILS, f"{words}: the guest stops when it is unplugged, and bytes arrive changed",
            "Give it a socket of the broker: 'drawwell guest plan'.",
        )  # fmt: skip
    return _found(what, GuestVerdict.HOLDS, words)


def _reconnects(*, reconnects: bool, period_ms: int) -> GuestFinding:
    what = "it outlives a restart of the broker"
    if not reconnects:
        return _found(
            what, GuestVerdict.FAILS, "QEMU does not connect again", "Add reconnect=1 to its socket chardev."
        )
    if period_ms < _LEAST_PERIOD_MS:
        hint = "Plan it anew, or mend it when it happens: 'drawwell guest verify --mend'."
        words = f"period={period_ms} is shorter than QEMU takes to connect again: a request that is lost then is lost"
        return _found(what, GuestVerdict.FAILS, words, hint)
    return _found(
        what, GuestVerdict.HOLDS, f"it connects again, and asks again {period_ms} ms after a lost request"
    )


def _limit(max_bytes: int, period_ms: int) -> GuestFinding:
    what = "its limit lets bytes through"
    words = limit_words(max_bytes, period_ms)
    if max_bytes % REQUEST_BYTES:
        return _found(
            what, GuestVerdict.FAILS, f"{words}: no multiple of {REQUEST_BYTES}, at which a guest stalls",
            "Plan it anew: 'drawwell guest plan'.",
        )  # fmt: skip
    return _found(what, GuestVerdict.HOLDS, words)


def _found(what: str, verdict: GuestVerdict, detail: str, hint: str = "") -> GuestFinding:
    return GuestFinding(what, verdict, detail, hint=hint)

"""What the host can tell of a machine's virtio-rng: which settings leave a guest without bytes, or stop it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from drawwell.guests.model import GuestFinding, GuestVerdict
from drawwell.guests.qemu.plan import REQUEST_BYTES

DEFAULT_PERIOD_MS: Final = 65_536
"""hw/virtio/virtio-rng.c."""
_TTYS: Final = ("/dev/tty", "/dev/serial/", "/dev/pts/")


@dataclass(frozen=True, slots=True)
class Generator:
    """A virtio-rng of a machine: QEMU's name of its backend, the file or socket behind it, and QEMU's limit."""

    backend: str
    place: str = ""
    reconnects: bool = False
    max_bytes: int | None = None
    period_ms: int = DEFAULT_PERIOD_MS

    def __str__(self) -> str:
        """Return backend and place."""
        return f"{self.backend}, {self.place}" if self.place else self.backend


def backends(generators: Sequence[Generator]) -> str:
    """Return what feeds them, for the table of guests."""
    return "; ".join(map(str, generators))


def limits(generators: Sequence[Generator]) -> str:
    """Return their limits, for the table of guests."""
    return "; ".join(limit_words(each.max_bytes, each.period_ms) for each in generators)


def device_findings(generators: Sequence[Generator]) -> Iterator[GuestFinding]:
    """Judge each device, what is behind it and its limit, and whether there is more than one."""
    if not generators:
        yield _found("it has virtio-rng", GuestVerdict.FAILS, "it has not", "Plan it: 'drawwell guest plan'.")
    for each in generators:
        yield _backend(each)
        if each.backend == "rng-egd":
            yield _reconnects(reconnects=each.reconnects)
        if each.max_bytes is not None:
            yield _limit(each.max_bytes, each.period_ms)
    if len(generators) > 1:
        yield _found(
            "its kernel has one virtio-rng to read", GuestVerdict.FAILS,
            f"it has {len(generators)}, and reads one of them: {backends(generators)}",
            "'drawwell guest verify' shows which one is this broker's, and how the guest is made to read it.",
        )  # fmt: skip


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


def _backend(generator: Generator) -> GuestFinding:
    what = "what feeds it does no harm"
    if generator.backend == "rng-random" and generator.place.startswith(_TTYS):
        return _found(
            what, GuestVerdict.FAILS, f"{generator}: the guest stops when it is unplugged, and bytes arrive changed",
            "Give it a socket of the broker: 'drawwell guest plan'.",
        )  # fmt: skip
    return _found(what, GuestVerdict.HOLDS, str(generator))


def _reconnects(*, reconnects: bool) -> GuestFinding:
    what = "it outlives a restart of the broker"
    if not reconnects:
        return _found(
            what, GuestVerdict.FAILS, "QEMU does not connect again", "Add reconnect=1 to its socket chardev."
        )
    return _found(what, GuestVerdict.HOLDS, "it connects again, and the broker answers what was lost")


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

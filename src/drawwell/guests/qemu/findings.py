"""Pure: findings about virtio-rng settings that starve or stop a guest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from drawwell.guests.model import GuestFinding, GuestVerdict
from drawwell.guests.qemu.plan import REQUEST_BYTES

DEFAULT_PERIOD_MS: Final = 65_536
"""QEMU's default (hw/virtio/virtio-rng.c)."""
_TTYS: Final = ("/dev/tty", "/dev/serial/", "/dev/pts/")


@dataclass(frozen=True, slots=True)
class Generator:
    """A virtio-rng device: its backend, file or socket, and QEMU's limit."""

    backend: str
    place: str = ""
    reconnects: bool = False
    max_bytes: int | None = None
    period_ms: int = DEFAULT_PERIOD_MS

    def __str__(self) -> str:
        """Return the backend and its place."""
        return f"{self.backend}, {self.place}" if self.place else self.backend


def backends(generators: Sequence[Generator]) -> str:
    """List the backends, for the table of guests."""
    return "; ".join(map(str, generators))


def limits(generators: Sequence[Generator]) -> str:
    """List the limits, for the table of guests."""
    return "; ".join(limit_text(each.max_bytes, each.period_ms) for each in generators)


def device_findings(generators: Sequence[Generator]) -> Iterator[GuestFinding]:
    """Judge each device's backend and limit, and the number of devices."""
    if not generators:
        yield _found(
            "the machine has virtio-rng", GuestVerdict.FAILS, "no device", "Run 'drawwell guest plan'."
        )
    for each in generators:
        yield _backend(each)
        if each.backend == "rng-egd":
            yield _reconnects(reconnects=each.reconnects)
        if each.max_bytes is not None:
            yield _limit(each.max_bytes, each.period_ms)
    if len(generators) > 1:
        yield _found(
            "the machine has only one virtio-rng", GuestVerdict.FAILS,
            f"its kernel reads only one of {len(generators)}: {backends(generators)}",
            "'drawwell guest verify' shows which one belongs to this broker, and how to make the guest read it.",
        )  # fmt: skip


def generation_finding(*, present: bool | None) -> GuestFinding:
    """Judge whether the machine has a VM generation ID; None means unknown."""
    what = "the machine has a VM generation ID"
    if present is None:
        return _found(what, GuestVerdict.UNKNOWN, "the host cannot see it")
    if present:
        return _found(what, GuestVerdict.HOLDS, "vmgenid")
    return _found(
        what, GuestVerdict.FAILS, "copies start with the same generator state",
        "Add a generation ID (QEMU: -device vmgenid,guid=auto), or reseed copies with 'drawwell guest reseed'.",
    )  # fmt: skip


def limit_text(max_bytes: int | None, period_ms: int) -> str:
    """Describe a limit for the table of guests."""
    return "none" if max_bytes is None else f"{max_bytes} bytes per {period_ms} ms"


def _backend(generator: Generator) -> GuestFinding:
    what = "the backend is safe"
    if generator.backend == "rng-random" and generator.place.startswith(_TTYS):
        return _found(
            what, GuestVerdict.FAILS, f"{generator}: unplugging it stops the guest, and bytes are modified",
            "Use a socket of the broker instead: 'drawwell guest plan'.",
        )  # fmt: skip
    return _found(what, GuestVerdict.HOLDS, str(generator))


def _reconnects(*, reconnects: bool) -> GuestFinding:
    what = "the machine survives a restart of the broker"
    if not reconnects:
        return _found(
            what, GuestVerdict.FAILS, "QEMU does not reconnect", "Add reconnect=1 to the socket chardev."
        )
    return _found(what, GuestVerdict.HOLDS, "QEMU reconnects, and the broker answers lost requests")


def _limit(max_bytes: int, period_ms: int) -> GuestFinding:
    what = "the limit lets bytes through"
    limit = limit_text(max_bytes, period_ms)
    if max_bytes % REQUEST_BYTES:
        return _found(
            what, GuestVerdict.FAILS, f"{limit} is not a multiple of {REQUEST_BYTES}, so the guest stalls",
            "Create the plan again: 'drawwell guest plan'.",
        )  # fmt: skip
    return _found(what, GuestVerdict.HOLDS, limit)


def _found(what: str, verdict: GuestVerdict, detail: str, hint: str = "") -> GuestFinding:
    return GuestFinding(what, verdict, detail, hint=hint)

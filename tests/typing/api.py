"""Checked by mypy, never run: each ignore marks a rejected type."""

from drawwell.broker.supply import Supply
from drawwell.entropy.blocks import DrawClass, FullEntropy, Grant, RawBlock, TestedBlock
from drawwell.entropy.conditioning import Conditioner
from drawwell.entropy.health import HealthMonitor
from drawwell.entropy.reservoir import Reservoir
from drawwell.ports import Sink, Upstream


async def a_sink_takes_grants_only(sink: Sink, upstream: Upstream, conditioner: Conditioner) -> None:
    """Law 1: sinks accept only grants, and only a broker creates them."""
    await sink.deliver(await upstream.draw(32, DrawClass.FULL))
    await sink.deliver(RawBlock(b""))  # type: ignore[arg-type]
    await sink.deliver(conditioner.feed(RawBlock(b"")))  # type: ignore[arg-type]
    await sink.deliver(FullEntropy(bytearray()))  # type: ignore[arg-type]
    await sink.deliver(b"bytes")  # type: ignore[arg-type]


def a_reservoir_takes_full_entropy_only(reservoir: Reservoir, supply: Supply, grant: Grant) -> None:
    """Raw samples cannot be deposited, and granted bytes cannot be returned."""
    reservoir.put(FullEntropy(bytearray()))
    reservoir.put(RawBlock(b""))  # type: ignore[arg-type]
    supply.deposit(grant)  # type: ignore[arg-type]
    supply.assess(RawBlock(b""))  # type: ignore[arg-type]


def a_conditioner_takes_tested_samples_only(conditioner: Conditioner, monitor: HealthMonitor) -> None:
    """Samples that have not passed the health tests cannot be conditioned."""
    tested: TestedBlock | None = monitor.feed(RawBlock(b""), 0.0)
    conditioner.feed(tested)  # type: ignore[arg-type]
    if tested is not None:
        conditioner.feed(tested)
    conditioner.feed(RawBlock(b""))  # type: ignore[arg-type]

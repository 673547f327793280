"""Events that announce a copied machine, and the memory afterwards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.broker.broker import Rules
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import NoHealthySource
from drawwell.host.generation import announces_copy, logs_copy
from drawwell.reports import SourceState
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from support.principals import consumer
from support.workbench import Workbench

UEVENT = b"change@/devices/platform/VMGENCTR:00\0ACTION=change\0SUBSYSTEM=platform\0NEW_VMGENID=1\0SEQNUM=7\0"
RECORD = b"5,342,1274311,-;random: crng reseeded due to virtual machine fork\n"


def test_the_kernels_uevent_announces_a_copy() -> None:
    """A uevent with this variable counts if the kernel, port 0, sent it."""
    assert announces_copy(UEVENT, 0)
    assert not announces_copy(UEVENT, 4711)


@pytest.mark.parametrize(
    "message",
    [
        b"change@/devices/virtual/misc/fuse\0ACTION=change\0SYNTH_ARG_NEW_VMGENID=1\0SYNTH_UUID=0\0",
        b"NEW_VMGENID=1\0ACTION=change\0",
        b"change@/x\0NEW_VMGENID=10\0",
        b"change@/x\0NEW_VMGENID=0\0",
        b"libudev\0\xfe\xed\xca\xfe",
        b"",
    ],
)
def test_other_uevents_do_not(message: bytes) -> None:
    """Synthetic uevents, and a path with the same text, do not count."""
    assert not announces_copy(message, 0)


def test_the_kernels_own_log_line_announces_a_copy() -> None:
    """The line counts in a recorded log entry with the kernel's facility."""
    assert logs_copy(RECORD)
    assert logs_copy(RECORD[:-1] + b"\n SUBSYSTEM=x\n DEVICE=+y\n")


@pytest.mark.parametrize(
    "record",
    [
        b"13,343,1274312,-;random: crng reseeded due to virtual machine fork\n",
        b"5,344,1,-;usb 1-1: Product: random: crng reseeded due to virtual machine fork\n",
        b"5,345,1,-;random: crng init done\n",
        b"-1,346,1,-;random: crng reseeded due to virtual machine fork\n",
        b"random: crng reseeded due to virtual machine fork",
        b"",
    ],
)
def test_other_log_lines_do_not(record: bytes) -> None:
    """A program's line has another facility, a device's another prefix."""
    assert not logs_copy(record)


@given(st.binary(max_size=200), st.integers(0, 2**31))
def test_any_bytes_are_judged(message: bytes, sender: int) -> None:
    """Any input gives True or False."""
    assert announces_copy(message, sender) in {True, False}
    assert logs_copy(message) in {True, False}


def test_a_restarted_source_uses_nothing_that_it_has_read() -> None:
    """A restarted source drops pending samples and repeats its start-up tests."""

    async def run() -> None:
        driver = ScriptedSource("stick", seed=1)
        bench = Workbench(driver, capacity_bytes=4096)
        (source,) = bench.sources
        async with bench.run():
            await bench.until_filled()
            before = source.report()
            bench.supply.wipe()
            source.restart()
            assert source.report().state is SourceState.STARTING
            with pytest.raises(NoHealthySource):
                await bench.broker.draw(consumer("web01"), DrawRequest(32, DrawClass.FULL))
            await bench.until_filled()
            after = source.report()
            assert after.state is SourceState.HEALTHY
            assert after.health_epoch == before.health_epoch + 1
            assert after.discarded_bytes > before.discarded_bytes
            assert bench.supply.report().balanced

    run_virtually(run())


def test_a_source_that_is_closed_stays_closed() -> None:
    """A restart does not open a closed source."""

    async def run() -> None:
        driver = ScriptedSource("stick")
        bench = Workbench(driver, capacity_bytes=4096)
        (source,) = bench.sources
        source.restart()
        assert source.report().state is SourceState.OFF

    run_virtually(run())


def test_two_copies_of_a_brokers_memory_are_kept_apart_by_the_fresh_input() -> None:
    """With the same reservoir and DRBG, different input gives different bytes."""

    async def grants(salt: int) -> list[bytes]:
        bench = Workbench(capacity_bytes=4096, fresh=lambda n: bytes([salt]) * n, rules=Rules("x", 0))
        bench.put(bytes(4096))
        return [
            (await bench.broker.draw(consumer("web01"), DrawRequest(64, each))).data for each in DrawClass
        ]

    async def run() -> None:
        first, same, other = await grants(1), await grants(1), await grants(2)
        assert first == same
        assert not {*first} & {*other}

    run_virtually(run())

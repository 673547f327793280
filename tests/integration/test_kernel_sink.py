"""The kernel sink with simulated kernels: its calls and times."""

import asyncio
import errno
import os
import struct
from dataclasses import replace

import pytest

from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import SinkRefused
from drawwell.host.kernel import KernelFacts
from drawwell.sinks.kernel import RNDADDENTROPY, RNDRESEEDCRNG, KernelSink
from drawwell.testing.waiting import DEADLINE_S, ends_at_once

SMALL = KernelFacts(
    release="6.1", pool_bits=256, entropy_avail_bits=256, write_wakeup_bits=256,
    fips_enabled=False, may_feed=True, container="",
)  # fmt: skip
UNSEEDED = replace(SMALL, entropy_avail_bits=100)
LARGE = replace(SMALL, release="4.19", pool_bits=4096, entropy_avail_bits=500, write_wakeup_bits=896)


class Kernel:
    """Records ioctls, keeps each buffer, and can fail."""

    def __init__(self, failing: dict[int, int] | None = None) -> None:
        self.calls: list[int] = []
        self.feeds: list[tuple[int, int, bytes]] = []
        self.buffers: list[bytearray] = []
        self._failing = failing or {}

    def __call__(self, _fd, request, argument):
        self.calls.append(request)
        if request == RNDADDENTROPY:
            self.buffers.append(argument)
        if request in self._failing:
            raise OSError(self._failing[request], os.strerror(self._failing[request]))
        if request == RNDADDENTROPY:
            self.feeds.append((*struct.unpack_from("ii", argument), bytes(argument[8:])))
        return 0


def grant(size: int = 64) -> Grant:
    return Grant(bytes(range(1, size + 1)), 1, DrawClass.FULL)


def fed(kernel: Kernel, facts: KernelFacts = SMALL, sizes: tuple[int, ...] = (64,), **settings):
    async def run():
        sink = KernelSink(device="/dev/null", ioctl=kernel, facts=lambda: facts, **settings)
        try:
            return [await sink.deliver(grant(size)) for size in sizes][-1]
        finally:
            await sink.aclose()

    return asyncio.run(run())


def test_a_feed_is_credit_size_and_bytes():
    """The buffer is a struct rand_pool_info, as in random(4)."""
    kernel = Kernel()

    report = fed(kernel, credit=lambda: 2.0)

    assert kernel.feeds == [(128, 64, grant().data)]
    assert (report.delivered_bytes, report.credited_bits, report.deliveries) == (64, 128, 1)


def test_no_credit_is_given_by_default():
    """Bytes are mixed in without credit."""
    kernel = Kernel()

    assert fed(kernel).credited_bits == 0
    assert kernel.feeds[0][0] == 0


def test_what_is_no_noise_is_mixed_in_and_credited_nothing():
    """Each feed determines its credit: 0 while a source is simulated."""
    kernel, earned = Kernel(), iter([0.0, 8.0, 0.0])

    report = fed(kernel, LARGE, sizes=(64, 64, 64), credit=lambda: next(earned))

    assert [credit for credit, *_ in kernel.feeds] == [0, 512, 0]
    assert (report.credited_bits, report.delivered_bytes) == (512, 192)


@pytest.mark.parametrize(
    ("size", "credit", "bits"), [(64, 8.0, 256), (32, 8.0, 256), (31, 8.0, 248), (33, 0.1, 3), (9, 0.1, 0)]
)
def test_credit_is_rounded_down_and_at_most_the_small_pool(size, credit, bits):
    """The credit never exceeds what was earned, or 256 bits per call."""
    kernel = Kernel()

    fed(kernel, sizes=(size,), credit=lambda: credit)

    assert kernel.feeds[0][0] == bits


def test_the_large_pool_is_credited_what_was_earned():
    """A pool of 4,096 bits gets full credit for 64 bytes."""
    kernel = Kernel()

    fed(kernel, LARGE, credit=lambda: 8.0)

    assert kernel.feeds[0][0] == 512


def test_the_buffer_of_a_feed_is_overwritten():
    """The buffer is wiped after the call, even after a refusal."""
    kernel, refusing = Kernel(), Kernel({RNDADDENTROPY: errno.EINVAL})

    fed(kernel)
    with pytest.raises(SinkRefused):
        fed(refusing)

    assert kernel.buffers + refusing.buffers == [bytes(72), bytes(72)]


def test_the_first_feed_is_made_effective_at_once_and_only_the_first():
    """RNDRESEEDCRNG follows only the first feed."""
    kernel = Kernel()

    report = fed(kernel, sizes=(64, 64, 64))

    assert kernel.calls == [RNDADDENTROPY, RNDRESEEDCRNG, RNDADDENTROPY, RNDADDENTROPY]
    assert report.reseeds == 1


def test_a_reseed_that_is_too_early_is_tried_again():
    """An unseeded kernel refuses to reseed, but the feed succeeds."""
    kernel = Kernel({RNDRESEEDCRNG: errno.ENODATA})

    report = fed(kernel, sizes=(64, 64))

    assert kernel.calls == [RNDADDENTROPY, RNDRESEEDCRNG] * 2
    assert (report.reseeds, report.deliveries) == (0, 2)
    assert "did not reseed" in report.last_error


def test_a_refusal_is_named_with_what_to_do():
    """A later EPERM is a refusal with a hint, and is not counted."""
    with pytest.raises(SinkRefused, match="refused the feed: Operation not permitted") as caught:
        fed(Kernel({RNDADDENTROPY: errno.EPERM}))
    assert "CAP_SYS_ADMIN" in str(caught.value.hint)


def test_a_missing_device_is_a_refusal():
    """A system without /dev/random is refused."""

    async def run():
        await KernelSink(device="/no/such/device", facts=lambda: SMALL).deliver(grant())

    with pytest.raises(SinkRefused, match="No such file"):
        asyncio.run(run())


def waits(facts: KernelFacts, *, fed_before: bool, credit: float = 8.0, device: str = "/dev/null") -> bool:
    """Return whether the sink waits for its interval of one hour."""

    async def run():
        sink = KernelSink(lambda: credit, 3600, device=device, ioctl=Kernel(), facts=lambda: facts)
        if fed_before:
            await sink.deliver(grant())
        try:
            return not await ends_at_once(sink.wait_wanted())
        finally:
            await sink.aclose()

    return asyncio.run(run())


def test_the_first_feed_does_not_wait():
    """The kernel is fed immediately at the start."""
    assert not waits(SMALL, fed_before=False)


def test_a_seeded_small_pool_is_fed_by_the_clock():
    """A seeded new kernel never requests bytes, so the interval decides."""
    assert waits(SMALL, fed_before=True)


def test_a_small_pool_that_is_not_seeded_is_fed_until_it_is():
    """Credited feeds follow immediately until the kernel is ready."""
    assert not waits(UNSEEDED, fed_before=True)


def test_feeds_without_credit_never_hurry():
    """Uncredited bytes never fill the pool, so they are not fed in a loop."""
    assert waits(UNSEEDED, fed_before=True, credit=0.0)
    assert waits(LARGE, fed_before=True, credit=0.0)


@pytest.fixture
def pool_device(tmp_path):
    """Create a FIFO that acts as a large pool: writable below its watermark."""
    path = tmp_path / "random"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield str(path), fd
    os.close(fd)


def fill(fd: int) -> None:
    try:
        while True:
            os.write(fd, bytes(4096))
    except BlockingIOError:
        pass


def test_a_large_pool_is_fed_while_it_asks(pool_device):
    """Below the watermark the device is writable and is fed at once."""
    path, _ = pool_device

    assert not waits(LARGE, fed_before=True, device=path)


def test_a_large_pool_above_its_watermark_is_left_alone(pool_device):
    """If it is full, no bytes are drawn before a request or the interval."""
    path, fd = pool_device
    fill(fd)

    assert waits(LARGE, fed_before=True, device=path)


def test_a_large_pool_that_begins_to_ask_is_fed(pool_device):
    """The wait ends when reads drain the pool below its watermark."""
    path, fd = pool_device
    fill(fd)

    async def run():
        sink = KernelSink(lambda: 8.0, 3600, device=path, ioctl=Kernel(), facts=lambda: LARGE)
        await sink.deliver(grant())
        asyncio.get_running_loop().call_soon(os.read, fd, 65536)
        async with asyncio.timeout(DEADLINE_S):
            await sink.wait_wanted()
        await sink.aclose()
        return sink.wanted_bytes()

    assert asyncio.run(run()) == 64

"""The kernel as a sink: small RNDADDENTROPY feeds with the earned credit.

See random(4). Since Linux 5.17 the pool has 256 bits, and a seeded kernel never requests
entropy, so feeds are triggered by a timer. The older pool of 4,096 bits polls as writable when
its level is low; it is fed until that changes.
"""

import asyncio
import fcntl
import os
import struct
from collections.abc import Callable
from typing import Any, Final

from drawwell.entropy.blocks import Grant
from drawwell.errors import PermissionRefused, SinkRefused
from drawwell.host.kernel import KernelFacts, kernel_facts
from drawwell.reports import SinkReport
from drawwell.sinks.descriptor import writable

RNDADDENTROPY: Final = 0x40085203  # linux/random.h: _IOW('R', 0x03, int[2]), then the bytes
RNDRESEEDCRNG: Final = 0x5207  # linux/random.h: _IO('R', 0x07)
_HEADER: Final = struct.Struct("ii")  # struct rand_pool_info: credit in bits, size in bytes
_MOST_CREDIT: Final = 256
"""Limit of one call for the 256-bit pool (drivers/char/random.c, POOL_BITS)."""

Ioctl = Callable[[int, int, Any], object]


def require_privilege(facts: KernelFacts | None = None) -> None:
    """Check before the first draw that this process may feed the kernel.

    Raises:
        PermissionRefused: CAP_SYS_ADMIN is missing.
    """
    facts = facts or kernel_facts()
    if facts.may_feed:
        return
    if facts.container:
        hint = "Feed the kernel on the host: containers use the host's kernel, so this one benefits too."
    else:
        hint = capability_hint()
    raise PermissionRefused("feeding the kernel needs CAP_SYS_ADMIN", hint=hint)


def capability_hint() -> str:
    """Explain how to get the capability; in a container even root lacks it."""
    if os.geteuid() == 0:
        return (
            "Root lacks the capability here, as in an unprivileged container. Set [kernel] feed = false here, and "
            "feed the kernel on the host: it is the same kernel. A service needs CAP_SYS_ADMIN in its "
            "CapabilityBoundingSet."
        )
    return "Run as root, or give the service AmbientCapabilities=CAP_SYS_ADMIN."


class KernelSink:
    """A `Sink` (see ports.py).

    Args:
        credit: Called at each feed; returns how many bits to credit per byte, 0 to 8.
        interval_s: Time between feeds, unless the kernel requests entropy earlier.
        chunk_bytes: Size of a feed.
        device: The kernel's generator; tests pass another device.
        ioctl: The function that calls the device.
        facts: The function that reads the facts about the kernel.
    """

    def __init__(
        self,
        credit: Callable[[], float] = lambda: 0.0,
        interval_s: float = 60.0,
        chunk_bytes: int = 64,
        *,
        device: str = "/dev/random",
        ioctl: Ioctl = fcntl.ioctl,
        facts: Callable[[], KernelFacts] = kernel_facts,
    ) -> None:
        self._credit = credit
        self._interval_s = interval_s
        self._chunk_bytes = chunk_bytes
        self._device = device
        self._ioctl = ioctl
        self._facts = facts
        self._fd = -1
        self._fed_at = float("-inf")
        self._deliveries = self._delivered_bytes = self._credited_bits = self._reseeds = 0
        self._last_error = ""

    @property
    def report(self) -> SinkReport:
        return SinkReport(
            name="kernel",
            deliveries=self._deliveries,
            delivered_bytes=self._delivered_bytes,
            credited_bits=self._credited_bits,
            reseeds=self._reseeds,
            last_error=self._last_error,
        )

    def wanted_bytes(self) -> int:
        return self._chunk_bytes

    async def wait_wanted(self) -> None:
        """Wait for the interval, or until the kernel needs entropy.

        Raises:
            SinkRefused: the kernel's device cannot be opened.
        """
        left_s = self._fed_at + self._interval_s - asyncio.get_running_loop().time()
        facts = self._facts()
        if left_s <= 0 or (self._earned(self._chunk_bytes) and facts.small_pool and not facts.ready):
            return
        if facts.small_pool or not self._earned(self._chunk_bytes):  # without credit, a pool never fills up
            await asyncio.sleep(left_s)
        else:
            await writable(self._open(), left_s)

    async def deliver(self, grant: Grant) -> SinkReport:
        """Feed the grant; after the first feed, make the kernel use it at once.

        Raises:
            SinkRefused: the kernel refused the grant.
        """
        credit = self._earned(len(grant))
        if self._facts().small_pool:
            credit = min(credit, _MOST_CREDIT)
        self._add(grant.data, credit)
        self._deliveries += 1
        self._delivered_bytes += len(grant)
        self._credited_bits += credit
        self._fed_at = asyncio.get_running_loop().time()
        if not self._reseeds:
            self._reseed()
        return self.report

    async def aclose(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _earned(self, size_bytes: int) -> int:
        return int(size_bytes * self._credit())

    def _add(self, data: bytes, credit: int) -> None:
        call = bytearray(_HEADER.size + len(data))
        _HEADER.pack_into(call, 0, credit, len(data))
        call[_HEADER.size :] = data
        try:
            self._ioctl(self._open(), RNDADDENTROPY, call)
        except OSError as error:
            raise self._refused(error) from None
        finally:
            call[:] = bytes(len(call))

    def _reseed(self) -> None:
        """Make the kernel use the feed at once; old kernels refuse this."""
        try:
            self._ioctl(self._open(), RNDRESEEDCRNG, 0)
        except OSError as error:
            self._last_error = f"the kernel did not reseed: {error.strerror}"
            return
        self._reseeds += 1
        self._last_error = ""

    def _open(self) -> int:
        if self._fd < 0:
            try:
                self._fd = os.open(self._device, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                raise self._refused(error) from None
        return self._fd

    def _refused(self, error: OSError) -> SinkRefused:
        self._last_error = f"the kernel refused the feed: {error.strerror}"
        return SinkRefused(self._last_error, hint=capability_hint())

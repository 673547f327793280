"""The running kernel as a sink: RNDADDENTROPY in small feeds, with the credit that was earned and no more.

random(4). Since Linux 5.17 the pool is 256 bits, and the kernel never asks for input once it is seeded: it is
fed by the clock. The older pool of 4,096 bits says that it is low by becoming writable: it is fed
until it no longer is.
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
"""In one call, for the small pool: its size (drivers/char/random.c, POOL_BITS)."""

Ioctl = Callable[[int, int, Any], object]


def require_privilege(facts: KernelFacts | None = None) -> None:
    """See to it, before anything is drawn, that the kernel will take it.

    Raises:
        PermissionRefused: CAP_SYS_ADMIN is missing.
    """
    facts = facts or kernel_facts()
    if facts.may_feed:
        return
    if facts.container:
        hint = "Feed the kernel on the host: it is the same kernel, and this container gains as much."
    else:
        hint = capability_hint()
    raise PermissionRefused("feeding the kernel needs CAP_SYS_ADMIN", hint=hint)


def capability_hint() -> str:
    """Say how a process gets the right to feed; root without it is in a container or was stripped of it."""
    if os.geteuid() == 0:
        return (
            "This root lacks the capability, as in a container without privileges: feed the kernel on the host, "
            "which is the same one, and set [kernel] feed = false here. A service needs CAP_SYS_ADMIN in its "
            "CapabilityBoundingSet."
        )
    return "Run as root, or give the service AmbientCapabilities=CAP_SYS_ADMIN."


class KernelSink:
    """A `Sink` (see ports.py).

    Args:
        credit: Asked at each feed: the bits per byte that the kernel is told to believe, 0 to 8.
        interval_s: Time between feeds, where the kernel does not ask.
        chunk_bytes: Size of a feed.
        device: The kernel's generator; tests name something else.
        ioctl: How it is called.
        facts: How the kernel is asked.
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
        """What it got so far."""
        return SinkReport(
            name="kernel",
            deliveries=self._deliveries,
            delivered_bytes=self._delivered_bytes,
            credited_bits=self._credited_bits,
            reseeds=self._reseeds,
            last_error=self._last_error,
        )

    def wanted_bytes(self) -> int:
        """One feed."""
        return self._chunk_bytes

    async def wait_wanted(self) -> None:
        """Return when the interval is over, or as soon as a kernel that asks or is not seeded wants more.

        Raises:
            SinkRefused: the kernel's device cannot be opened.
        """
        left_s = self._fed_at + self._interval_s - asyncio.get_running_loop().time()
        facts = self._facts()
        if left_s <= 0 or (self._earned(self._chunk_bytes) and facts.small_pool and not facts.ready):
            return
        if facts.small_pool or not self._earned(self._chunk_bytes):  # what is not credited never fills a pool
            await asyncio.sleep(left_s)
        else:
            await writable(self._open(), left_s)

    async def deliver(self, grant: Grant) -> SinkReport:
        """Feed the grant, and after the first one have the kernel use it at once.

        Raises:
            SinkRefused: the kernel did not take it.
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
        """Close the device."""
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
        """Make the feed effective now and not in a minute; a kernel that is not seeded or too old says no."""
        try:
            self._ioctl(self._open(), RNDRESEEDCRNG, 0)
        except OSError as error:
            self._last_error = f"the kernel does not reseed: {error.strerror}"
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

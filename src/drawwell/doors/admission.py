"""Admission control at a door: half-open connections and handshakes.

A half-open connection occupies a place until its welcome. If there are too many, the address
with the most places loses one, so a flood from one address displaces only itself. A handshake
takes a thousand times the CPU time of a draw. So handshakes have a token bucket of CPU
seconds, which refills faster while the loop is less busy. Addresses from which a consumer was
recently admitted are served first.
"""

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from drawwell.doors.step_worker import StepWorker
from drawwell.entropy.token_bucket import SECOND_NS, TokenBucket

ARRIVALS_PER_S: Final = 150.0
"""Connections that a busy loop accepts per second, at 0.2 to 0.4 ms each: twice as many as the
loop has time for handshakes. The other connections wait in the kernel."""
IDLE_ARRIVALS_PER_S: Final = 600.0
"""Connections that an idle loop accepts per second."""
ARRIVALS_AT_ONCE: Final = 1000.0
ARRIVAL_COST: Final = 1.5
"""The number of arrivals that a connection counts as until its welcome; then it counts as one.
So a flood of unfinished handshakes takes less of a busy loop's time (bench/overload.py)."""
MAX_USERS: Final = 1024
"""The maximum number of local users with a budget in memory."""
_STRANGERS: Final = (10.0, 32.0)
"""The rate and burst of users without access: enough to tell a few why they are refused."""
HANDSHAKE_SHARE: Final = 0.15
"""Share of the CPU for handshakes while the loop is busy. Admitted peers keep about four
fifths, however many peers connect."""
IDLE_HANDSHAKE_SHARE: Final = 0.9
"""Share of the CPU for handshakes while the loop is idle."""
LOOK_S: Final = 0.05
"""The interval between measurements of the loop's load."""
_SHORT_S: Final = 0.001
"""A measurement assumes that at least this much CPU time was available."""
BUSY: Final = 0.7
"""A loop with this load counts as having no time to spare."""
HANDSHAKE_BURST_S: Final = 0.5
"""CPU time saved up while idle: about a hundred machines can reconnect without waiting."""
MAX_KNOWN: Final = 16_384
"""The maximum number of known addresses; the least recently admitted one is dropped first."""
KNOWN_COUNTS_FOR: Final = 0.25
"""The weight of a known address's place."""
QUIET_S: Final = 1.0
"""A peer that keeps us waiting for longer than this can be dropped."""


class HalfOpenConnection(Protocol):
    """A connection with a peer that is not identified yet."""

    address: str
    """The peer's address, as returned by `source_of`."""

    def quiet_s(self, now: float) -> float:
        """Return how long we have waited for the peer; 0 if it waits for us."""


class PendingHandshake(HalfOpenConnection, Protocol):
    """A connection that has sent bytes and waits for its handshake."""

    def begin(self) -> None:
        """Begin the handshake."""


def source_of(peer_name: object) -> str:
    """Return the IPv4 address or the IPv6 /64 network of a socket's peer."""
    if not isinstance(peer_name, tuple):
        return ""  # a local socket
    address = ipaddress.ip_address(str(peer_name[0]).partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)


_A = TypeVar("_A", bound=HalfOpenConnection)


class Places(Generic[_A]):
    """Half-open connections by address, and the known addresses."""

    def __init__(self) -> None:
        self._held: dict[str, dict[_A, None]] = {}
        self._known: dict[str, None] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return the number of occupied places."""
        return self._count

    def __iter__(self) -> Iterator[_A]:
        """Iterate over the connections that have a place."""
        return (applicant for held in self._held.values() for applicant in held)

    def take(self, applicant: _A) -> None:
        """Occupy a place."""
        self._held.setdefault(applicant.address, {})[applicant] = None
        self._count += 1

    def give_up(self, applicant: _A) -> None:
        """Release the connection's place, if it has one."""
        held = self._held.get(applicant.address, {})
        if applicant in held:
            del held[applicant]
            self._count -= 1
            if not held:
                del self._held[applicant.address]

    def remember(self, address: str) -> None:
        """Record that a consumer was admitted from an address."""
        self._known.pop(address, None)
        self._known[address] = None
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def known(self, address: str) -> bool:
        """Return whether a consumer was recently admitted from an address."""
        return address in self._known

    def one_too_many(self, now: float) -> _A:
        """Choose the connection to drop: the quietest from the busiest address."""
        crowd = self._held[max(self._held, key=self._weight)]
        quietest = max(crowd, key=lambda applicant: applicant.quiet_s(now))
        return quietest if quietest.quiet_s(now) >= QUIET_S else next(reversed(crowd))

    def _weight(self, address: str) -> float:
        return len(self._held[address]) * (KNOWN_COUNTS_FOR if address in self._known else 1)


def thread_times() -> tuple[float, float, float]:
    """Return CPU seconds: used, waited for, and used by other threads.

    The first two values are for this thread, the third for the process's other threads. A
    kernel without CONFIG_SCHED_INFO does not count the wait.
    """
    used_s, waited_ns = time.thread_time(), 0
    with contextlib.suppress(OSError), open("/proc/thread-self/schedstat", "rb") as schedstat:
        waited_ns = int(schedstat.read().split()[1])
    return used_s, waited_ns / SECOND_NS, time.process_time() - used_s


class Spare:
    """The CPU time that a thread leaves to the rest of its process.

    If the thread is ready to run but other programs have the CPU, that time is not spare.

    Args:
        times: A function like `thread_times`.
    """

    def __init__(self, times: Callable[[], tuple[float, float, float]] = thread_times) -> None:
        self._times = times
        self._last = times()
        self._at = 0.0
        self._had = self._rest = 1.0

    def rate(self, least: float, most: float, now: float) -> float:
        """Interpolate from `least` (busy) to `most` (idle), scaled by CPU share."""
        passed_s = now - self._at
        if passed_s >= LOOK_S:
            times = self._times()
            used_s, waited_s, others_s = (new - old for new, old in zip(times, self._last, strict=True))
            had_s = max(used_s, passed_s - max(0.0, waited_s - others_s), _SHORT_S)
            self._had = min(1.0, had_s / passed_s)
            self._rest = max(0.0, 1 - used_s / had_s / BUSY)
            self._last, self._at = times, now
        return self._had * (least + self._rest * (most - least))


class Budget:
    """A token bucket in billionths of a token. Spending can overdraw it.

    Args:
        share: The refill per second.
        burst: The capacity; the bucket starts full.
        most: The refill per second while the loop is idle.
        spare: Measures the loop's idle time.
    """

    def __init__(
        self, share: float, burst: float, most: float | None = None, spare: Spare | None = None
    ) -> None:
        self._least = share
        self._most = share if most is None else most
        self._spare = spare
        self._bucket = TokenBucket(_billionths(share), SECOND_NS, _billionths(burst) * SECOND_NS)
        self._bucket.fill_up()

    def wait_s(self, now: float) -> float:
        """Return the seconds until spending is allowed; 0 means now."""
        if self._spare:
            self._bucket.change(_billionths(self._spare.rate(self._least, self._most, now)))
        now_ns = _billionths(now)
        return (self._bucket.ready_ns(0, now_ns) - now_ns) / SECOND_NS

    def spend(self, cost: float) -> None:
        """Deduct a cost; give it back if negative."""
        self._bucket.overdraw(_billionths(cost))


def _billionths(amount: float) -> int:
    return round(amount * 1e9)


class UserBudgets:
    """Connection budgets of local users. Users without access share a budget.

    The budget is checked before a session is created, because closing a connection at
    this point takes only a thirtieth of the time that a session takes.
    """

    def __init__(self) -> None:
        self._budgets: dict[int | None, Budget] = {}

    def admit(self, user: int | None, now: float) -> bool:
        """Count a user's connection (None: no access); return whether it may stay."""
        budget = self._budgets.pop(user, None)
        if budget is None:
            rate, burst = (ARRIVALS_PER_S, ARRIVALS_AT_ONCE) if user is not None else _STRANGERS
            budget = Budget(rate, burst)
            budget.wait_s(now)
        self._budgets[user] = budget  # the most recent is last
        if len(self._budgets) > MAX_USERS:
            del self._budgets[next(iter(self._budgets))]
        if budget.wait_s(now):
            return False
        budget.spend(1)
        return True


class _Line:
    """A round-robin queue by address: a flood delays only its own address."""

    def __init__(self) -> None:
        self._from: dict[str, dict[PendingHandshake, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._from.values()))

    def __bool__(self) -> bool:
        return bool(self._from)

    def join(self, applicant: PendingHandshake) -> None:
        self._from.setdefault(applicant.address, {})[applicant] = None

    def leave(self, applicant: PendingHandshake) -> None:
        """Remove a peer if it is queued."""
        waiting = self._from.get(applicant.address, {})
        if waiting.pop(applicant, self) is None and not waiting:
            del self._from[applicant.address]

    def take_next(self) -> PendingHandshake:
        """Remove and return the oldest peer of the next address."""
        address, waiting = next(iter(self._from.items()))
        applicant = next(iter(waiting))
        del self._from[address], waiting[applicant]
        if waiting:
            self._from[address] = waiting
        return applicant


class Handshakes:
    """The queue of pending handshakes. Known addresses are served first.

    Args:
        known: Returns whether an address is known.
        spare: Measures the loop's idle time.
    """

    def __init__(self, known: Callable[[str], bool], spare: Spare | None = None) -> None:
        self._is_known = known
        self._budget = Budget(HANDSHAKE_SHARE, HANDSHAKE_BURST_S, IDLE_HANDSHAKE_SHARE, spare)
        self._known = _Line()
        self._others = _Line()
        self._next: asyncio.Handle | None = None
        self._steps = 0
        """The number of steps running in the thread; the next handshake waits for them."""
        self._worker = StepWorker()

    def __len__(self) -> int:
        """Return the number of queued handshakes."""
        return len(self._known) + len(self._others)

    def wait(self, applicant: PendingHandshake) -> None:
        """Queue a handshake; begin it immediately if the queue is empty."""
        (self._known if self._is_known(applicant.address) else self._others).join(applicant)
        if self._next is None and not self._steps:
            self._go_on()

    def leave(self, applicant: PendingHandshake) -> None:
        """Remove a handshake if it is queued."""
        self._known.leave(applicant)
        self._others.leave(applicant)

    def step(self, work: Callable[[], None], then: Callable[[Exception | None], None]) -> None:
        """Run a step in the thread; then call `then` in the loop with any error."""
        loop = asyncio.get_running_loop()

        def ended(cost_s: float, error: Exception | None) -> None:
            self._steps -= 1
            self._budget.spend(cost_s)
            try:
                then(error)
            finally:
                if self._next is None and not self._steps:
                    self._go_on()

        self._steps += 1
        self._worker.run(work, lambda *outcome: loop.call_soon_threadsafe(ended, *outcome))

    def close(self) -> None:
        """Stop the thread."""
        self._worker.close()

    @contextlib.contextmanager
    def paid(self) -> Iterator[None]:
        """Charge the CPU time of the block to the handshake budget."""
        begun = time.thread_time()
        try:
            yield
        finally:
            self._budget.spend(time.thread_time() - begun)

    def charge(self, cost_s: float) -> None:
        """Charge CPU time that `paid` cannot measure to the handshake budget."""
        self._budget.spend(cost_s)

    def _go_on(self) -> None:
        """Begin one handshake; schedule the next after the loop's other work."""
        self._next = None
        loop = asyncio.get_running_loop()
        wait_s = self._budget.wait_s(loop.time())
        if wait_s == 0 and (line := self._known or self._others):
            line.take_next().begin()
            wait_s = self._budget.wait_s(loop.time())
        self._plan(wait_s)

    def _plan(self, wait_s: float) -> None:
        """Schedule the next handshake: after `wait_s`, or after the running step."""
        if self and self._next is None and not self._steps:
            loop = asyncio.get_running_loop()
            self._next = loop.call_later(wait_s, self._go_on) if wait_s else loop.call_soon(self._go_on)

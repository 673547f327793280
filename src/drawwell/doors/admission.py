"""Who gets a place at a door, and whose handshake comes next, when more come than there is room and time for.

A place is held from the connection to the welcome. When there are too many, the address that holds the most gives
one up: a flood from one address crowds out itself. A handshake costs a thousand times a draw in CPU time, so that
handshakes have a budget of it, a token bucket in seconds, which fills the faster the less of its time the loop needs
for those who are served. Known addresses, from which a consumer was welcomed lately, have their turn before all others.
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
"""Connections that a busy loop takes up, at 0.2 to 0.4 ms each, twice as many as handshakes have
time for; the others wait in the kernel."""
IDLE_ARRIVALS_PER_S: Final = 600.0
"""The same of a loop that serves nothing."""
ARRIVALS_AT_ONCE: Final = 1000.0
MAX_USERS: Final = 1024
"""Users of this machine whose budgets are remembered."""
_STRANGERS: Final = (10.0, 32.0)
"""Enough for each of a few to hear why it is refused."""
HANDSHAKE_SHARE: Final = 0.1
"""Of the CPU's time, when the loop is busy: who is served keeps four fifths of it, arrivals
included, however many come."""
IDLE_HANDSHAKE_SHARE: Final = 0.9
"""Of the CPU's time, when nothing is served."""
LOOK_S: Final = 0.05
"""How often the loop's use of its time is looked at."""
BUSY: Final = 0.7
"""A loop that uses this part of its time has none to spare."""
HANDSHAKE_BURST_S: Final = 0.5
"""Saved up in quiet times: some hundred machines that come back at once are not made to wait."""
MAX_KNOWN: Final = 16_384
"""Addresses that are remembered; the one that was welcomed the longest ago is forgotten."""
KNOWN_COUNTS_FOR: Final = 0.25
"""What a place counts for that a known address holds."""
QUIET_S: Final = 1.0
"""A peer that we wait for longer than this may have to go."""


class HalfOpenConnection(Protocol):
    """A connection that has not shown who it is."""

    address: str
    """Where it comes from, as `source_of` says."""

    def quiet_s(self, now: float) -> float:
        """How long we have been waiting for it; 0 while it waits for us."""


class PendingHandshake(HalfOpenConnection, Protocol):
    """One that has said its first word and waits for its turn."""

    def begin(self) -> None:
        """Begin the handshake: it has its turn."""


def source_of(peer_name: object) -> str:
    """Name the machine, or the network that one customer gets (an IPv6 /64), behind a socket's peer name."""
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
    """The half-open connections by address, and the addresses that are known."""

    def __init__(self) -> None:
        self._held: dict[str, dict[_A, None]] = {}
        self._known: dict[str, None] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many places are held."""
        return self._count

    def __iter__(self) -> Iterator[_A]:
        """Go through who holds one."""
        return (applicant for held in self._held.values() for applicant in held)

    def take(self, applicant: _A) -> None:
        """Hold a place."""
        self._held.setdefault(applicant.address, {})[applicant] = None
        self._count += 1

    def give_up(self, applicant: _A) -> None:
        """Hold it no longer; whoever holds none may."""
        held = self._held.get(applicant.address, {})
        if applicant in held:
            del held[applicant]
            self._count -= 1
            if not held:
                del self._held[applicant.address]

    def remember(self, address: str) -> None:
        """Note that a consumer was welcomed from there."""
        self._known.pop(address, None)
        self._known[address] = None
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def known(self, address: str) -> bool:
        """Whether a consumer was welcomed from there lately."""
        return address in self._known

    def one_too_many(self, now: float) -> _A:
        """Of the address that holds the most: whom we wait for the longest, or the newest where all are busy."""
        crowd = self._held[max(self._held, key=self._weight)]
        quietest = max(crowd, key=lambda applicant: applicant.quiet_s(now))
        return quietest if quietest.quiet_s(now) >= QUIET_S else next(reversed(crowd))

    def _weight(self, address: str) -> float:
        return len(self._held[address]) * (KNOWN_COUNTS_FOR if address in self._known else 1)


class Spare:
    """Which part of its time a thread has not used of late.

    Args:
        cpu_s: Seconds of CPU that the calling thread has used.
    """

    def __init__(self, cpu_s: Callable[[], float] = time.thread_time) -> None:
        self._cpu_s = cpu_s
        self._used_s = cpu_s()
        self._at = 0.0
        self._part = 0.0

    def part(self, now: float) -> float:
        """Return 0 for a thread that is `BUSY` or more, 1 for one that rests."""
        passed_s = now - self._at
        if passed_s >= LOOK_S:
            used_s = self._cpu_s()
            self._part = min(1.0, max(0.0, 1 - (used_s - self._used_s) / passed_s / BUSY))
            self._used_s, self._at = used_s, now
        return self._part


class Budget:
    """A token bucket of what is spent, in billionths; the last one admitted may overdraw it.

    Args:
        share: What comes in each second.
        burst: The most that is saved; it is full at first.
        most: What comes in each second while all of `spare` is left.
        spare: Tells how much time the loop has left.
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
        """Return how long until something may be spent, 0 when it may be now."""
        if self._spare:
            share = self._least + self._spare.part(now) * (self._most - self._least)
            self._bucket.change(_billionths(share))
        now_ns = _billionths(now)
        return (self._bucket.ready_ns(0, now_ns) - now_ns) / SECOND_NS

    def spend(self, cost: float) -> None:
        """Take what something has cost."""
        self._bucket.overdraw(_billionths(cost))


def _billionths(amount: float) -> int:
    return round(amount * 1e9)


class UserBudgets:
    """Connections that each user of this machine may open; all who may not draw share one small budget.

    The budget is spent before a session is made: closing a connection at once costs a thirtieth of one.
    """

    def __init__(self) -> None:
        self._budgets: dict[int | None, Budget] = {}

    def admit(self, user: int | None, now: float) -> bool:
        """Count one connection of a user, None for all who may not draw; False when it is one too many."""
        budget = self._budgets.pop(user, None)
        if budget is None:
            rate, burst = (ARRIVALS_PER_S, ARRIVALS_AT_ONCE) if user is not None else _STRANGERS
            budget = Budget(rate, burst)
            budget.wait_s(now)
        self._budgets[user] = budget  # the last is the one that came last
        if len(self._budgets) > MAX_USERS:
            del self._budgets[next(iter(self._budgets))]
        if budget.wait_s(now):
            return False
        budget.spend(1)
        return True


class _Line:
    """Who waits, by address. The addresses take turns: a crowd from one waits behind itself."""

    def __init__(self) -> None:
        self._from: dict[str, dict[PendingHandshake, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._from.values()))

    def __bool__(self) -> bool:
        return bool(self._from)

    def join(self, applicant: PendingHandshake) -> None:
        self._from.setdefault(applicant.address, {})[applicant] = None

    def leave(self, applicant: PendingHandshake) -> None:
        """Go; whoever is not in it may."""
        waiting = self._from.get(applicant.address, {})
        if waiting.pop(applicant, self) is None and not waiting:
            del self._from[applicant.address]

    def take_next(self) -> PendingHandshake:
        """Return who came first from the address whose last turn is the longest ago."""
        address, waiting = next(iter(self._from.items()))
        applicant = next(iter(waiting))
        del self._from[address], waiting[applicant]
        if waiting:
            self._from[address] = waiting
        return applicant


class Handshakes:
    """The line of those who have said their first word; those of known addresses go before the others.

    Args:
        known: Whether an address is.
        spare: Tells how much time the loop has left.
    """

    def __init__(self, known: Callable[[str], bool], spare: Spare | None = None) -> None:
        self._is_known = known
        self._budget = Budget(HANDSHAKE_SHARE, HANDSHAKE_BURST_S, IDLE_HANDSHAKE_SHARE, spare)
        self._known = _Line()
        self._others = _Line()
        self._next: asyncio.Handle | None = None
        self._steps = 0
        """How many steps are under way off the loop: the next turn waits for them."""
        self._worker = StepWorker()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._known) + len(self._others)

    def wait(self, applicant: PendingHandshake) -> None:
        """Get in line; at once, when there is none."""
        (self._known if self._is_known(applicant.address) else self._others).join(applicant)
        if self._next is None and not self._steps:
            self._go_on()

    def leave(self, applicant: PendingHandshake) -> None:
        """Leave the line; whoever is not in it may."""
        self._known.leave(applicant)
        self._others.leave(applicant)

    def step(self, work: Callable[[], None], then: Callable[[Exception | None], None]) -> None:
        """Run a step of a handshake off the loop; then call `then` in the loop, with what it raised."""
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
        """End the thread that runs steps."""
        self._worker.close()

    @contextlib.contextmanager
    def paid(self) -> Iterator[None]:
        """Count what is done within as a part of a handshake."""
        begun = time.thread_time()
        try:
            yield
        finally:
            self._budget.spend(time.thread_time() - begun)

    def charge(self, cost_s: float) -> None:
        """Count CPU time of a handshake that cannot be measured by `paid`."""
        self._budget.spend(cost_s)

    def _go_on(self) -> None:
        """Give one turn; the next one when everybody else has had theirs, or there is time for it."""
        self._next = None
        loop = asyncio.get_running_loop()
        wait_s = self._budget.wait_s(loop.time())
        if wait_s == 0 and (line := self._known or self._others):
            line.take_next().begin()
            wait_s = self._budget.wait_s(loop.time())
        self._plan(wait_s)

    def _plan(self, wait_s: float) -> None:
        """Have the next turn given after `wait_s`; a step that is under way has it given at its end."""
        if self and self._next is None and not self._steps:
            loop = asyncio.get_running_loop()
            self._next = loop.call_later(wait_s, self._go_on) if wait_s else loop.call_soon(self._go_on)

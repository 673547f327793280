"""The open accounts. Each is opened at its consumer's first draw."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from heapq import nlargest

from drawwell.broker.account import Account, AnyQuota, Lease, Terms
from drawwell.broker.queue import DrawQueue
from drawwell.entropy.quota import Quota, QuotaState
from drawwell.reports import ConsumerReport

QuotaMaker = Callable[[str, Lease, float], AnyQuota]
Leasing = Callable[[str], Awaitable[Lease | None]]


async def none_else(_consumer: str) -> Lease | None:
    """Return None: only the consumers passed to `set_terms` exist."""
    return None


def own_quota(_consumer: str, lease: Lease, now: float) -> AnyQuota:
    """Create a quota that is kept by this broker alone."""
    return Quota(lease.terms.rate, lease.terms.total, now=now, restored=lease.reserved)


class AccountBook:
    """Opens accounts, and applies changes to them.

    Args:
        queue: The waiting draws, which are woken after a change of terms.
        lease: Finds a consumer; returns None if it may not draw. Can raise StateUnavailable.
        clock: Returns seconds since the epoch, and never steps back.
        make_quota: Returns the quota of a new account.
    """

    def __init__(
        self,
        queue: DrawQueue,
        lease: Leasing,
        clock: Callable[[], float],
        make_quota: QuotaMaker = own_quota,
    ) -> None:
        self.accounts: dict[str, Account] = {}
        self._queue = queue
        self._lease = lease
        self._clock = clock
        self._make_quota = make_quota
        self._resident: frozenset[str] = frozenset()
        """The consumers of the last `set_terms`."""
        self._changes: Counter[str] = Counter()
        """Changes per consumer. A lease that was read before a change is outdated."""

    async def open(self, consumer: str) -> Account | None:
        """Return a consumer's account, opening it if necessary.

        Returns None if the consumer may not draw.

        Raises:
            StateUnavailable: the store cannot be read.
        """
        while consumer not in self.accounts:
            changes = self._changes[consumer]
            lease = await self._lease(consumer)
            if consumer not in self.accounts and changes == self._changes[consumer]:
                if lease is None:
                    return None
                self._open(consumer, lease)
        return self.accounts[consumer]

    def change(self, consumer: str, terms: Terms | None) -> None:
        """Apply new terms; None means that the consumer may no longer draw.

        Spent bytes stay spent.
        """
        self._changes[consumer] += 1
        account = self.accounts.get(consumer)
        if account is not None and terms is None:
            self.accounts.pop(consumer).wipe()
            self._queue.forget(consumer)
        elif account is not None and terms is not None and account.terms != terms:
            account.change(terms, self._clock())
        self._queue.wake(consumer)

    def set_terms(
        self, terms: Mapping[str, Terms], reserved: Callable[[str], QuotaState | None] = lambda _: None
    ) -> None:
        """Set the consumers with permanent accounts, and their terms.

        Each has its account even before its first draw. Accounts opened by a lease stay open.
        `reserved` returns the stored reservation of a consumer whose account is new.
        """
        for name in self._resident - terms.keys():
            self.change(name, None)
        for name, wanted in terms.items():
            if name not in self.accounts:
                self._open(name, Lease(wanted, reserved(name)))
            self.change(name, wanted)
        self._resident = frozenset(terms)

    def busiest(self, most: int) -> tuple[ConsumerReport, ...]:
        """Return reports of the accounts with the most draws, at most `most`.

        If there are not more accounts, all are reported, in order of opening.
        """
        accounts, now = self.accounts.values(), self._clock()
        chosen = accounts if len(accounts) <= most else nlargest(most, accounts, key=lambda each: each.draws)
        return tuple(account.report(now) for account in chosen)

    def close(self, chosen: Callable[[str], bool], *, seeded_before: float, most: int) -> None:
        """Close idle `chosen` accounts, except the `most` with the newest seeds.

        Seeds from before `seeded_before` do not count as new. A closed account opens again at
        the next draw. Its reservation counts as spent.
        """
        open_now = [each for each in self.accounts.values() if chosen(each.name)]
        idle = [
            each
            for each in sorted(open_now, key=lambda each: each.seeded_at, reverse=True)
            if not each.reserving.locked() and each.name not in self._resident
        ]
        for place, account in enumerate(idle):
            if place >= most or account.seeded_at < seeded_before:
                self.accounts.pop(account.name).wipe()
                self._queue.forget(account.name)

    def _open(self, consumer: str, lease: Lease) -> None:
        quota = self._make_quota(consumer, lease, self._clock())
        self.accounts[consumer] = Account(consumer, lease.terms, quota)

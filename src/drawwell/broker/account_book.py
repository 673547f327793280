"""The accounts that are open: each is opened at its consumer's first draw."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from heapq import nlargest

from drawwell.broker.account import Account, Lease, Terms
from drawwell.broker.queue import DrawQueue
from drawwell.entropy.quota import Quota, QuotaState
from drawwell.reports import ConsumerReport

Leasing = Callable[[str], Awaitable[Lease | None]]


async def none_else(_consumer: str) -> Lease | None:
    """Find no consumer but those that `set_terms` names."""
    return None


class AccountBook:
    """Opens accounts, and follows what changes about them.

    Args:
        queue: Draws that wait; a change of terms may matter to them.
        lease: Looks a consumer up, None if it may not draw; may raise StateUnavailable.
        clock: Seconds since the epoch, never stepping back.
    """

    def __init__(self, queue: DrawQueue, lease: Leasing, clock: Callable[[], float]) -> None:
        self.accounts: dict[str, Account] = {}
        self._queue = queue
        self._lease = lease
        self._clock = clock
        self._resident: frozenset[str] = frozenset()
        """Those that `set_terms` named last."""
        self._changes: Counter[str] = Counter()
        """How often each consumer changed: a lease that was read before is out of date."""

    async def open(self, consumer: str) -> Account | None:
        """Return the account of a consumer, opened if it is not open yet.

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
        """Follow a change of terms, None for a consumer that may no longer draw.

        What was spent stays spent.
        """
        self._changes[consumer] += 1
        account = self.accounts.get(consumer)
        if account is not None and terms is None:
            self.accounts.pop(consumer).wipe()
            self._queue.forget(consumer)
        elif account is not None and terms is not None and account.terms != terms:
            account.change(terms, self._clock())
        self._queue.wake_all()

    def set_terms(
        self, terms: Mapping[str, Terms], reserved: Callable[[str], QuotaState | None] = lambda _: None
    ) -> None:
        """Open the accounts of exactly these consumers before they draw.

        Those that were leased stay open. `reserved` returns what is on disk of a new one.
        """
        for name in self._resident - terms.keys():
            self.change(name, None)
        for name, wanted in terms.items():
            if name not in self.accounts:
                self._open(name, Lease(wanted, reserved(name)))
            self.change(name, wanted)
        self._resident = frozenset(terms)

    def busiest(self, most: int) -> tuple[ConsumerReport, ...]:
        """Report the accounts with the most draws.

        If there are no more than `most`, all are reported in the order of opening.
        """
        accounts, now = self.accounts.values(), self._clock()
        chosen = accounts if len(accounts) <= most else nlargest(most, accounts, key=lambda each: each.draws)
        return tuple(account.report(now) for account in chosen)

    def _open(self, consumer: str, lease: Lease) -> None:
        terms, reserved = lease
        quota = Quota(terms.rate, terms.total, now=self._clock(), restored=reserved)
        self.accounts[consumer] = Account(consumer, terms, quota)

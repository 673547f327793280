"""Several brokers behind one Upstream: the first that can serve, in the order given, or several of them mixed.

A broker that could not is left alone for a while: for as long as it said, else exponential backoff with full
jitter. A request goes to each broker at most once; one whose answer was lost there is a new one at the next.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, Unpack

from drawwell.backoff import Backoff
from drawwell.entropy.blocks import DrawClass, DrawOptions, Grant
from drawwell.errors import (
    AuthenticationFailed,
    DrawwellError,
    LinkUnavailable,
    RemoteProtocolError,
    Starved,
    StateUnavailable,
    UsageError,
)
from drawwell.ports import Upstream

log = logging.getLogger(__name__)
T = TypeVar("T")
_TRY_THE_NEXT: Final = (
    LinkUnavailable,
    AuthenticationFailed,
    RemoteProtocolError,
    Starved,
    StateUnavailable,
)
"""What says something about the broker. A quota or a refusal says something about us: the next is not asked."""


@dataclass(slots=True)
class BrokerHealth:
    """How a broker has done. `not_before_s` is on the clock of its Failover."""

    upstream: Upstream
    backoff: Backoff
    not_before_s: float = 0.0
    last_error: DrawwellError | None = None


class Failover:
    """An Upstream over `upstreams`.

    Args:
        upstreams: At least one, the preferred first.
        mix: So many brokers' bytes are XORed in every draw: one of them that lies or leaks learns and fixes nothing.
        jitter: A number from 0 to 1, fresh at each call.
        now: Seconds on a clock that never steps back.
        base_s: The longest first wait after a failure without a time; it doubles with each.
        cap_s: The longest wait of all.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        *,
        jitter: Callable[[], float],
        mix: int = 1,
        now: Callable[[], float] = time.monotonic,
        base_s: float = 0.5,
        cap_s: float = 60.0,
    ) -> None:
        self.brokers = tuple(BrokerHealth(upstream, Backoff(base_s, cap_s, jitter)) for upstream in upstreams)
        if not 1 <= mix <= len(upstreams):
            raise ValueError("cannot mix more brokers than there are")
        self._mix = mix
        self._now = now
        self._cap_s = cap_s

    @property
    def name(self) -> str:
        """The names of all."""
        return ", ".join(broker.upstream.name for broker in self.brokers)

    def wait_s(self) -> float:
        """Seconds until as many brokers as are mixed may be asked again, 0 for now."""
        return max(0.0, sorted(broker.not_before_s for broker in self.brokers)[self._mix - 1] - self._now())

    async def draw(self, n_bytes: int, draw_class: DrawClass, **options: Unpack[DrawOptions]) -> Grant:
        """Draw once from the first broker that can (Upstream); each is waited for `patience_s` at most.

        Raises:
            Starved: none can now, at least one for want of bytes; `retry_after_s` says when one may be asked.
            LinkUnavailable, AuthenticationFailed, StateUnavailable: none can now; `wait_s` says when.
        """
        if options.get("receipt") and self._mix > 1:
            raise UsageError(
                f"no receipt covers the bytes of {self._mix} brokers", hint="Draw from one: --via LINK."
            )
        grants = await self._some(self._mix, lambda upstream: upstream.draw(n_bytes, draw_class, **options))
        return grants[0] if len(grants) == 1 else _mixed(grants)

    async def call(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Ask the first broker that can answer (Upstream)."""
        return (await self._some(1, lambda upstream: upstream.call(verb, args)))[0]

    async def aclose(self) -> None:
        """Close all links (Upstream)."""
        for broker in self.brokers:
            await broker.upstream.aclose()

    async def _some(self, count: int, ask: Callable[[Upstream], Awaitable[T]]) -> list[T]:
        """Return the answers of the first `count` brokers that can; those of fewer are lost."""
        answers: list[T] = []
        able = [broker for broker in self.brokers if self._now() >= broker.not_before_s]
        for broker in able if len(able) >= count else ():
            try:
                answer = await ask(broker.upstream)
            except _TRY_THE_NEXT as error:
                self._failed(broker, error)
            else:
                if broker.last_error is not None:
                    log.info("%s can be drawn from again", broker.upstream.name)
                broker.backoff.reset()
                broker.not_before_s, broker.last_error = 0.0, None
                answers.append(answer)
            if len(answers) == count:
                return answers
        raise self._none()

    def _failed(self, broker: BrokerHealth, error: DrawwellError) -> None:
        if broker.last_error is None:
            log.info("%s cannot be drawn from: %s", broker.upstream.name, error)
        broker.last_error = error
        wait_s = error.retry_after_s if isinstance(error, Starved) else None
        if wait_s is None:
            wait_s = broker.backoff.next_s()
        broker.not_before_s = self._now() + min(wait_s, self._cap_s)

    def _none(self) -> DrawwellError:
        """Make the error that helps most: a starved broker is alive."""
        errors = [broker.last_error for broker in self.brokers if broker.last_error is not None]
        error = next((error for error in errors if isinstance(error, Starved)), errors[0])
        if isinstance(error, Starved):
            return type(error)(str(error), retry_after_s=self.wait_s(), estimate=True, hint=error.hint)
        return type(error)(str(error), hint=error.hint)


def _mixed(grants: Sequence[Grant]) -> Grant:
    """XOR the bytes of several brokers; the result goes by the first one's serial number."""
    mixed = 0
    for grant in grants:
        mixed ^= int.from_bytes(grant.data, "little")
    return Grant(mixed.to_bytes(len(grants[0]), "little"), grants[0].serial, grants[0].draw_class)

"""Several brokers as one Upstream: the first that can serve, or a mix.

A failed broker is skipped for the time that it stated, or for an exponential backoff with full
jitter. A request is sent to each broker at most once. After a lost answer, the next broker
gets a new request.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, Unpack

from drawwell.backoff import Backoff
from drawwell.entropy.blocks import DrawClass, DrawOptions, Grant
from drawwell.entropy.mixing import mixed
from drawwell.errors import (
    AuthenticationFailed,
    DrawwellError,
    LinkUnavailable,
    RemoteProtocolError,
    Starved,
    StateUnavailable,
)
from drawwell.links.link import Link
from drawwell.ports import Upstream

log = logging.getLogger(__name__)
T = TypeVar("T")
DEVICES_KEEP_S: Final = 10.0
"""How long a list of devices is valid: not long, because a stick can be moved."""
_MOST_DEVICES: Final = 32
"""The maximum number of a broker's sources (config/broker_side.py)."""
_TRY_THE_NEXT: Final = (
    LinkUnavailable,
    AuthenticationFailed,
    RemoteProtocolError,
    Starved,
    StateUnavailable,
)
"""The errors after which the next broker is tried. A quota or another refusal is final."""


@dataclass(slots=True)
class BrokerHealth:
    """The state of a broker and its devices.

    Times use the clock of the Failover. A broker without `devices` counts as having its own
    device.
    """

    upstream: Upstream
    backoff: Backoff
    not_before_s: float = 0.0
    last_error: DrawwellError | None = None
    devices: frozenset[str] = frozenset()
    devices_at_s: float = -math.inf


class Failover:
    """An Upstream over several brokers.

    Args:
        upstreams: At least one upstream, in order of preference.
        mix: The number of brokers whose bytes are XORed in each draw; their devices differ.
        jitter: Returns a new random number from 0 to 1.
        now: Returns seconds on a clock that never steps back.
        base_s: The longest wait after a first failure, if the broker states no time. Each
            further failure doubles it.
        cap_s: The longest wait.
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
        self.mix = mix
        self._backoff = base_s, cap_s, jitter
        self.brokers = tuple(map(self._watched, upstreams))
        if not 1 <= mix <= len(upstreams):
            raise ValueError(f"cannot mix {mix} of {len(upstreams)} brokers")
        self._now = now
        self._cap_s = cap_s

    def follow(self, upstreams: Sequence[Upstream]) -> None:
        """Replace the brokers, preferred first; keep the state of known brokers."""
        health = {id(broker.upstream): broker for broker in self.brokers}
        self.brokers = tuple(health.get(id(each)) or self._watched(each) for each in upstreams)

    def _watched(self, upstream: Upstream) -> BrokerHealth:
        return BrokerHealth(upstream, Backoff(*self._backoff))

    @property
    def renew_only(self) -> bool:
        """Whether a broker's last welcome allows only a renewal."""
        return any(isinstance(each.upstream, Link) and each.upstream.renew_only for each in self.brokers)

    @property
    def name(self) -> str:
        """The names of all brokers."""
        return ", ".join(broker.upstream.name for broker in self.brokers)

    def wait_s(self) -> float:
        """Return the seconds until enough brokers can be tried; 0 means now."""
        return max(0.0, sorted(broker.not_before_s for broker in self.brokers)[self.mix - 1] - self._now())

    async def draw(self, n_bytes: int, draw_class: DrawClass, **options: Unpack[DrawOptions]) -> Grant:
        """Draw from the first broker that can; each may wait `patience_s`.

        Raises:
            Starved: no broker can serve now, and at least one is starved; see `retry_after_s`.
            LinkUnavailable, AuthenticationFailed, StateUnavailable: no broker can serve now;
                see `wait_s`.
            LinkUnavailable: too few brokers have different devices.
        """
        if self.mix > 1:
            await self._learn_devices()
        return mixed(
            await self._some(self.mix, lambda upstream: upstream.draw(n_bytes, draw_class, **options))
        )

    async def call(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Call the first broker that can answer (Upstream)."""
        return (await self._some(1, lambda upstream: upstream.call(verb, args)))[0]

    async def aclose(self) -> None:
        """Close all links (Upstream)."""
        for broker in self.brokers:
            await broker.upstream.aclose()

    async def _some(self, count: int, ask: Callable[[Upstream], Awaitable[T]]) -> list[T]:
        """Return the answers of the first `count` brokers that answer, or raise."""
        answers: list[T] = []
        used: frozenset[str] = frozenset()
        able = self._able()
        while len(answers) < count:
            chosen = of_different_devices(able, count - len(answers), used)
            if not chosen:
                raise self._none() if len(able) + len(answers) < count else self._shared()
            able.remove(broker := chosen[0])
            try:
                answer = await ask(broker.upstream)
            except _TRY_THE_NEXT as error:
                self._failed(broker, error)
            else:
                if broker.last_error is not None:
                    log.info("%s serves draws again", broker.upstream.name)
                broker.backoff.reset()
                broker.not_before_s, broker.last_error = 0.0, None
                answers.append(answer)
                used |= broker.devices
        return answers

    def _able(self) -> list[BrokerHealth]:
        return [broker for broker in self.brokers if self._now() >= broker.not_before_s]

    async def _learn_devices(self) -> None:
        """Query the brokers' devices unless they are known."""
        old = [broker for broker in self._able() if self._now() - broker.devices_at_s >= DEVICES_KEEP_S]
        await asyncio.gather(*(self._learn_devices_of(broker) for broker in old))

    async def _learn_devices_of(self, broker: BrokerHealth) -> None:
        try:
            status = await broker.upstream.call("status", {})
            broker.devices = _devices(status)
            broker.devices_at_s = self._now()
        except _TRY_THE_NEXT as error:
            self._failed(broker, error)

    def _failed(self, broker: BrokerHealth, error: DrawwellError) -> None:
        if broker.last_error is None:
            log.info("%s does not serve draws: %s", broker.upstream.name, error)
        broker.last_error = error
        wait_s = error.retry_after_s if isinstance(error, Starved) else None
        if wait_s is None:
            wait_s = broker.backoff.next_s()
        broker.not_before_s = self._now() + min(wait_s, self._cap_s)

    def _none(self) -> DrawwellError:
        """Create the most helpful error: Starved if there is one, else the first."""
        errors = [broker.last_error for broker in self.brokers if broker.last_error is not None]
        error = next((error for error in errors if isinstance(error, Starved)), errors[0])
        if isinstance(error, Starved):
            return type(error)(str(error), retry_after_s=self.wait_s(), estimate=True, hint=error.hint)
        return type(error)(str(error), hint=error.hint)

    def _shared(self) -> DrawwellError:
        return LinkUnavailable(
            f"fewer than {self.mix} of these brokers have different devices: {self.name}",
            hint="Add an [[upstream]] with another device, or reduce mix in [links].",
        )


def of_different_devices(
    brokers: Sequence[BrokerHealth], count: int, used: frozenset[str] = frozenset()
) -> list[BrokerHealth]:
    """Return the first `count` brokers with different devices.

    Skips brokers with a device in `used`. Returns [] if too few brokers are left.
    """
    for place, broker in enumerate(brokers):
        if broker.devices.isdisjoint(used):
            others = brokers[place + 1 :]
            chosen = of_different_devices(others, count - 1, used | broker.devices) if count > 1 else []
            if len(chosen) == count - 1:
                return [broker, *chosen]
    return []


def _devices(status: dict[str, Any]) -> frozenset[str]:
    """Return the devices in a broker's status; an old broker reports none."""
    devices = status.get("devices", [])
    if not isinstance(devices, list) or not all(isinstance(each, str) for each in devices[:_MOST_DEVICES]):
        raise RemoteProtocolError("devices in the broker's status must be strings")
    return frozenset(devices[:_MOST_DEVICES])

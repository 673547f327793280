"""The guests of one broker: who they are, their doors, and what the owner asks about them."""

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from drawwell.authorisation import Principal
from drawwell.broker.account import Terms
from drawwell.broker.broker import LocalBroker
from drawwell.doors.qemu_egd.door import GuestEgdDoor
from drawwell.enrolment.terms import changed, check_name
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawRefused, Starved, UsageError
from drawwell.guests.model import ATTACHMENTS, Attachment, GuestKind, other_kind
from drawwell.reports import GuestReport
from drawwell.roles.guest_door import GuestListener
from drawwell.service.systemd import Manager
from drawwell.state.rows import ConsumerRow, GuestRow
from drawwell.state.store import Store
from drawwell.verbs import Handler

HELD_BYTES: Final = 256
"""At hand while a guest's device is unplugged: a driver that nobody reads from asks for 64 once or twice."""
PROMPT_S: Final = 30.0
"""How long a settled guest's rate is lifted: its device is unplugged meanwhile."""
_LOOK_S: Final = 0.02


class Guests:
    """Keeps the guests' doors and answers the owner's verbs about them.

    Args:
        broker: Who is asked.
        store: Where guests are written.
        run_dir: Where their directories are.
        manager: Keeps their connections while the broker is down.
        taken: The names of those who are consumers already.
        follow: Called when somebody's terms have changed.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        broker: LocalBroker,
        store: Store,
        run_dir: str,
        manager: Manager,
        *,
        taken: Callable[[], Collection[str]],
        follow: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._store = store
        self._run_dir = run_dir
        self._manager = manager
        self._taken = taken
        self._follow = follow
        self._clock = clock
        self._entrances = {name: self._entrance(row) for name, row in store.guests().items()}
        self._prompt: dict[str, asyncio.TimerHandle] = {}
        """Those whose rate is lifted, until then."""
        self._changing = asyncio.Lock()
        self._tasks: asyncio.TaskGroup | None = None

    def terms(self) -> Mapping[str, Terms]:
        """Return what each guest may have."""
        return {name: self._terms(entrance.row) for name, entrance in self._entrances.items()}

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the verbs about guests."""
        return {
            "guest.add": self._add,
            "guest.settle": self._settle,
            "guest.remove": self._remove,
            "guest.list": self._list,
        }

    async def run(self) -> None:
        """Keep the doors open until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            try:
                for entrance in self._entrances.values():
                    self._tasks.create_task(entrance.open(self._tasks.create_task))
                await asyncio.get_running_loop().create_future()
            finally:
                for timer in self._prompt.values():
                    timer.cancel()
                for entrance in self._entrances.values():
                    await entrance.close(for_good=False)

    # ---- for the owner -----------------------------------------------------------------------------------

    async def _add(self, _owner: Principal, name: str, kind: str, via: str, **changes: Any) -> dict[str, Any]:
        """Add a guest, or change what is said of it; what is not named stays, ``none`` lifts an allowance.

        Raises:
            UsageError: an argument makes no sense, or the name is taken.
            PermissionRefused, ConfigError: its socket cannot be made, or given to its user; a new guest is not added.
        """
        check_name(name)
        guest_kind, attachment = _way(kind, via)
        async with self._changing:
            entrance = self._entrances.get(name)
            if entrance is None and name in self._taken():
                raise UsageError(f"consumer {name} is no guest", hint="Choose another name for the guest.")
            if entrance and entrance.row.kind != guest_kind:
                raise other_kind(name, entrance.row.kind)
            known_row = entrance.row if entrance else GuestRow(self._consumer(name), guest_kind, attachment)
            row = _changed(known_row, guest_kind, attachment, **changes)
            known = entrance is not None and entrance.row.via == row.via
            if entrance is None or not known:
                await self._put(row)
                if entrance:
                    await entrance.close(for_good=True)
                entrance = self._entrances[name] = self._entrance(row)
            entrance.update(row)
            self._follow()
            if known:  # other limits hold at once, as a revocation does
                change, write = f"guest {name} has other limits", partial(self._store.put_guest, row)
                await asyncio.to_thread(self._store.overdue.write, change, write)
            await self._open(entrance, known=known)
            entrance.follow()
        return self._document(entrance)

    async def _settle(self, _owner: Principal, name: str, timeout_s: float) -> dict[str, Any]:
        """Answer what the guest is owed, and be ready to answer at once while its device is unplugged.

        Raises:
            Starved: something was still owed after `timeout_s`.
        """
        await self._until_settled(self._known(name), timeout_s, held_bytes=HELD_BYTES)
        return {"name": name, "owed_bytes": 0, "prompt_s": PROMPT_S}

    async def _remove(self, _owner: Principal, name: str, timeout_s: float) -> dict[str, Any]:
        """Answer what the guest is owed, close its door and forget it.

        Raises:
            Starved: something was still owed after `timeout_s`; everything is as it was.
            StateUnavailable: it is removed, but that is not written yet.
        """
        entrance = self._known(name)
        await self._until_settled(entrance, timeout_s)
        async with self._changing:
            self._entrances.pop(name, None)
            self._end_prompt(name)
            await entrance.close(for_good=True)
            self._follow()
            change, write = f"guest {name} is removed", partial(self._store.remove_guest, name)
            await asyncio.to_thread(self._store.overdue.write, change, write)
        return {"name": name, "removed": True}

    async def _list(self, _owner: Principal) -> dict[str, Any]:
        return {"guests": [self._document(entrance) for _, entrance in sorted(self._entrances.items())]}

    # ---- inside ------------------------------------------------------------------------------------------

    async def _put(self, row: GuestRow) -> None:
        """Write a guest that was not here, or is reached another way now."""
        await asyncio.to_thread(self._store.overdue.retry)
        if not await asyncio.to_thread(self._store.put_guest, row):
            raise UsageError(
                f"consumer {row.name} was invited here", hint="Choose another name for the guest."
            )

    def _entrance(self, row: GuestRow) -> GuestListener:
        return GuestListener(row, self._run_dir, self._broker, self._broker.rules.name, self._manager)

    async def _open(self, entrance: GuestListener, *, known: bool) -> None:
        assert self._tasks is not None  # noqa: S101 - verbs come in by doors, which are open while we run
        await entrance.open(self._tasks.create_task)
        if entrance.fault:
            if not known:
                name = entrance.row.name
                del self._entrances[name]
                await asyncio.to_thread(self._store.remove_guest, name)
                await entrance.close(for_good=True)
                self._follow()
            raise entrance.fault

    async def _until_settled(self, entrance: GuestListener, timeout_s: float, held_bytes: int = 0) -> None:
        door, name = entrance.egd, entrance.row.name
        if door is None:
            return
        self._begin_prompt(name)
        try:
            async with asyncio.timeout(timeout_s):
                while door.owed_bytes:  # noqa: ASYNC110 - it changes by what QEMU says, too
                    await asyncio.sleep(_LOOK_S)
                await door.hold(held_bytes)
        except (TimeoutError, DrawRefused):
            error = self._starved(entrance.row.name, door)
            self._end_prompt(name)
            raise error from None

    def _starved(self, name: str, door: GuestEgdDoor) -> Starved:
        why = door.waits or self._broker.not_ready_because() or "bytes are short"
        owed_bytes = door.owed_bytes
        return Starved(
            f"guest {name} is owed {owed_bytes} bytes: {why}"
            if owed_bytes
            else f"nothing can be kept at hand for guest {name}: {why}",
            hint="Wait until it can be answered and try again: to unplug its device now may crash QEMU.",
        )

    def _begin_prompt(self, name: str) -> None:
        if name in self._prompt:
            self._prompt.pop(name).cancel()
        self._prompt[name] = asyncio.get_running_loop().call_later(PROMPT_S, self._end_prompt, name)
        self._follow()
        if door := self._entrances[name].egd:
            door.look_again()

    def _end_prompt(self, name: str) -> None:
        if name in self._prompt:
            self._prompt.pop(name).cancel()
        entrance = self._entrances.get(name)
        if entrance and entrance.egd:
            entrance.egd.let_go()
        self._follow()

    def _consumer(self, name: str) -> ConsumerRow:
        return ConsumerRow(name, None, None, frozenset({DrawClass.FULL}), self._clock())

    def _known(self, name: str) -> GuestListener:
        if name not in self._entrances:
            raise UsageError(
                f"no guest {name!r} is known here", hint="See 'drawwell guest list' for the names."
            )
        return self._entrances[name]

    def _terms(self, row: GuestRow) -> Terms:
        rate = None if row.name in self._prompt else row.consumer.rate
        return Terms(row.consumer.classes, rate, row.consumer.quota, guest=f"{row.kind}, {row.via}")

    def _document(self, entrance: GuestListener) -> dict[str, Any]:
        row, account, egd = entrance.row, self._broker.accounts.get(entrance.row.name), entrance.egd
        granted_bytes = account.full_bytes + account.drbg_bytes if account else 0
        return {
            "name": row.name,
            "kind": row.kind,
            "via": row.via,
            "rate": str(row.consumer.rate or ""),
            "quota": str(row.consumer.quota or ""),
            "class": "+".join(sorted(row.consumer.classes)),
            "socket": entrance.socket,
            "uid": row.uid,
            "gid": row.gid,
            "connected": entrance.door.sessions if entrance.door else 0,
            "turned_away_uid": entrance.turned_away_uid,
            "owed_bytes": egd.owed_bytes if egd else 0,
            "asked": egd.asked if egd else account.draws + account.refused if account else 0,
            "full_bytes": account.full_bytes if account else 0,
            "drbg_bytes": account.drbg_bytes if account else 0,
            "consumed_bytes": egd.read_bytes if egd else granted_bytes,
            "in_flight_bytes": egd.in_flight_bytes if egd else 0,
            "waits": egd.waits if egd else "",
            "fault": entrance.trouble,
        }

    def reports(self) -> tuple[GuestReport, ...]:
        """Return how the guests are."""
        kept = {each.name for each in dataclasses.fields(GuestReport)}
        documents = (self._document(entrance) for entrance in self._entrances.values())
        return tuple(GuestReport(**{k: v for k, v in each.items() if k in kept}) for each in documents)

    def listed(self) -> tuple[str, ...]:
        """Return the doors, for the status."""
        return tuple(
            f"guest {entrance.row.name} ({entrance.row.kind}, {entrance.row.via}) {entrance.socket}".rstrip()
            for entrance in self._entrances.values()
        )

    def trouble(self) -> str:
        """Say which guests have no door, which wait, and who came for one in vain."""
        found = []
        for name, entrance in self._entrances.items():
            if entrance.trouble:
                found.append(f"guest {name} has no door: {entrance.trouble}")
            elif entrance.egd and entrance.egd.waits:
                found.append(f"guest {name} waits: {entrance.egd.waits}")
            elif entrance.turned_away_uid is not None and not (entrance.door and entrance.door.sessions):
                found.append(f"guest {name} turned user {entrance.turned_away_uid} away")
        return "; ".join(found)


def _way(kind_name: str, via_name: str) -> tuple[GuestKind, Attachment]:
    """Read kind and way in; raises UsageError."""
    try:
        kind, via = GuestKind(kind_name), Attachment(via_name)
    except ValueError:
        raise UsageError(
            "a guest has a kind and a way in",
            hint=f"Kinds are {', '.join(GuestKind)}; ways in are {', '.join(Attachment)}.",
        ) from None
    if via not in ATTACHMENTS[kind]:
        raise UsageError(
            f"a guest of {kind} has no way in by {via}", hint=f"Use {' or '.join(ATTACHMENTS[kind])}."
        )
    return kind, via


def _changed(
    row: GuestRow, kind: GuestKind, via: Attachment, uid: int | None, gid: int | None, **terms: str | None
) -> GuestRow:
    """Return `row` with what is not None changed; a new user does not keep the group of the one before."""
    group = row.gid if gid is None and uid is None else gid
    consumer = changed(row.consumer, **terms, stream=None)
    return replace(row, consumer=consumer, kind=kind, via=via, uid=row.uid if uid is None else uid, gid=group)

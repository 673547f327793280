"""The guests of one broker: their doors, and the owner's verbs for them."""

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from drawwell.authorisation import Principal
from drawwell.broker.account import Terms
from drawwell.broker.audit import Auditor
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
"""Bytes reserved while a device is unplugged: an idle driver reads 64 bytes once or twice."""
PROMPT_S: Final = 30.0
"""How long a settled guest has no rate limit, so that its device can be unplugged."""
_LOOK_S: Final = 0.02


class Guests:
    """Keeps the guests' doors open and answers the owner's verbs for them.

    Args:
        broker: Serves the draws.
        store: Stores the guests.
        run_dir: The directory that contains the guests' directories.
        manager: Stores guests' connections while the broker restarts.
        auditor: Counts the peers that the guests' doors reject.
        taken: Returns the names of existing consumers.
        follow: Called when a guest's terms have changed.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        broker: LocalBroker,
        store: Store,
        run_dir: str,
        manager: Manager,
        auditor: Auditor,
        *,
        taken: Callable[[], Collection[str]],
        follow: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._store = store
        self._run_dir = run_dir
        self._manager = manager
        self._auditor = auditor
        self._taken = taken
        self._follow = follow
        self._clock = clock
        self._entrances = {name: self._entrance(row) for name, row in store.guests().items()}
        self._prompt: dict[str, asyncio.TimerHandle] = {}
        """Timers of the guests that temporarily have no rate limit."""
        self._changing = asyncio.Lock()
        self._tasks: asyncio.TaskGroup | None = None

    def terms(self) -> Mapping[str, Terms]:
        """Return each guest's terms."""
        return {name: self._terms(entrance.row) for name, entrance in self._entrances.items()}

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the guest verbs."""
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

    # ---- the owner's verbs -----------------------------------------------------------------

    async def _add(self, _owner: Principal, name: str, kind: str, via: str, **changes: Any) -> dict[str, Any]:
        """Add or change a guest; keep omitted terms; ``none`` removes a limit.

        Raises:
            UsageError: an argument is invalid, or the name is taken.
            PermissionRefused, ConfigError: the guest's socket cannot be opened; a new guest is
                not added.
        """
        check_name(name)
        guest_kind, attachment = _way(kind, via)
        async with self._changing:
            entrance = self._entrances.get(name)
            if entrance is None and name in self._taken():
                raise UsageError(f"consumer {name} is not a guest", hint="Choose another name for the guest.")
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
            if known:  # new limits take effect at once, as a revocation does
                change, write = f"guest {name} has new limits", partial(self._store.put_guest, row)
                await asyncio.to_thread(self._store.overdue.write, change, write)
            await self._open(entrance, known=known)
            entrance.follow()
        return self._document(entrance)

    async def _settle(self, _owner: Principal, name: str, timeout_s: float) -> dict[str, Any]:
        """Send the bytes owed to the guest, and reserve some for the unplugging.

        Raises:
            Starved: the guest was still owed bytes after `timeout_s`.
        """
        await self._until_settled(self._known(name), timeout_s, held_bytes=HELD_BYTES)
        return {"name": name, "owed_bytes": 0, "prompt_s": PROMPT_S}

    async def _remove(self, _owner: Principal, name: str, timeout_s: float) -> dict[str, Any]:
        """Send the bytes owed to the guest, close its door and forget it.

        Raises:
            Starved: the guest was still owed bytes after `timeout_s`; nothing changed.
            StateUnavailable: the guest is removed, but this is not stored yet.
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

    # ---- internals -------------------------------------------------------------------------

    async def _put(self, row: GuestRow) -> None:
        """Store a guest that is new or whose attachment has changed."""
        await asyncio.to_thread(self._store.overdue.retry)
        if not await asyncio.to_thread(self._store.put_guest, row):
            raise UsageError(
                f"{row.name} is the name of an invited consumer", hint="Choose another name for the guest."
            )

    def _entrance(self, row: GuestRow) -> GuestListener:
        return GuestListener(row, self._run_dir, self._broker, self._manager, self._auditor)

    async def _open(self, entrance: GuestListener, *, known: bool) -> None:
        assert self._tasks is not None  # noqa: S101 - verbs arrive at doors, which are open while we run
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
                while door.owed_bytes:  # noqa: ASYNC110 - QEMU's reads also change this
                    await asyncio.sleep(_LOOK_S)
                await door.hold(held_bytes)
        except (TimeoutError, DrawRefused):
            error = self._starved(name, door)
            self._end_prompt(name)
            raise error from None

    def _starved(self, name: str, door: GuestEgdDoor) -> Starved:
        why = door.waits or self._broker.not_ready_because(name) or "there are not enough bytes"
        owed_bytes = door.owed_bytes
        return Starved(
            f"guest {name} is owed {owed_bytes} bytes: {why}"
            if owed_bytes
            else f"no bytes can be kept for guest {name}: {why}",
            hint="Wait and try again. If its device is unplugged now, QEMU may crash.",
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
            entrance.egd.drop_held()
        self._follow()

    def _consumer(self, name: str) -> ConsumerRow:
        return ConsumerRow(name, None, None, frozenset({DrawClass.FULL}), self._clock())

    def _known(self, name: str) -> GuestListener:
        if name not in self._entrances:
            raise UsageError(f"unknown guest {name!r}", hint="'drawwell guest list' shows the names.")
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
        """Return the guests' reports."""
        kept = {each.name for each in dataclasses.fields(GuestReport)}
        documents = (self._document(entrance) for entrance in self._entrances.values())
        return tuple(GuestReport(**{k: v for k, v in each.items() if k in kept}) for each in documents)

    def listed(self) -> tuple[str, ...]:
        """Return descriptions of the doors for the status."""
        return tuple(
            f"guest {entrance.row.name} ({entrance.row.kind}, {entrance.row.via}) {entrance.socket}".rstrip()
            for entrance in self._entrances.values()
        )

    def trouble(self) -> str:
        """Describe guests that have no door or no bytes, or had a user rejected."""
        found = []
        for name, entrance in self._entrances.items():
            if entrance.trouble:
                found.append(f"guest {name} has no door: {entrance.trouble}")
            elif entrance.egd and entrance.egd.waits:
                found.append(f"guest {name} waits: {entrance.egd.waits}")
            elif entrance.turned_away_uid is not None and not (entrance.door and entrance.door.sessions):
                found.append(f"guest {name}: user ID {entrance.turned_away_uid} was rejected")
        return "; ".join(found)


def _way(kind_name: str, via_name: str) -> tuple[GuestKind, Attachment]:
    """Parse the kind and the attachment; raise UsageError if invalid."""
    try:
        kind, via = GuestKind(kind_name), Attachment(via_name)
    except ValueError:
        raise UsageError(
            "unknown kind of guest or attachment",
            hint=f"Kinds are {', '.join(GuestKind)}; attachments are {', '.join(Attachment)}.",
        ) from None
    if via not in ATTACHMENTS[kind]:
        raise UsageError(
            f"a guest of kind {kind} cannot use the attachment {via}",
            hint=f"Use {' or '.join(ATTACHMENTS[kind])}.",
        )
    return kind, via


def _changed(
    row: GuestRow, kind: GuestKind, via: Attachment, uid: int | None, gid: int | None, **terms: str | None
) -> GuestRow:
    """Return `row` with these changes; setting a user clears the old group."""
    group = row.gid if gid is None and uid is None else gid
    consumer = changed(row.consumer, **terms, stream=None)
    return replace(row, consumer=consumer, kind=kind, via=via, uid=row.uid if uid is None else uid, gid=group)

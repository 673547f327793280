"""The door of one guest; a failure affects only this guest."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

from drawwell.broker.audit import Auditor
from drawwell.broker.broker import LocalBroker
from drawwell.doors.door import Door
from drawwell.doors.qemu_egd.door import GuestEgdDoor
from drawwell.doors.unix import GuestDoor
from drawwell.doors.usb import UsbDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawwellError, GuestUnavailable
from drawwell.guests.model import SOCKETS, Attachment, guest_directory
from drawwell.roles.directories import make_guest_directory, remove_guest_directory
from drawwell.service.faults import log_fault
from drawwell.service.systemd import Manager
from drawwell.state.rows import GuestRow

RETRY_S = 10.0
"""Delay before retrying a failed door."""
SOCKET_MODE = 0o666
"""Any user can connect; the door checks the user, because the broker cannot chown a socket."""
_PLENTY = 16
"""At most 1/16 of the available bytes is sent before the guest requests it."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

log = logging.getLogger("drawwell.guests")


class GuestListener:
    """Keeps one guest's door open.

    Args:
        row: The guest.
        run_dir: The directory of the broker's sockets.
        broker: Serves the draws.
        manager: Stores descriptors while the broker restarts.
        auditor: Counts the peers that the door rejects.
    """

    def __init__(
        self,
        row: GuestRow,
        run_dir: str,
        broker: LocalBroker,
        manager: Manager,
        auditor: Auditor,
    ) -> None:
        self.row = row
        self.door: Door | None = None
        self.fault: DrawwellError | None = None
        """Why the door is closed."""
        self.turned_away_uid: int | None = None
        """The user rejected last; None once a user has been admitted."""
        self._directory = guest_directory(run_dir, row.name)
        self._broker = broker
        self._manager = manager
        self._auditor = auditor
        self._kept_as = f"guest.{row.name}"
        self._task: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()

    @property
    def socket(self) -> str:
        """The path of the guest's socket; "" if it has none."""
        file = SOCKETS.get(Attachment(self.row.via), "")
        return os.path.join(self._directory, file) if file else ""

    @property
    def egd(self) -> GuestEgdDoor | None:
        """The door if it counts the bytes owed to the guest; else None."""
        return self.door if isinstance(self.door, GuestEgdDoor) else None

    @property
    def trouble(self) -> str:
        """Why the guest cannot connect; "" if it can."""
        if self.fault:
            return str(self.fault)
        return f"{self.socket} was removed; add the guest again" if self._lost() else ""

    async def open(self, spawn: Spawn) -> None:
        """Open or reopen the door; return once it is open or has failed."""
        if self._lost():
            await self.close(for_good=True)
            self._looked.clear()
        if self.socket and self._task is None:
            self._task = spawn(self._keep_open(spawn))
            await self._looked.wait()

    def update(self, row: GuestRow) -> None:
        """Store changed terms; `follow` applies them to an open door."""
        self.row = row

    def follow(self) -> None:
        """Apply the stored terms to the open door."""
        if isinstance(self.door, GuestEgdDoor | UsbDoor):
            self.door.change_class(served_class(self.row))
        if self.door:
            self.door.recheck()
        if self.egd:
            self.egd.look_again()

    async def close(self, *, for_good: bool) -> None:
        """Close the door; `for_good`: also end connections and remove its files."""
        if for_good and self.door:
            self.door.drop_all()
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if for_good:
            self._manager.forget(self._kept_as)
            self._auditor.unwatch(self._counted_as)
            remove_guest_directory(self._directory)

    @property
    def _counted_as(self) -> str:
        return f"guest {self.row.name}"

    async def _keep_open(self, spawn: Spawn) -> None:
        while True:
            try:
                await self._serve(spawn)
            except DrawwellError as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - one door must not stop the others
                self.fault = GuestUnavailable("a bug in drawwell; see the broker's log")
                log_fault(f"the door of guest {self.row.name}", error)
            self._looked.set()
            await asyncio.sleep(RETRY_S)

    async def _serve(self, spawn: Spawn) -> None:
        make_guest_directory(self._directory)
        door = self.door = self._make_door()
        self._auditor.watch(self._counted_as, door)
        noted = spawn(self._note(door))
        try:
            await door.serve()
        finally:
            noted.cancel()

    async def _note(self, door: Door) -> None:
        """Mark the door as open once it listens."""
        await door.ready.wait()
        self.fault = None
        self._looked.set()

    def _lost(self) -> bool:
        """Whether the door is open but its socket file no longer exists."""
        return bool(self.door and self.door.ready.is_set() and not os.path.lexists(self.socket))

    def _expects(self, uid: int, gid: int) -> bool:
        """Return whether the user is root, our own user or the guest's user."""
        expected = uid in {0, os.geteuid(), self.row.uid} or gid == self.row.gid
        self.turned_away_uid = None if expected else uid
        return expected

    def _fail(self, error: DrawwellError) -> None:
        if str(error) != str(self.fault):
            log.error("cannot open the door of guest %s: %s", self.row.name, error)
        self.fault = error

    def _make_door(self) -> Door:
        row, path = self.row, self.socket
        if row.via == Attachment.SOCKET:
            return GuestDoor(
                path,
                self._broker,
                row.name,
                mode=SOCKET_MODE,
                broker_name=self._broker.rules.name,
                expects=self._expects,
            )
        if row.via == Attachment.USB_VIRTUAL:
            return self._make_usb_door()
        return GuestEgdDoor(
            path,
            self._broker,
            row.name,
            served_class(row),
            mode=SOCKET_MODE,
            inherited=self._manager.inherited(self._kept_as),
            keep=lambda sock: self._manager.store(self._kept_as, sock.fileno()),
            plenty=self._plenty,
            expects=self._expects,
        )

    def _plenty(self) -> int:
        """Return how many bytes to send unrequested; 0 for a guest with a rate."""
        if self.row.consumer.rate:
            return 0
        available = self._broker.available_bytes(self.row.name, served_class(self.row))
        return min(self._broker.rules.max_draw_bytes // 2, available // _PLENTY)

    def _make_usb_door(self) -> Door:
        return UsbDoor(
            self.socket,
            self._broker,
            self.row.name,
            served_class(self.row),
            mode=SOCKET_MODE,
            expects=self._expects,
        )


def served_class(row: GuestRow) -> DrawClass:
    """Return the class for a guest that cannot choose a class."""
    return DrawClass.FULL if DrawClass.FULL in row.consumer.classes else DrawClass.DRBG

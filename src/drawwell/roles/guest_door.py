"""The door of one guest, from its making to its end; what fails here costs that guest, and nothing else."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

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
"""How soon a door that could not be opened is tried again."""
SOCKET_MODE = 0o666
"""Who may come in the kernel says at the door: to give files away takes a right that the broker does not have."""
_PLENTY = 16
"""There is plenty as long as so many times as much is there."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

log = logging.getLogger("drawwell.guests")


class GuestListener:
    """Keeps one guest's door open.

    Args:
        row: The guest.
        run_dir: Where the broker's sockets are.
        broker: Who is asked.
        broker_name: How it calls itself.
        manager: Keeps descriptors while the broker is down.
    """

    def __init__(
        self, row: GuestRow, run_dir: str, broker: LocalBroker, broker_name: str, manager: Manager
    ) -> None:
        self.row = row
        self.door: Door | None = None
        self.fault: DrawwellError | None = None
        """Why the door is not open."""
        self.turned_away_uid: int | None = None
        """Who was turned away last, since somebody came in."""
        self._directory = guest_directory(run_dir, row.name)
        self._broker = broker
        self._broker_name = broker_name
        self._manager = manager
        self._kept_as = f"guest.{row.name}"
        self._task: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()

    @property
    def socket(self) -> str:
        """The path of the guest's socket, "" for a way in without one."""
        file = SOCKETS.get(Attachment(self.row.via), "")
        return os.path.join(self._directory, file) if file else ""

    @property
    def egd(self) -> GuestEgdDoor | None:
        """The door, where it is one whose debts are known."""
        return self.door if isinstance(self.door, GuestEgdDoor) else None

    @property
    def trouble(self) -> str:
        """Why nobody can come in, "" when they can."""
        if self.fault:
            return str(self.fault)
        return f"{self.socket} was removed; add the guest again" if self._lost() else ""

    async def open(self, spawn: Spawn) -> None:
        """Open the door and return when it is, or why not is known; one whose socket was removed is opened anew."""
        if self._lost():
            await self.close(for_good=True)
            self._looked.clear()
        if self.socket and self._task is None:
            self._task = spawn(self._keep_open(spawn))
            await self._looked.wait()

    def update(self, row: GuestRow) -> None:
        """Take over what the operator changed; `follow` tells an open door."""
        self.row = row

    def follow(self) -> None:
        """Have the open door do as the row says now."""
        if isinstance(self.door, GuestEgdDoor | UsbDoor):
            self.door.change_class(served_class(self.row))
        if self.door:
            self.door.recheck()
        if self.egd:
            self.egd.look_again()

    async def close(self, *, for_good: bool) -> None:
        """Close it; `for_good` ends its connections, takes away its directory and has nothing kept."""
        if for_good and self.door:
            self.door.drop_all()
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if for_good:
            self._manager.forget(self._kept_as)
            remove_guest_directory(self._directory)

    async def _keep_open(self, spawn: Spawn) -> None:
        while True:
            try:
                await self._serve(spawn)
            except DrawwellError as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - whatever it is: the others' doors stay open
                self.fault = GuestUnavailable("a fault in drawwell")
                log_fault(f"the door of guest {self.row.name}", error)
            self._looked.set()
            await asyncio.sleep(RETRY_S)

    async def _serve(self, spawn: Spawn) -> None:
        make_guest_directory(self._directory)
        door = self.door = self._make_door()
        noted = spawn(self._note(door))
        try:
            await door.serve()
        finally:
            noted.cancel()

    async def _note(self, door: Door) -> None:
        """Say that the door is open as soon as it is."""
        await door.ready.wait()
        self.fault = None
        self._looked.set()

    def _lost(self) -> bool:
        """Is the door open, and its socket gone from where others look for it?"""
        return bool(self.door and self.door.ready.is_set() and not os.path.lexists(self.socket))

    def _expects(self, uid: int, gid: int) -> bool:
        """Whether that is root, ourselves, or the user or group that the guest runs as."""
        expected = uid in {0, os.geteuid(), self.row.uid} or gid == self.row.gid
        self.turned_away_uid = None if expected else uid
        return expected

    def _fail(self, error: DrawwellError) -> None:
        if str(error) != str(self.fault):
            log.error("the door of guest %s: %s", self.row.name, error)
        self.fault = error

    def _make_door(self) -> Door:
        row, path = self.row, self.socket
        if row.via == Attachment.SOCKET:
            return GuestDoor(
                path,
                self._broker,
                row.name,
                mode=SOCKET_MODE,
                broker_name=self._broker_name,
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
        """Return how much may be sent ahead: nothing to a guest with a rate, and never much of what there is."""
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
    """Return what a guest gets where it cannot say what it wants."""
    return DrawClass.FULL if DrawClass.FULL in row.consumer.classes else DrawClass.DRBG

"""A broker that enrols consumers, with its door in a thread."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from drawwell.broker.control import Control
from drawwell.crypto.tokens import Token, parse_token
from drawwell.doors.enrol import EnrolDoor
from drawwell.enrolment.admin import ConsumerAdmin
from drawwell.enrolment.broker_details import BrokerDetails
from drawwell.enrolment.registry import InvitedRegistry
from drawwell.state.store import Store
from support.certificates import own_authority
from support.principals import OWNER


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Clock:
    """A wall clock that a test can move."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Broker:
    """The parts of a broker that enrolment needs, with its door in a thread."""

    def __init__(self, directory: str) -> None:
        self.clock = Clock()
        self.port = free_port()
        self.store = Store(os.path.join(directory, "broker.db"))
        self.authority = own_authority(os.path.join(directory, "pki"), self.clock())
        self.registry = InvitedRegistry(self.store, self.clock)
        site = BrokerDetails("well", f"127.0.0.1:{self.port}", ("127.0.0.1:55000",), configured=("local",))
        self.admin = ConsumerAdmin(self.store, self.registry, self.authority, site, clock=self.clock)
        self.control = Control(self.admin.handlers())
        self.answered: list[tuple[str, str, str]] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def ask(self, verb: str, **arguments: str) -> dict[str, Any]:
        return asyncio.run_coroutine_threadsafe(self.control(OWNER, verb, arguments), self.loop).result(20)

    def invite(self, name: str = "web01", **arguments: str) -> Token:
        return parse_token(self.ask("consumer.invite", name=name, **arguments)["token"])

    def wait(self, event: asyncio.Event) -> None:
        asyncio.run_coroutine_threadsafe(event.wait(), self.loop).result(20)

    @contextlib.contextmanager
    def running(self) -> Iterator["Broker"]:
        self.thread.start()
        self.door = EnrolDoor(
            self.admin, "127.0.0.1", self.port, clock=self.clock,
            files=lambda: self.authority.enrol_files(self.clock()),
            answered=lambda *facts: self.answered.append(facts),
        )  # fmt: skip
        serving = asyncio.run_coroutine_threadsafe(self.door.serve(), self.loop)
        self.wait(self.door.shut)
        try:
            yield self
        finally:
            serving.cancel()
            asyncio.run_coroutine_threadsafe(_settle(), self.loop).result(20)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()
            self.store.close()


async def _settle() -> None:
    """Wait until all other tasks of the loop have ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others)


def text(path: str) -> str:
    with open(path) as file:
        return file.read()


def status(broker: Broker, token: Token) -> str:
    invitation = broker.store.invitation(token.invitation)
    return invitation.status if invitation else ""


def received(peer: socket.socket) -> bytes:
    try:
        return peer.recv(65536)
    except ConnectionError:
        return b""

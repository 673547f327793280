"""A broker's link to its signer."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from drawwell.broker.audit import Auditor
from drawwell.broker.receipts import BrokerReceipts, Signing
from drawwell.config.broker_side import AuditSection
from drawwell.config.load import load
from drawwell.crypto import pki
from drawwell.crypto.receipts import receipt_key_from_seed
from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import StateUnavailable
from drawwell.links.signer import RemoteKeys
from drawwell.roles.signer_process import SignerRole
from drawwell.roles.signing_keys import signing_keys
from drawwell.state.files import make_private_directory, replace_file
from drawwell.testing.waiting import until
from drawwell.wire import signer_messages as messages
from support.station import Site


def test_looking_whether_the_signer_is_there_waits_for_nothing(folder: Path) -> None:
    """A silent signer keeps its connection; a closed one is reopened."""
    path = str(folder / "signer.sock")
    with socket.create_server(path, family=socket.AF_UNIX) as listener:
        listener.setblocking(False)
        keys = RemoteKeys(path)
        for _ in range(50):
            keys.require()
        peer, _ = listener.accept()
        with pytest.raises(BlockingIOError):
            listener.accept()
        peer.close()
        keys.require()
        listener.accept()[0].close()
    with pytest.raises(StateUnavailable, match="cannot reach the signer"):
        keys.require()
    with pytest.raises(StateUnavailable, match="cannot reach the signer"):
        keys.sign([b"text"])


class FallsSilent:
    """A signer that can become silent: it reads but does not answer."""

    def __init__(self, folder: Path) -> None:
        self.path, self.silent = str(folder / "signer.sock"), False
        self._role = SignerRole(str(folder / "keys"), "well")
        self._listener = socket.create_server(self.path, family=socket.AF_UNIX)
        self._peers: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def close(self) -> None:
        for each in (self._listener, *self._peers):
            with contextlib.suppress(OSError):  # its client has already disconnected
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._peers.append(self._listener.accept()[0])
                self._threads.append(threading.Thread(target=self._answer, args=self._peers[-1:]))
                self._threads[-1].start()

    def _answer(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            self._answer_all(peer)

    def _answer_all(self, peer: socket.socket) -> None:
        while prefix := peer.recv(messages.PREFIX_BYTES, socket.MSG_WAITALL):
            payload = peer.recv(messages.payload_length(prefix), socket.MSG_WAITALL)
            if not self.silent:
                peer.sendall(messages.frame(self._role.answer(payload, 0)))


def test_a_silent_signer_delays_no_other(folder: Path) -> None:
    """One batch is lost; then receipts are refused until it answers again."""
    signer = FallsSilent(folder)
    keys = RemoteKeys(signer.path, deadline_s=0.5)  # short: the signer is silent
    receipts = BrokerReceipts(keys)
    receipts.refresh()
    signing = Signing(receipts)
    auditor = Auditor("well", AuditSection(path=str(folder / "log")), time.time, receipts)
    auditor.note("started")

    async def meanwhile(work: Coroutine[Any, Any, Any]) -> int:
        """Return how many times other tasks ran during the work."""
        turns = 0
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(work)
                while not task.done():
                    await asyncio.sleep(0)
                    turns += 1
        return turns

    async def scenario(batches: asyncio.Task[None]) -> None:
        body = b'{"format":"drawwell-receipt/2","key_id":"%s"}' % receipts.key_id.encode()
        grant = Grant(b"x", 1, DrawClass.FULL, unsigned=body)
        assert (await signing.sign(grant)).receipt
        signer.silent = True
        assert await meanwhile(auditor.settle()) > 100
        assert "timed out" in auditor.notes()[1]
        for _ in range(100):
            with pytest.raises(StateUnavailable, match="timed out"):
                signing.require()
        signer.silent = False
        await until(lambda: not receipts.fault, "it signs again")
        signer.silent = True
        assert await meanwhile(signing.sign(grant)) > 100
        assert signing.lost == 1
        with pytest.raises(StateUnavailable, match="timed out"):
            signing.require()
        signer.silent = False
        await until(lambda: not receipts.fault, "it signs again")
        assert (await signing.sign(grant)).receipt
        await auditor.settle()
        assert not any(auditor.notes())
        batches.cancel()
        keys.close()

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            await scenario(group.create_task(signing.run()))

    asyncio.run(run())
    auditor.close()
    signer.close()
    with pytest.raises(StateUnavailable, match="cannot reach the signer"):
        receipts.refresh()


def test_a_signer_that_accepts_no_peer_is_away_at_once(folder: Path) -> None:
    """A full backlog gives an error, not a wait."""
    path = str(folder / "signer.sock")
    with socket.create_server(path, family=socket.AF_UNIX, backlog=0), contextlib.ExitStack() as full:
        full.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        with pytest.raises(StateUnavailable, match="temporarily unavailable"):
            RemoteKeys(path).require()


def test_a_hand_over_that_was_cut_short_is_finished(folder: Path) -> None:
    """Keys that the signer already has are removed, and no new ones are made."""
    site = Site(folder, more=f'[signer]\nsocket = "{folder}/signer.sock"')
    config, state = load(str(site.path)), folder / "state"
    keys = {"pki/ca.pem": (ca := pki.new_ca("well", time.time())).certificate_pem, "pki/ca-key.pem": ca.key_pem,
            "receipt-key.pem": receipt_key_from_seed(bytes(32))}  # fmt: skip

    def hand_over(found: Mapping[str, bytes]) -> set[str]:
        make_private_directory(str(state / "pki"))
        for name, pem in found.items():
            replace_file(str(state / name), pem)
        signing_keys(config, time.time(), apart=True)
        return {name for name in found if (state / name).exists()}

    with pytest.raises(StateUnavailable, match="cannot reach the signer"):
        hand_over(keys)
    signer = FallsSilent(folder)
    with pytest.raises(StateUnavailable, match="key does not match its certificate"):
        hand_over(keys | {"pki/ca-key.pem": pki.new_ca("well", time.time()).key_pem})
    assert hand_over(keys) == set()
    assert hand_over(keys) == set()
    others = {"receipt-key.pem": receipt_key_from_seed(b"1" * 32)}
    assert hand_over(others) == others.keys()
    signer.close()

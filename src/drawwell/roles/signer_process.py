"""The signer: the only process with the keys of CA and receipts.

It listens on one Unix socket, for the broker's user and root, and imports `cryptography` and
the standard library (law 10). A broker that was taken over can still ask it to sign: so it has
a rate, and a log of its own, which the broker cannot write to.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from drawwell.broker.audit_log import AuditLog
from drawwell.config.defaults import BROKER_USER, uid_of
from drawwell.crypto import pki
from drawwell.crypto.receipts import ReceiptSigner
from drawwell.doors.sockets import credentials, listen_unix, listens_at
from drawwell.enrolment.key_ring import KeyRing
from drawwell.errors import (
    DrawwellError,
    PermissionRefused,
    RemoteProtocolError,
    StateUnavailable,
    UsageError,
)
from drawwell.ownership import make_directory
from drawwell.service.status import ServiceStatus
from drawwell.service.systemd import Manager
from drawwell.wire import signer_messages as messages

CERTIFICATES_PER_S: Final = 20
CERTIFICATES_AT_ONCE: Final = 2000
"""What all consumers need that renew after an outage; a thief gets no more either."""
MOST_SESSIONS: Final = 32
TEXT_DEADLINE_S: Final = 10.0
LOG: Final = "signer.jsonl"
MINUTE_S: Final = 60.0

log = logging.getLogger("drawwell.signer")
Answer = dict[str, Any]


class SignerRole:
    """Answers requests: the rules and the log, without the socket.

    Args:
        directory: Holds the keys and the log.
        name: The broker's name.
        clock: Seconds since 1970.
    """

    def __init__(self, directory: str, name: str, clock: Callable[[], float] = time.time) -> None:
        self.log = AuditLog(os.path.join(directory, LOG), clock)
        self._directory, self._name, self._clock = directory, name, clock
        self._allowance, self._counted_at = float(CERTIFICATES_AT_ONCE), clock()
        self._receipts = 0
        self._keys: KeyRing | None = None
        if os.path.exists(os.path.join(directory, "root.pem")):
            self._ring()

    def answer(self, payload: bytes, uid: int) -> bytes:
        """Answer one request of a user; what is wrong with it is the answer."""
        try:
            if payload.startswith(messages.SIGN):
                return self._sign(payload)
            return messages.write_object(**self._ask(messages.read_object(payload), uid))
        except (UnicodeError, RemoteProtocolError) as error:
            return _refusal("value", error)
        except ValueError as error:
            return _refusal("value", error)
        except (UsageError, PermissionRefused, StateUnavailable) as error:
            kind = {UsageError: "usage", PermissionRefused: "refused"}.get(type(error), "state")
            return _refusal(kind, error)

    def minute(self) -> None:
        """Log how many receipts and heads were signed since the last time."""
        if self._receipts:
            self.log.write([{"event": "signed", "texts": self._receipts}], since=self._clock() - MINUTE_S)
        self._receipts = 0

    def _sign(self, payload: bytes) -> bytes:
        signatures = self._ring().sign(messages.read_texts(payload))
        self._receipts += len(signatures)
        return messages.SIGN + b"".join(signatures)

    def _ask(self, fields: dict[str, Any], uid: int) -> Answer:
        op = messages.text_of(fields, "op")
        handler = {
            "public": self._public,
            "certify": self._certify,
            "serve": self._serve,
            "adopt": self._adopt,
        }
        if op in handler:
            return handler[op](fields)
        owners = {
            "describe": self._describe, "rotate": self._rotate, "export-root": self._export,
            "forget-root": self._forget, "import-root": self._import,
        }  # fmt: skip
        if op not in owners:
            raise UsageError(f"the signer has no request {op[:40]!r}")
        if uid not in {0, os.geteuid()}:
            raise PermissionRefused("only root may ask the signer that", hint="Ask as root.")
        return owners[op](fields)

    def _public(self, _fields: dict[str, Any]) -> Answer:
        keys = self._ring().public()
        names = ("roots", "authorities", "receipt_key", "key_list")
        return {name: getattr(keys, name).decode() for name in names}

    def _certify(self, fields: dict[str, Any]) -> Answer:
        consumer = messages.text_of(fields, "consumer")
        return self._issued(
            {"event": "certified", "name": consumer},
            lambda csr: self._ring().certify(csr, consumer, self._clock()),
            fields,
        )

    def _serve(self, fields: dict[str, Any]) -> Answer:
        names = fields.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RemoteProtocolError("names is no list of texts")
        return self._issued(
            {"event": "server certified", "names": names},
            lambda csr: self._ring().serve(csr, names, self._clock()),
            fields,
        )

    def _issued(self, line: Answer, issue: Callable[[bytes], bytes], fields: dict[str, Any]) -> Answer:
        """Issue a certificate within the rate, and log it before it leaves."""
        now = self._clock()
        gained = max(0.0, now - self._counted_at) * CERTIFICATES_PER_S
        self._allowance, self._counted_at = min(CERTIFICATES_AT_ONCE, self._allowance + gained), now
        if self._allowance < 1:
            raise StateUnavailable(
                "the signer issues no more certificates for now", hint="Try again in a second."
            )
        self._allowance -= 1
        certificate = issue(messages.text_of(fields, "csr").encode())
        facts = pki.read_certificate(certificate)
        self.log.write([line | {"serial": f"{facts.serial:x}", "key": facts.spki_sha256.hex()}])
        return {"pem": certificate.decode()}

    def _adopt(self, fields: dict[str, Any]) -> Answer:
        """Take over a broker's keys before there are others, or again."""
        keys = {name: messages.text_of(fields, name) for name in ADOPTED}
        if self._keys and any(keys.values()) and _are_of(self._keys, keys):
            return {}
        if self._keys:
            raise UsageError(
                "the signer has keys already", hint="Move them away if these are the right ones."
            )
        self._keys = KeyRing.adopt(
            self._directory,
            self._name,
            self._clock(),
            keys,
        )
        self.log.write([{"event": "keys adopted from the broker"}])
        return {}

    def _describe(self, _fields: dict[str, Any]) -> Answer:
        return self._ring().describe(self._clock())

    def _rotate(self, fields: dict[str, Any]) -> Answer:
        what = messages.text_of(fields, "what")
        following = self._ring().rotate(what, self._clock())
        self.log.write([{"event": "rotated", "key": what}])
        return {"next": following}

    def _export(self, _fields: dict[str, Any]) -> Answer:
        self.log.write([{"event": "root exported"}])
        return {"pem": self._ring().export_root().decode()}

    def _forget(self, _fields: dict[str, Any]) -> Answer:
        self._ring().forget_root()
        self.log.write([{"event": "root removed"}])
        return {}

    def _import(self, fields: dict[str, Any]) -> Answer:
        now = self._clock()
        self._ring().import_root(messages.text_of(fields, "pem").encode(), now)
        self.log.write([{"event": "root imported"}])
        return self._ring().describe(now)

    def _ring(self) -> KeyRing:
        if self._keys is None:
            self._keys = KeyRing(self._directory, self._name, self._clock())
        return self._keys


ADOPTED: Final = ("ca_certificate", "ca_key", "receipt_key")


class SignerProcess:
    """Listens for the broker, and answers one request after the other.

    Args:
        role: Answers.
        path: The socket.
        manager: Who started this process; may hand over the socket, named signer.
    """

    def __init__(self, role: SignerRole, path: str, manager: Manager) -> None:
        self._role, self._path, self._manager = role, path, manager
        self._users = {0, os.geteuid(), uid_of(BROKER_USER)}
        self._sessions = 0
        self._listens = asyncio.Event()
        self._status = ServiceStatus(manager, ready=self._listens.wait, status=lambda: "holds the keys")

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`."""
        handed = [sock for sock in self._manager.inherited("signer") if listens_at(sock, self._path)]
        if not handed:
            make_directory(os.path.dirname(self._path), 0o755)
        listener = handed[0] if handed else listen_unix(self._path, 0o666)
        server = await asyncio.start_unix_server(self._serve, sock=listener)
        self._listens.set()
        log.info("signs at %s", self._path)
        async with server, asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(self._status.run()), tasks.create_task(self._minutes())]
            await stop.wait()
            self._status.stopping()
            for task in helpers:
                task.cancel()
        self._role.minute()
        self._role.log.close()

    async def _minutes(self) -> None:
        while True:
            await asyncio.sleep(MINUTE_S)
            self._role.minute()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, uid, _ = credentials(writer.get_extra_info("socket"))
        self._sessions += 1
        try:
            if uid in self._users and self._sessions <= MOST_SESSIONS:
                await self._converse(reader, writer, uid)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, RemoteProtocolError) as error:
            log.info("a session of user number %d ended: %s", uid, str(error) or type(error).__name__)
        finally:
            self._sessions -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, uid: int) -> None:
        while prefix := await reader.read(1):
            async with asyncio.timeout(TEXT_DEADLINE_S):
                prefix += await reader.readexactly(messages.PREFIX_BYTES - 1)
                payload = await reader.readexactly(messages.payload_length(prefix))
                writer.write(messages.frame(self._role.answer(payload, uid)))
                await writer.drain()


def _are_of(ring: KeyRing, keys: Mapping[str, str]) -> bool:
    """Return whether a ring has these keys already; raises ValueError."""
    public, ca_key, receipt_key = ring.public(), keys["ca_key"].encode(), keys["receipt_key"].encode()
    known = {pki.spki_sha256(each) for each in pki.pem_blocks(public.authorities)}
    return (not ca_key or pki.key_spki_sha256(ca_key) in known) and (
        not receipt_key or ReceiptSigner(receipt_key).public_key == public.receipt_key
    )


def _refusal(kind: str, error: Exception) -> bytes:
    hint = error.hint if isinstance(error, DrawwellError) else None
    return messages.write_object(error=kind, message=str(error), hint=hint)

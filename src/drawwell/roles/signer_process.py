"""The signer: the only process with the CA and receipt keys.

It listens on one Unix socket for the broker's user and root, and imports only `cryptography`
and the standard library (law 10). A compromised broker can still request signatures. The
signer therefore has a rate limit and its own log, which the broker cannot write to.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from drawwell.broker.audit_log import AuditLog
from drawwell.config.defaults import BROKER_USER, uid_of
from drawwell.crypto import pki
from drawwell.crypto.receipts import ReceiptSigner
from drawwell.doors.sockets import listen_unix, listens_at
from drawwell.enrolment.fleet_keys import FleetKeys
from drawwell.enrolment.key_ring import KeyRing
from drawwell.errors import (
    DrawwellError,
    PermissionRefused,
    RemoteProtocolError,
    StateUnavailable,
    UsageError,
)
from drawwell.ownership import make_directory
from drawwell.roles.signer_fleet import FleetRequests
from drawwell.roles.signer_session import SignerSession
from drawwell.service.status import ServiceStatus
from drawwell.service.systemd import Manager
from drawwell.wire import signer_messages as messages

CERTIFICATES_PER_S: Final = 20
CERTIFICATES_AT_ONCE: Final = 2000
"""Enough for all consumers to renew after an outage; this also limits an attacker."""
LOG: Final = "signer.jsonl"
MINUTE_S: Final = 60.0

log = logging.getLogger("drawwell.signer")
Answer = dict[str, Any]


class SignerRole:
    """Answers requests: the rules and the log, without the socket.

    Args:
        directory: Contains the keys and the log.
        name: The broker's name.
        clock: Seconds since 1970.
    """

    def __init__(self, directory: str, name: str, clock: Callable[[], float] = time.time) -> None:
        self.log = AuditLog(os.path.join(directory, LOG), clock)
        self._directory, self._name, self._clock = directory, name, clock
        self._allowance, self._counted_at = float(CERTIFICATES_AT_ONCE), clock()
        self._receipts = 0
        self._fleet = FleetRequests(self._fleet_keys, lambda line: self.log.write([line]), clock)
        self._keys: KeyRing | None = None
        if os.path.exists(os.path.join(directory, "root.pem")):
            self._ring()

    def answer(self, payload: bytes, uid: int) -> bytes:
        """Answer a request from a user; the answer to an invalid one is an error."""
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
        """Log the number of receipts and audit heads signed since the last call."""
        if self._receipts:
            self.log.write([{"event": "signed", "texts": self._receipts}], since=self._clock() - MINUTE_S)
        self._receipts = 0

    def _sign(self, payload: bytes) -> bytes:
        signatures = self._ring().sign(messages.read_texts(payload))
        self._receipts += len(signatures)
        return messages.SIGN + b"".join(signatures)

    def _ask(self, fields: dict[str, Any], uid: int) -> Answer:
        op = messages.text_of(fields, "op")
        if op.startswith("fleet-"):
            return self._fleet.answer(op, fields, uid)
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
            raise UsageError(f"unknown request to the signer: {op[:40]!r}")
        if uid not in {0, os.geteuid()}:
            raise PermissionRefused("only root may send this request to the signer", hint="Run this as root.")
        if op != "describe":
            self._fleet_keys().require_own_root()
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
            raise RemoteProtocolError("names is not a list of strings")
        return self._issued(
            {"event": "server certified", "names": names},
            lambda csr: self._ring().serve(csr, names, self._clock()),
            fields,
        )

    def _issued(self, line: Answer, issue: Callable[[bytes], bytes], fields: dict[str, Any]) -> Answer:
        """Issue a certificate within the rate limit; log it before returning it."""
        now = self._clock()
        gained = max(0.0, now - self._counted_at) * CERTIFICATES_PER_S
        self._allowance, self._counted_at = min(CERTIFICATES_AT_ONCE, self._allowance + gained), now
        if self._allowance < 1:
            raise StateUnavailable(
                "the signer's rate limit for certificates is reached", hint="Try again in a second."
            )
        self._allowance -= 1
        certificate = issue(messages.text_of(fields, "csr").encode())
        facts = pki.read_certificate(certificate)
        self.log.write([line | {"serial": f"{facts.serial:x}", "key": facts.spki_sha256.hex()}])
        return {"pem": certificate.decode()}

    def _adopt(self, fields: dict[str, Any]) -> Answer:
        """Adopt a broker's keys; sending the same keys again has no effect."""
        keys = {name: messages.text_of(fields, name) for name in ADOPTED}
        if self._keys and any(keys.values()) and _are_of(self._keys, keys):
            return {}
        if self._keys:
            raise UsageError(
                "the signer already has other keys",
                hint="If the new keys are right, move the old keys away.",
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
        return self._ring().describe(self._clock()) | {"member_of": self._fleet_keys().member_of()}

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
        self._ring().import_root(messages.text_of(fields, "pem").encode(), self._clock())
        self.log.write([{"event": "root imported"}])
        return self._describe(fields)

    def _fleet_keys(self) -> FleetKeys:
        return FleetKeys(self._ring(), self._directory, self._name)

    def _ring(self) -> KeyRing:
        if self._keys is None:
            self._keys = KeyRing(self._directory, self._name, self._clock())
        return self._keys


ADOPTED: Final = ("ca_certificate", "ca_key", "receipt_key")


class SignerProcess:
    """Listens for the broker and answers its requests in order.

    Args:
        role: Answers the requests.
        path: The socket.
        manager: The service manager; may pass the socket named signer.
    """

    def __init__(self, role: SignerRole, path: str, manager: Manager) -> None:
        self._role, self._path, self._manager = role, path, manager
        self._users = {0, os.geteuid(), uid_of(BROKER_USER)}
        self._listens = asyncio.Event()
        self._status = ServiceStatus(manager, ready=self._listens.wait, status=lambda: "holds the keys")

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        handed = [sock for sock in self._manager.inherited("signer") if listens_at(sock, self._path)]
        if not handed:
            make_directory(os.path.dirname(self._path), 0o755)
        listener = handed[0] if handed else listen_unix(self._path, 0o666)
        loop, sessions = asyncio.get_running_loop(), set[SignerSession]()
        server = await loop.create_unix_server(
            lambda: SignerSession(self._role.answer, self._users, sessions), sock=listener
        )
        self._listens.set()
        log.info("listening on %s", self._path)
        async with asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(self._status.run()), tasks.create_task(self._minutes())]
            await stop.wait()
            self._status.stopping()
            for task in helpers:
                task.cancel()
        server.close()
        for session in [*sessions]:
            session.close()
        self._role.minute()
        self._role.log.close()

    async def _minutes(self) -> None:
        while True:
            await asyncio.sleep(MINUTE_S)
            self._role.minute()


def _are_of(ring: KeyRing, keys: Mapping[str, str]) -> bool:
    """Return whether a ring has these keys; raise ValueError if invalid."""
    public, ca_key, receipt_key = ring.public(), keys["ca_key"].encode(), keys["receipt_key"].encode()
    known = {pki.spki_sha256(each) for each in pki.pem_blocks(public.authorities)}
    return (not ca_key or pki.key_spki_sha256(ca_key) in known) and (
        not receipt_key or ReceiptSigner(receipt_key).public_key == public.receipt_key
    )


def _refusal(kind: str, error: Exception) -> bytes:
    hint = error.hint if isinstance(error, DrawwellError) else None
    return messages.write_object(error=kind, message=str(error), hint=hint)

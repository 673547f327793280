"""The fleet requests to the signer."""

import os
from collections.abc import Callable
from typing import Any

from drawwell.crypto import pki
from drawwell.enrolment.fleet_keys import FleetKeys
from drawwell.errors import PermissionRefused, RemoteProtocolError, UsageError
from drawwell.wire.signer_messages import text_of

Answer = dict[str, Any]


class FleetRequests:
    """Answers requests that begin with ``fleet-``, and logs certifications.

    Args:
        keys: Returns the keys.
        note: Logs a line.
        clock: Seconds since 1970.
    """

    def __init__(
        self, keys: Callable[[], FleetKeys], note: Callable[[Answer], None], clock: Callable[[], float]
    ) -> None:
        self._keys, self._note, self._clock = keys, note, clock
        self._for_broker = {
            "fleet-describe": self._describe, "fleet-admit": self._admit, "fleet-renew": self._renew,
            "fleet-take": self._take, "fleet-follow": self._follow,
        }  # fmt: skip
        self._for_root = {
            "fleet-found": self._found, "fleet-invite": self._invite, "fleet-request": self._request,
            "fleet-adopt": self._adopt, "fleet-remove": self._remove,
        }  # fmt: skip

    def answer(self, op: str, fields: Answer, uid: int) -> Answer:
        """Answer one request from a user; raise an error if it is invalid."""
        if op in self._for_broker:
            return self._for_broker[op](fields)
        if op not in self._for_root:
            raise UsageError(f"unknown request to the signer: {op[:40]!r}")
        if uid not in {0, os.geteuid()}:
            raise PermissionRefused("only root may send this request to the signer", hint="Run this as root.")
        return self._for_root[op](fields)

    def _describe(self, _fields: Answer) -> Answer:
        now = self._clock()
        return self._keys().describe(now) | {"csr": self._keys().due(now)}

    def _admit(self, fields: Answer) -> Answer:
        csr, receipt_key = text_of(fields, "csr"), text_of(fields, "receipt_key")
        secret = bytes.fromhex(text_of(fields, "secret"))
        answer = self._keys().admit(
            text_of(fields, "invitation"), secret, csr.encode(), receipt_key.encode(), self._clock()
        )
        self._note({"event": "broker certified", "name": answer["broker"], **_key(csr)})
        return answer

    def _renew(self, fields: Answer) -> Answer:
        broker, csr = text_of(fields, "broker"), text_of(fields, "csr")
        certificate = self._keys().renew(broker, csr.encode(), self._clock())
        self._note({"event": "broker certified again", "name": broker, **_key(csr)})
        return {"certificate": certificate}

    def _take(self, fields: Answer) -> Answer:
        self._keys().take(text_of(fields, "certificate").encode())
        return {}

    def _follow(self, fields: Answer) -> Answer:
        self._keys().follow(text_of(fields, "keys").encode())
        return {}

    def _found(self, fields: Answer) -> Answer:
        fleet = text_of(fields, "fleet")
        self._keys().found(fleet)
        self._note({"event": "fleet founded", "name": fleet})
        return {}

    def _invite(self, fields: Answer) -> Answer:
        broker, ttl_s = text_of(fields, "broker"), fields.get("ttl_s")
        if type(ttl_s) not in {int, float}:
            raise RemoteProtocolError("ttl_s is not a number")
        self._note({"event": "broker invited", "name": broker})
        return self._keys().invite(broker, float(str(ttl_s)), self._clock())

    def _remove(self, fields: Answer) -> Answer:
        broker = text_of(fields, "broker")
        self._keys().remove(broker, self._clock())
        self._note({"event": "broker removed", "name": broker})
        return {}

    def _request(self, _fields: Answer) -> Answer:
        csr, receipt_key = self._keys().request()
        return {"csr": csr.decode(), "receipt_key": receipt_key.decode()}

    def _adopt(self, fields: Answer) -> Answer:
        answer = {name: text_of(fields, name) for name in ("fleet", "certificate", "root", "keys")}
        self._keys().adopt(answer)
        self._note({"event": "fleet joined", "name": answer["fleet"]})
        return {}


def _key(csr: str) -> Answer:
    return {"key": pki.csr_spki_sha256(csr.encode()).hex()}

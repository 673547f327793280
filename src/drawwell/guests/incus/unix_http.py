"""HTTP with JSON over a Unix socket, as the daemons of containers speak it."""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any, Final

from drawwell.errors import GuestUnavailable, PermissionRefused

_ANSWER_S: Final = 60.0
_MOST_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class IncusReply:
    """A status, the document, and the version of what it describes."""

    status: int
    document: dict[str, Any]
    etag: str = ""


class UnixHttp:
    """A daemon at a socket.

    Args:
        path: The socket.
        daemon: What it is called in messages.
        hint: What to do when it does not let us in.
    """

    def __init__(self, path: str, daemon: str, hint: str) -> None:
        self.path = path
        self._daemon = daemon
        self._hint = hint

    def ask(
        self, method: str, target: str, document: dict[str, Any] | None = None, etag: str = ""
    ) -> IncusReply:
        """Ask once.

        Raises:
            GuestUnavailable: it does not run, does not answer in time, or with something else.
            PermissionRefused: its socket is not for this user.
        """
        connection = _Connection(self.path)
        headers = {"Content-Type": "application/json"} | ({"If-Match": etag} if etag else {})
        body = None if document is None else json.dumps(document)
        try:
            connection.request(method, target, body, headers)
            reply = connection.getresponse()
            text = reply.read(_MOST_BYTES)
            return IncusReply(reply.status, _object(text), reply.headers.get("ETag", ""))
        except PermissionError as error:
            raise PermissionRefused(f"{self.path} is not for this user", hint=self._hint) from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise GuestUnavailable(
                f"{self._daemon} does not answer at {self.path}: {reason}", hint=self._hint
            ) from error
        except (http.client.HTTPException, ValueError) as error:
            raise GuestUnavailable(
                f"what answers at {self.path} is not {self._daemon}", hint=self._hint
            ) from error
        finally:
            connection.close()


def _object(text: bytes) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - what it says is wrong, not what we did
    return document


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ANSWER_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket (http.client)."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

"""HTTP with JSON over a Unix socket, as used by container daemons."""

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
    """An HTTP status, the JSON document, and the document's version."""

    status: int
    document: dict[str, Any]
    etag: str = ""


class UnixHttp:
    """A daemon that listens on a Unix socket.

    Args:
        path: The socket.
        daemon: The daemon's name in messages.
        hint: What the user can do if the daemon cannot be reached.
    """

    def __init__(self, path: str, daemon: str, hint: str) -> None:
        self.path = path
        self._daemon = daemon
        self._hint = hint

    def ask(
        self, method: str, target: str, document: dict[str, Any] | None = None, etag: str = ""
    ) -> IncusReply:
        """Send one request and return the reply.

        Raises:
            GuestUnavailable: the daemon is not running, timed out, or did not send JSON.
            PermissionRefused: this user cannot open the socket.
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
            raise PermissionRefused(f"no permission to open {self.path}", hint=self._hint) from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise GuestUnavailable(
                f"{self._daemon} does not answer on {self.path}: {reason}", hint=self._hint
            ) from error
        except (http.client.HTTPException, ValueError) as error:
            raise GuestUnavailable(
                f"the program that answers on {self.path} is not {self._daemon}", hint=self._hint
            ) from error
        finally:
            connection.close()


def _object(text: bytes) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the peer's data is wrong, not our argument
    return document


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ANSWER_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket; called by http.client."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

"""A link over SSH: the system's own ssh(1), whose configuration, keys and known hosts are the user's."""

import asyncio
import shutil
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from drawwell.errors import AuthenticationFailed, DrawwellError, LinkUnavailable
from drawwell.links.link import Link, LinkProtocol

_OPTIONS: Final = (
    "-T", "-a", "-x",
    "-oBatchMode=yes", "-oLogLevel=ERROR", "-oControlPath=none", "-oClearAllForwardings=yes",
    "-oServerAliveInterval=15",
)  # fmt: skip
"""No terminal, nothing forwarded, nobody asked, a connection of our own; see ssh_config(5)."""
_COMMAND: Final = "drawwell serve-stdio"
"""Not looked at where the key has its forced command; where it has none, no shell must hear our frames."""
_STDERR_BYTES: Final = 2048
_END_S: Final = 2.0
"""How long ssh may take to end."""
_HINT: Final = "drawwell: hint:"
_REFUSALS: Final = ("Permission denied (", "Host key verification failed", "No matching host key")


class SshLink(Link):
    """An Upstream at the other end of ssh(1).

    Args:
        name: The broker's address, for reports.
        host: As ssh takes it.
        user: The account there; "" for what ssh's configuration says.
        port: 0 for what ssh's configuration says.
        identity: A file with the private key; "" for what ssh's configuration says.
        options: More options of ssh.
        open_deadline_s: See Link.
        answer_deadline_s: See Link.
    """

    def __init__(
        self,
        name: str,
        host: str,
        *,
        user: str = "",
        port: int = 0,
        identity: str = "",
        options: Sequence[str] = (),
        open_deadline_s: float = 20.0,
        answer_deadline_s: float = 10.0,
    ) -> None:
        super().__init__(name, open_deadline_s=open_deadline_s, answer_deadline_s=answer_deadline_s)
        self._command = [
            "ssh", *_OPTIONS, *options,
            *(["-l", user] if user else []),
            *(["-p", str(port)] if port else []),
            *(["-i", identity, "-oIdentitiesOnly=yes"] if identity else []),
            "--", host, _COMMAND,
        ]  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None

    async def aclose(self) -> None:
        """Close the link, and wait for ssh's end (Upstream)."""
        await super().aclose()
        await self._end()

    async def _connect(self) -> LinkProtocol:
        await self._end()
        if not shutil.which("ssh"):
            raise LinkUnavailable(
                "there is no program called ssh", hint="Install it (Debian: openssh-client)."
            )
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=asyncio.subprocess.PIPE,
                    limit=_STDERR_BYTES,
                )
            loop = asyncio.get_running_loop()
            _, protocol = await loop.create_unix_connection(lambda: LinkProtocol(self.name), sock=ours)
        except BaseException:
            ours.close()
            raise
        return protocol

    async def _open(self) -> LinkProtocol:
        try:
            return await super()._open()
        except LinkUnavailable as error:
            raise self._explained(await self._end()) or error from None

    async def _end(self) -> str:
        """End ssh if it runs, and return what it said last."""
        process, self._process = self._process, None
        if process is None or process.stderr is None:
            return ""
        said = b""
        try:
            async with asyncio.timeout(_END_S):
                while piece := await process.stderr.read(_STDERR_BYTES):
                    said = (said + piece)[-_STDERR_BYTES:]
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return said.decode("utf-8", "replace")

    def _explained(self, said: str) -> DrawwellError | None:
        """Make an error of ssh's last line, which the other end may have written."""
        lines = [line for line in said.splitlines() if line.strip() and not line.startswith(_HINT)]
        if not lines:
            return None
        last = "".join(char for char in lines[-1] if char.isprintable())[:200]
        if any(words in said for words in _REFUSALS):
            return AuthenticationFailed(
                f"{self.name}: ssh says: {last}",
                hint="Try it by hand: ssh -T, with the same host. The key's public half must be invited there.",
            )
        return LinkUnavailable(
            f"cannot reach {self.name}: ssh says: {last}", hint="Try it by hand: ssh -T, with the same host."
        )

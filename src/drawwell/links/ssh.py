"""A link over SSH, using the system's ssh(1) and the user's configuration."""

import asyncio
import shutil
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from drawwell.errors import AuthenticationFailed, DrawwellError, LinkUnavailable, Unreachable
from drawwell.links.link import Link, LinkProtocol

_OPTIONS: Final = (
    "-T", "-a", "-x",
    "-oBatchMode=yes", "-oLogLevel=ERROR", "-oControlPath=none", "-oClearAllForwardings=yes",
    "-oServerAliveInterval=15",
)  # fmt: skip
"""Disable terminal, forwarding, prompts and shared connections; see ssh_config(5)."""
_COMMAND: Final = "drawwell serve-stdio"
"""The remote command, so that no shell receives our frames. A forced command replaces it."""
_STDERR_BYTES: Final = 2048
_END_S: Final = 2.0
"""How long to wait for ssh to exit."""
_HINT: Final = "drawwell: hint:"
_REFUSALS: Final = ("Permission denied (", "Host key verification failed", "No matching host key")


class SshLink(Link):
    """An Upstream over ssh(1).

    Args:
        name: The broker's address, for reports.
        host: The host, as in ssh's arguments.
        user: The remote account, "" for the one in ssh's configuration.
        port: The port, 0 for the one in ssh's configuration.
        identity: The file of the private key, "" for the one in ssh's configuration.
        options: Additional options for ssh.
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
        """Close the link; wait for ssh to exit (Upstream)."""
        await super().aclose()
        await self._end()

    async def _connect(self) -> LinkProtocol:
        await self._end()
        if not shutil.which("ssh"):
            raise LinkUnavailable(
                "cannot find the program ssh", hint="Install it (on Debian: openssh-client)."
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
        """End ssh if it is running; return its last output."""
        process, self._process = self._process, None
        if process is None or process.stderr is None:
            return ""
        output = b""
        try:
            async with asyncio.timeout(_END_S):
                while piece := await process.stderr.read(_STDERR_BYTES):
                    output = (output + piece)[-_STDERR_BYTES:]
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return output.decode("utf-8", "replace")

    def _explained(self, output: str) -> DrawwellError | None:
        """Create an error from ssh's last line, which the remote end can control."""
        lines = [line for line in output.splitlines() if line.strip() and not line.startswith(_HINT)]
        if not lines:
            return None
        last = "".join(char for char in lines[-1] if char.isprintable())[:200]
        if any(reason in output for reason in _REFUSALS):
            return AuthenticationFailed(
                f"{self.name}: ssh reports: {last}",
                hint="Try 'ssh -T' with the same host. The broker's operator must have invited this public key.",
            )
        return Unreachable(
            f"cannot reach {self.name}: ssh reports: {last}",
            hint="Try 'ssh -T' with the same host.",
        )

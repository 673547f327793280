"""A bare EGD server in Python: 32 constant bytes for each request.

Arguments: the socket's path and the event loop, ``asyncio`` or ``uvloop``. It imports no
drawwell code.
"""

import asyncio
import sys
from typing import cast

ANSWER = b"0" * 32


class Answer(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER * (len(data) // 2))


async def main(path: str) -> None:
    server = await asyncio.get_running_loop().create_unix_server(Answer, path)
    await server.serve_forever()


factory = None
if sys.argv[2] == "uvloop":
    import uvloop

    factory = uvloop.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main(sys.argv[1]))

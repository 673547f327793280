"""A minimal mutual-TLS server in Python: 32 constant bytes for every 32.

Arguments: port, certificate, key, CA and the event loop, ``asyncio`` or ``uvloop``. It uses
asyncio and ssl, but no drawwell code.
"""

import asyncio
import ssl
import sys
from typing import cast

ANSWER = b"0" * 32


class Answer(asyncio.Protocol):
    def __init__(self) -> None:
        self.waiting = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        requests, self.waiting = divmod(self.waiting + len(data), 32)
        self.transport.write(ANSWER * requests)


async def main(port: str, certificate: str, key: str, ca: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answer, "127.0.0.1", int(port), ssl=context, backlog=1024)
    await server.serve_forever()


*arguments, loop = sys.argv[1:]
factory = None
if loop == "uvloop":
    import uvloop

    factory = uvloop.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main(*arguments))

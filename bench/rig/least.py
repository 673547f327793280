"""A minimal server for draws of class drbg, on the broker's event loop.

For each draw: TLS, a frame in, the account, its rate, its DRBG with fresh bytes, its counts, a
serial number, a frame out. It has no session, deadlines, fairness, class full, audit or
errors. Arguments: port, certificate, key, CA; or the path of a Unix socket, for EGD's waiting
requests.
"""

import asyncio
import os
import ssl
import struct
import sys
import time
from typing import cast

from drawwell.crypto.drbg import Drbg
from drawwell.service.loops import loop_factory
from drawwell.wire.egd import READ_WAITING
from drawwell.wire.frames import Draw, Granted

DRAW, GRANT = struct.Struct(">IIBBII"), struct.Struct(">IIQBH")
RATE, MOST_BYTES, DRBG_CODE = 8 << 30, 65_536, 2


class Account:
    drbg = Drbg(bytes(48))
    level, at, draws, n_bytes = RATE, time.time(), 0, 0


accounts = {"c0": Account()}


def granted(n_bytes: int) -> bytes:
    account, now = accounts["c0"], time.time()
    account.level = min(RATE, account.level + int(RATE * (now - account.at))) - n_bytes
    account.at = now
    if account.level < 0:
        raise ValueError("over the rate")
    data = account.drbg.generate(n_bytes, os.urandom(32))
    account.draws += 1
    account.n_bytes += n_bytes
    Answer.serial += 1
    return data


class Answer(asyncio.BufferedProtocol):
    buffer = memoryview(bytearray(65_536))
    serial = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, _hint: int) -> memoryview:
        return self.buffer


class EgdAnswer(Answer):
    def buffer_updated(self, n_received: int) -> None:
        command, n_bytes = self.buffer[:n_received]
        if command != READ_WAITING or not n_bytes:
            raise ValueError("not a waiting request")
        self.transport.write(granted(n_bytes))


class TlsAnswer(Answer):
    context: ssl.SSLContext

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self.context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def buffer_updated(self, n_received: int) -> None:
        self.incoming.write(self.buffer[:n_received])
        try:
            request = self.tls.read(16_384)
        except ssl.SSLWantReadError:  # the handshake
            self.transport.write(self.outgoing.read())
            return
        header, request_id, code, _flags, n_bytes, _patience_ms = DRAW.unpack(request)
        if header != Draw.TYPE << 24 | Draw.MAX_BYTES or code != DRBG_CODE or not 1 <= n_bytes <= MOST_BYTES:
            raise ValueError("not a draw of class drbg")
        data = granted(n_bytes)
        head = Granted.TYPE << 24 | GRANT.size - 4 + n_bytes
        self.tls.write(GRANT.pack(head, request_id, Answer.serial, code, 0) + data)
        self.transport.write(self.outgoing.read())


async def serve_egd(path: str) -> None:
    server = await asyncio.get_running_loop().create_unix_server(EgdAnswer, path)
    await server.serve_forever()


async def serve_tls(port: str, certificate: str, key: str, ca: str) -> None:
    context = TlsAnswer.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(TlsAnswer, "127.0.0.1", int(port), backlog=1024)
    await server.serve_forever()


with asyncio.Runner(loop_factory=loop_factory(os.environ)) as runner:
    runner.run(serve_tls(*sys.argv[1:]) if sys.argv[2:] else serve_egd(sys.argv[1]))

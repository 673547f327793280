"""Parsers as functions, each with initial inputs; run by bench/fuzz.py."""

import contextlib
import os
import ssl
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

try:
    import atheris  # type: ignore[import-untyped]
except ImportError:  # the tests run the targets without atheris
    atheris = None

sys.path[:0] = [str(Path(__file__).parents[2] / "tests"), str(Path(__file__).parents[1])]
INCLUDED = ["drawwell", "h11", "tomllib"]

with atheris.instrument_imports(include=INCLUDED) if atheris else contextlib.nullcontext():
    from drawwell.config.defaults import HostFacts
    from drawwell.config.load import load
    from drawwell.config.render import sample
    from drawwell.crypto import pki
    from drawwell.crypto.receipts import ReceiptBody, ReceiptSigner, read_receipt, receipt_key_from_seed
    from drawwell.crypto.tokens import Token, parse_token
    from drawwell.entropy.blocks import DrawClass, DrawRequest
    from drawwell.errors import ConfigError, RemoteProtocolError, UsageError
    from drawwell.host.generation import announces_copy, logs_copy
    from drawwell.onerng import image, openpgp
    from drawwell.onerng.replies import ReplyParser
    from drawwell.onerng.verify import verify_image
    from drawwell.reports import SourceIdentity, SourceReport, SourceState
    from drawwell.simulator import firmware_image
    from drawwell.units import parse_allowance, parse_duration, parse_size
    from drawwell.wire import enrolment, usbredir
    from drawwell.wire.contexts import client_context, server_context
    from drawwell.wire.deposit import Depositor, Depository
    from drawwell.wire.deposit_frames import Deposit, Restart, Want
    from drawwell.wire.egd import EgdParser
    from drawwell.wire.frames import Bye, Call, Draw, Granted, Hello, Refusal, Result, Welcome
    from drawwell.wire.hello import chosen_group
    from drawwell.wire.http_answers import HttpResponse
    from drawwell.wire.http_api import read as read_http
    from drawwell.wire.http_session import HttpRequest, HttpSession
    from drawwell.wire.session import ClientSession, ServerSession
    from drawwell.wire.tls import TlsLayer
    from drawwell.wire.usb_device import UsbIdentity
    from drawwell.wire.usb_host import UsbHost
    from rig.fuzz_keys import fuzz_signer, fuzz_ssh_key, kept  # noqa: F401  names of targets
    from support.certificates import PaperAuthority
    from support.usb_guest import bulk_packet, control_packet, packet

Target = tuple[Callable[[bytes], None], list[bytes]]
MACHINE = HostFacts("well", 1000, "/home/ann", {}, {"www-data": 33}.get)
FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
FRAMES = [
    Hello((1,), "x").encode(), Draw(32, DrawClass.FULL, request_id=1).encode(), Call(2, "status", {}).encode(),
    Bye("y").encode(), Welcome(1, "well", "web01").encode(), Result(2, {"a": [1]}).encode(),
    Granted(b"data", 7, DrawClass.FULL, b"receipt", bytes(32), request_id=1).encode(),
    Refusal(1, 3, "no", "wait", 1_500_000, True).encode(),
]  # fmt: skip


def fuzz_server_session() -> Target:
    def run(data: bytes) -> None:
        session = ServerSession()
        session.receive_data(FRAMES[0])
        session.next_event()
        session.welcome("well", "web01")
        session.receive_data(data)
        with contextlib.suppress(RemoteProtocolError):
            while (event := session.next_event()) is not None:
                if isinstance(event, Call):
                    session.result(event.request_id, event.args)

    return run, [*FRAMES, FRAMES[1] + FRAMES[2]]


def fuzz_server_hello() -> Target:
    def run(data: bytes) -> None:
        session = ServerSession()
        session.receive_data(data)
        with contextlib.suppress(RemoteProtocolError):
            session.next_event()

    return run, FRAMES


def fuzz_client_session() -> Target:
    def run(data: bytes) -> None:
        session = ClientSession()
        session.hello()
        session.receive_data(FRAMES[4])
        session.next_event()
        session.draw(DrawRequest(4, DrawClass.FULL, receipt=True))
        session.call("status", {})
        session.receive_data(data)
        with contextlib.suppress(RemoteProtocolError):
            while session.next_event() is not None:
                pass

    return run, FRAMES


def fuzz_tls_broker() -> Target:
    """Parse a stranger's first bytes at the TLS door."""
    authority = PaperAuthority(FOLDER)
    server = server_context(*authority.server("localhost"))
    client = TlsLayer(client_context(*authority.client("web01")), server_name="localhost")
    client.start()

    def run(data: bytes) -> None:
        layer = TlsLayer(server)
        with contextlib.suppress(RemoteProtocolError):
            layer.receive_data(data)
            layer.read()
        layer.data_to_send()

    return run, [client.data_to_send()]


def fuzz_tls_client() -> Target:
    """Parse a hostile broker's first bytes."""
    authority = PaperAuthority(FOLDER)
    server = TlsLayer(server_context(*authority.server("localhost")))
    context = client_context(*authority.client("web01"))
    first = TlsLayer(context, server_name="localhost")
    first.start()
    server.receive_data(first.data_to_send())

    def run(data: bytes) -> None:
        layer = TlsLayer(context, server_name="localhost")
        layer.start()
        with contextlib.suppress(RemoteProtocolError):
            layer.receive_data(data)
            layer.read()
        layer.data_to_send()

    return run, [server.data_to_send()]


def fuzz_tls_group() -> Target:
    seeds = fuzz_tls_client()[1]

    def run(data: bytes) -> None:
        group = chosen_group(data)
        if group is not None and not 0 <= group < 65_536:
            raise AssertionError

    return run, [seeds[0][:200]]


def fuzz_egd() -> Target:
    def run(data: bytes) -> None:
        parser = EgdParser()
        parser.feed(data)
        with contextlib.suppress(RemoteProtocolError):
            while parser.next_request() is not None:
                pass

    return run, [b"\0", b"\1\x20", b"\2\xff", b"\3\0\x10\4abcd", b"\4", b"\1\x20\2\1\0"]


def fuzz_usbredir() -> Target:
    def run(data: bytes) -> None:
        host = UsbHost(UsbIdentity(0x1D50, 0x6086, 9, "a", "b", "c"))
        host.receive_data(usbredir.hello())
        host.receive_data(data)
        with contextlib.suppress(RemoteProtocolError):
            while host.step():
                host.received.clear()
                host.give(bytes(64))
        host.data_to_send()

    return run, [
        control_packet(1, 0x80, 6, 0x100, length=18) + packet(usbredir.SET_CONFIGURATION, 2, b"\1"),
        control_packet(3, 0x21, 0x22, 3, length=0)
        + bulk_packet(4, 0x85, 128)
        + bulk_packet(5, 5, 4, b"cmdO"),
        bulk_packet(6, 0x85, 64) + packet(usbredir.CANCEL_DATA, 6) + packet(usbredir.RESET, 0),
    ]


REPORT = SourceReport(
    SourceIdentity("stick", "onerng", "/dev/stick"), SourceState.HEALTHY, False, 1, 0, 0, 0, 0, 0, 0.0, 0, 0, "",
)  # fmt: skip
OFFER = Depositor().offer("x", REPORT)


def fuzz_depository() -> Target:
    def run(data: bytes) -> None:
        end = Depository()
        end.receive_data(OFFER)
        while end.next_event():
            pass
        end.accept(wanted=True)
        end.call("info", {})
        end.restart()
        end.receive_data(data)
        with contextlib.suppress(RemoteProtocolError):
            while end.next_event():
                pass

    healthy = OFFER[4 + int.from_bytes(OFFER[1:4], "big") :]
    return run, [healthy, Deposit(576, 0, bytes(64)).encode(), Restart().encode(), *FRAMES]


def fuzz_depository_offer() -> Target:
    def run(data: bytes) -> None:
        end = Depository()
        end.receive_data(data)
        with contextlib.suppress(RemoteProtocolError):
            while end.next_event():
                pass

    return run, [OFFER, *FRAMES]


def fuzz_depositor() -> Target:
    def run(data: bytes) -> None:
        end = Depositor()
        end.receive_data(data)
        with contextlib.suppress(RemoteProtocolError):
            while end.next_event():
                pass

    return run, [
        Want(True).encode() + Call(1, "info", {}).encode(),
        Want(False).encode() + Restart().encode(),
        *FRAMES,
    ]


def fuzz_join_request() -> Target:
    def run(data: bytes) -> None:
        with contextlib.suppress(RemoteProtocolError):
            enrolment.body_length(data[:3])
            enrolment.parse_request(data[3:])

    return run, [enrolment.encode_message(enrolment.JoinRequest("AAAAAAAAAAA", bytes(32), "-----BEGIN\n"))]


def fuzz_join_reply() -> Target:
    def run(data: bytes) -> None:
        with contextlib.suppress(RemoteProtocolError):
            enrolment.body_length(data[:3])
            enrolment.parse_reply(data[3:])

    reply = (
        b'{"v":1,"consumer":"web01","certificate":"x","ca_certificate":"y","broker":"well","addresses":["a:1"],'
        b'"rate":"","quota":"","draw_class":"full","receipt_public_key":"z"}'
    )
    used = enrolment.encode_message(enrolment.JoinRefusal("used", "it was used"))
    return run, [used, len(reply).to_bytes(3) + reply]


def fuzz_token() -> Target:
    def run(data: bytes) -> None:
        with contextlib.suppress(UsageError):
            parse_token(data.decode("latin-1"))

    return run, [
        Token(host, 55001, bytes(32), "AAAAAAAAAAA", bytes(32)).reveal().encode() for host in ("a.b", "::1")
    ]


def fuzz_receipt() -> Target:
    signer = ReceiptSigner(receipt_key_from_seed(bytes(32)))
    body = ReceiptBody.of(
        broker="well", consumer="web01", sources=(), draw_class=DrawClass.FULL, serial=7, time=0.0,
        data=b"x", key=bytes(32),
    )  # fmt: skip

    def run(data: bytes) -> None:
        with contextlib.suppress(RemoteProtocolError):
            read_receipt(data)

    return run, [signer.sign(body)]


def fuzz_certificate() -> Target:
    ca = pki.new_ca("x", 0.0)
    key, request = pki.new_key_and_csr("web01")
    certificate = pki.issue_client(ca, request, "web01", 0.0, 3600.0)

    def run(data: bytes) -> None:
        with contextlib.suppress(ValueError):
            pki.consumer_name(pki.read_certificate(data))

    return run, [certificate, ssl.PEM_cert_to_DER_cert(certificate.decode()), key]


def fuzz_signing_request() -> Target:
    _, request = pki.new_key_and_csr("web01")

    def run(data: bytes) -> None:
        with contextlib.suppress(ValueError):
            pki.csr_spki_sha256(data)

    return run, [request]


def fuzz_openpgp() -> Target:
    def run(data: bytes) -> None:
        with contextlib.suppress(image.BadSignature):
            openpgp.parse_signature(data)

    return run, [firmware_image.sign(b"x")]


def fuzz_firmware_image() -> Target:
    """Parse a dump's header and trailer, with its lengths and signature."""
    dump = firmware_image.simulated_dump()
    end = len(dump) - image.end_area_bytes(3)

    def run(data: bytes) -> None:
        head, tail = data[: image.HEADER_BYTES], data[image.HEADER_BYTES :][: len(dump) - end]
        stream = head + dump[len(head) : end] + tail + dump[end + len(tail) :]
        with contextlib.suppress(image.UnreadableImage):
            verify_image(image.read_image(stream))

    return run, [dump[: image.HEADER_BYTES] + dump[end:]]


def fuzz_replies() -> Target:
    def run(data: bytes) -> None:
        parser = ReplyParser()
        parser.feed(data[: len(data) // 2])
        parser.feed(data[len(data) // 2 :])

    return run, [b"\n\n\n\n\n\n\n\nVersion 3\n", b"\n___00112233445566778899aabbccddeeff___\n"]


def fuzz_configuration() -> Target:
    file = FOLDER / "drawwell.toml"

    def run(data: bytes) -> None:
        file.write_bytes(data)
        with contextlib.suppress(ConfigError):
            load(str(file), machine=MACHINE)

    parts = sample().replace("\n#[", "\n[").replace("\n#", "\n").split("\n\n")
    return run, [b'[broker]\nname = "a"\n[[source]]\nname = "b"\n', *(part.encode()[:4000] for part in parts)]


def fuzz_quantities() -> Target:
    def run(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        for parse in (parse_size, parse_duration, parse_allowance):
            with contextlib.suppress(ValueError):
                parse(text)

    return run, [b"4KiB/s", b"10MiB/day", b"1h", b"1.5min", b"64KiB", b"10MB/90s"]


def fuzz_http() -> Target:
    def run(data: bytes) -> None:
        session = HttpSession()
        session.receive_data(data)
        while not session.closing and (request := session.next_request()) is not None:
            answer = read_http(request) if isinstance(request, HttpRequest) else request
            if not isinstance(answer, HttpResponse):
                return
            session.answer(answer, "Thu, 01 Jan 1970 00:00:00 GMT")
        session.outgoing.clear()

    return run, [
        b"GET /v1/draw?bytes=32&class=full HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nchallenge=a",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n",
    ]


def fuzz_kernel_messages() -> Target:
    def run(data: bytes) -> None:
        announces_copy(data, 0)
        logs_copy(data)

    return run, [
        b"change@/x\0NEW_VMGENID=1\0",
        b"5,1,2,-;random: crng reseeded due to virtual machine fork\n",
    ]


def main() -> None:
    name, corpus, *options = sys.argv[1:]
    run, seeds = globals()[f"fuzz_{name}"]()
    for number, seed in enumerate(seeds + kept(name)):
        (Path(corpus) / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], corpus, *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""A consumer follows its broker's keys through renewals."""

import asyncio
import time
from os import EX_NOPERM
from pathlib import Path
from typing import Any

import pytest

from drawwell.crypto import pki
from drawwell.crypto.receipts import ReceiptBody, ReceiptSigner
from drawwell.enrolment.key_ring import KeyRing
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, UsageError
from drawwell.links.enrol import join
from drawwell.links.identity import LinkIdentity, load
from drawwell.links.renewal import renew_if_due
from drawwell.state.files import read_file
from drawwell.wire.brokers import KnownBroker, KnownBrokers
from support.daemon import command
from support.enrolling import Broker


class Asked:
    """An Upstream that renews with a broker's admin."""

    name = "well"

    def __init__(self, broker: Broker, known: KnownBrokers | None) -> None:
        self._broker, self._known = broker, known

    async def call(self, verb: str, args: dict[str, str]) -> dict[str, Any]:
        if verb == "renew":
            return self._broker.admin.renewals.renew("web01", args["csr"])
        if self._known is None:
            raise UsageError("unknown control verb 'brokers'")
        return self._known.document()


def renew(broker: Broker, identity: LinkIdentity, known: KnownBrokers | None = None) -> LinkIdentity:
    asyncio.run(renew_if_due(Asked(broker, known), identity, time.time(), force=True))  # type: ignore[arg-type]
    return load(identity.directory)


def test_a_renewal_brings_the_brokers_of_a_fleet(tmp_path: Path) -> None:
    """A broker that is missing from the list stays, in last place."""
    a, b, c = (KnownBroker(name, (f"{name}.example:55000",)) for name in "abc")
    with Broker(str(tmp_path / "broker")).running() as broker:
        joined = join(broker.invite(), str(tmp_path / "links" / "well"))
        assert renew(broker, joined) == joined
        first = renew(broker, joined, KnownBrokers("example", (a, b)))
        assert first.server_name == "example.fleet.drawwell.internal"
        assert sorted(each.name for each in first.all_brokers()) == ["a", "b"]
        second = renew(broker, first, KnownBrokers("example", (b, c)))
        assert [each.name for each in second.known.brokers] == ["b", "c", "a"]
        assert second.all_brokers("a")[0] == a
        ring = KeyRing(str(tmp_path / "broker" / "pki"), "well", time.time())
        older = ring.public()
        ring.rotate("receipts", time.time() + 60)
        broker.authority._public = ring.public()
        renew(broker, second)
        broker.authority._public = older
        renew(broker, second)
        assert read_file(second.receipt_key_path).startswith(ring.public().receipt_key)


def test_a_renewal_brings_the_list_of_keys(tmp_path: Path) -> None:
    """The list determines the receipt keys; an older list is refused."""
    with Broker(str(tmp_path / "broker")).running() as broker:
        identity = join(broker.invite(), str(tmp_path / "links" / "well"))
        ring = KeyRing(str(tmp_path / "broker" / "pki"), "well", time.time())
        older = ring.public()
        ring.rotate("receipts", time.time() + 60)
        broker.authority._public = ring.public()
        renew(broker, identity)
        present, earlier = pki.pem_blocks(read_file(identity.receipt_key_path))
        assert (present, earlier) == (ring.public().receipt_key, older.receipt_key)
        broker.authority._public = older
        with pytest.raises(AuthenticationFailed, match="is older than"):
            renew(broker, identity)


def test_a_receipt_of_a_stolen_key_is_refused_after_a_renewal(tmp_path: Path) -> None:
    """The row "receipts" of docs/keys.md: only earlier dates are accepted."""
    with Broker(str(tmp_path / "broker")).running() as broker:
        identity = join(broker.invite(), str(tmp_path / "state" / "links" / "well"))
        ring = KeyRing(str(tmp_path / "broker" / "pki"), "well", time.time())
        thief = ReceiptSigner((tmp_path / "broker" / "pki" / "receipt-key.pem").read_bytes())
        rotated = time.time()
        ring.rotate("receipts", rotated)
        forged = receipt_by(thief, tmp_path, rotated + 180)
        assert verify(tmp_path, forged) == 0
        broker.authority._public = ring.public()
        renew(broker, identity)
        assert verify(tmp_path, forged) == EX_NOPERM
        assert verify(tmp_path, receipt_by(thief, tmp_path, rotated - 180)) == 0


def receipt_by(signer: ReceiptSigner, folder: Path, dated: float) -> Path:
    """Write a receipt, its key and its bytes; return the receipt's path."""
    body = ReceiptBody.of(
        broker="well", consumer="web01", sources=(), draw_class=DrawClass.DRBG, serial=1, time=dated,
        data=bytes(8), key=bytes(32),
    )  # fmt: skip
    path = folder / f"receipt-{int(dated)}"
    for file, content in ((path, signer.sign(body)), (Path(f"{path}.key"), bytes(32))):
        file.write_bytes(content)
    (folder / "drawn").write_bytes(bytes(8))
    return path


def verify(folder: Path, receipt: Path) -> int:
    """Type the command on the consumer's machine; return its exit code."""
    config = folder / "drawwell.toml"
    config.write_text(f'[broker]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n')
    done = command("receipt", "verify", str(receipt), "--data", str(folder / "drawn"), config=str(config))
    assert done.returncode == 0 or "replaced its key" in done.stderr
    return done.returncode

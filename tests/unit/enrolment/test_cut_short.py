"""A rotation that a power cut or a full disk interrupts at any step."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from drawwell.crypto import pki
from drawwell.crypto.hierarchy import KeyList
from drawwell.enrolment.key_files import check_keys
from drawwell.errors import StateUnavailable, UsageError
from unit.enrolment.test_fleet_keys import Machine, join
from unit.enrolment.test_key_ring import CSR, HEAD, NOW, openssl_accepts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl"),
]


class PowerCut(BaseException):
    """The machine is off."""


class Scene:
    """Two brokers of a fleet, and a consumer with the pinned roots."""

    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self.what, self.now = folder, what, NOW + 100
        self.a, self.b = Machine(folder, "site-a"), Machine(folder, "site-b")
        self.a.fleet.found("example")
        join(self.a, self.b)
        self.first_key = self.a.ring.public().receipt_key.decode()
        self.others_key = self.b.ring.public().receipt_key.decode()
        if what == "finish-root":
            self.a.ring.rotate("root", NOW + 50)
        self.pinned = self.a.ring.public().roots
        self.consumer = self.a.ring.certify(CSR, "web01", NOW)

    def change(self) -> None:
        self.now += 1
        self.a.ring.rotate(self.what, self.now)

    def start_again(self) -> None:
        check_keys(str(self.a.path))
        self.a = Machine(self.folder, "site-a", self.now)

    def check(self) -> KeyList:
        """Check what consumers and brokers rely on; return the list of keys."""
        public = self.a.ring.public()
        listed = KeyList.read(public.key_list, self.pinned)
        roots = "".join(listed.roots).encode()
        assert public.roots == roots
        for pinned in (self.pinned, roots):
            assert openssl_accepts(self.folder, pinned, self.a.ring.serve(CSR, ["a"], NOW))
        for chain in (self.consumer, self.a.ring.certify(CSR, "web01", NOW)):
            issuers = [*pki.pem_blocks(chain)[1:], *pki.pem_blocks(public.authorities)]
            assert any(pki.is_issued_by(pki.pem_blocks(chain)[0], issuer) for issuer in issuers)
            assert any(
                pki.is_issued_by(pki.pem_blocks(chain)[1], ca) for ca in pki.pem_blocks(public.authorities)
            )
        current = {key.public_key for key in listed.receipt_keys if not key.until}
        assert current == {public.receipt_key.decode(), self.others_key}
        assert self.a.ring.sign([HEAD])
        return listed

    def check_end(self) -> None:
        """Check that the rotation has had its effect."""
        listed, names = self.check(), sorted(path.name for path in self.a.path.iterdir())
        if self.what == "receipts":
            assert self.first_key in {key.public_key for key in listed.receipt_keys if key.until}
        elif self.what == "intermediate":
            assert pki.pem_blocks(self.consumer)[1] in pki.pem_blocks(self.a.ring.public().authorities)
            assert pki.pem_blocks(self.consumer)[1] != (self.a.path / "intermediate.pem").read_bytes()
        else:
            assert len(listed.roots) == (2 if self.what == "root" else 1)
            assert ("next-root.pem" in names) is (self.what == "root")
            assert (listed.roots[0].encode() in self.pinned) is True
        assert (self.a.path / "root.pem").read_text() == listed.roots[0]
        assert self.a.ring.export_root().count(b"BEGIN") == len(listed.roots)


@contextmanager
def the_step_fails(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> Iterator[list[int]]:
    """Let the given replacement or removal of a file fail, once."""
    left = [step]

    def failing(call: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*arguments: str) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise error
            call(*arguments)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(os.replace))
        if isinstance(error, PowerCut):
            patch.setattr(os, "unlink", failing(os.unlink))
        yield left


WHAT = ("receipts", "intermediate", "root", "finish-root")
MOST_STEPS = 12


@pytest.mark.parametrize("what", WHAT)
def test_a_power_cut_at_any_step_loses_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The signer starts, and the rotation can be repeated."""
    for step in range(MOST_STEPS):
        (tmp_path / str(step)).mkdir()
        scene = Scene(tmp_path / str(step), what)
        with the_step_fails(monkeypatch, step, PowerCut()) as left, suppress(PowerCut):
            scene.change()
        scene.start_again()
        scene.check()
        if left[0] >= 0:
            scene.check_end()
            assert step > 1
            return
        with suppress(UsageError):  # there is no next root any more
            scene.change()
        scene.start_again()
        scene.check_end()
    pytest.fail("the rotation has more steps than expected")


@pytest.mark.parametrize("what", WHAT)
def test_a_full_disk_at_any_step_delays_a_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The running signer goes on, and finishes the rotation when repeated."""
    for step in range(MOST_STEPS):
        (tmp_path / str(step)).mkdir()
        scene = Scene(tmp_path / str(step), what)
        try:
            with the_step_fails(monkeypatch, step, OSError(errno.ENOSPC, "no space")):
                scene.change()
        except StateUnavailable:
            scene.check()
            with pytest.raises(UsageError, match=f"rotation of {what} has failed"):
                scene.a.ring.export_root()
            scene.change()
            scene.check_end()
        else:
            assert step > 1
            return
    pytest.fail("the rotation has more steps than expected")


def test_a_next_root_that_is_not_listed_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers must learn of the root before it signs."""
    scene = Scene(tmp_path, "root")
    full = OSError(errno.ENOSPC, "no space")
    with the_step_fails(monkeypatch, 2, full), pytest.raises(StateUnavailable):
        scene.change()
    with pytest.raises(UsageError, match="there is no next root"):
        scene.a.ring.rotate("finish-root", scene.now)
    scene.check()


def test_a_power_cut_while_a_broker_follows_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker opens its keys, can be verified, and follows again."""
    for step in range(MOST_STEPS):
        (tmp_path / str(step)).mkdir()
        scene = Scene(tmp_path / str(step), "finish-root")
        a, b = scene.a, scene.b
        b.fleet.follow(a.ring.public().key_list)
        scene.change()
        new = a.ring.public()

        def follow(broker: Machine, document: bytes = new.key_list, a: Machine = a) -> None:
            broker.fleet.follow(document)
            if csr := broker.fleet.due(NOW):
                broker.fleet.take(a.fleet.renew("site-b", csr.encode(), NOW).encode())

        with the_step_fails(monkeypatch, step, PowerCut()) as left, suppress(PowerCut):
            follow(b)
        again = Machine(scene.folder, "site-b")
        assert openssl_accepts(scene.folder, scene.pinned, again.ring.serve(CSR, ["b"], NOW))
        follow(again)
        for machine in (again, Machine(scene.folder, "site-b")):
            assert openssl_accepts(scene.folder, new.roots, machine.ring.serve(CSR, ["b"], NOW))
            assert (machine.ring.public().key_list, machine.ring.public().roots) == (new.key_list, new.roots)
        assert (again.path / "root.pem").read_bytes() == new.roots
        if left[0] >= 0:
            assert step > 2
            return
    pytest.fail("following has more steps than expected")

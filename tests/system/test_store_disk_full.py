"""state/store.py on a full file system."""

import os
import subprocess

import pytest

from drawwell.entropy.quota import QuotaState
from drawwell.errors import StateUnavailable
from drawwell.state.store import Store

pytestmark = pytest.mark.root


@pytest.fixture
def small_disk(tmp_path):
    """Mount a tmpfs of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount here")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_refuses_and_free_space_heals(small_disk) -> None:
    """On a full disk a reservation fails with a hint; space fixes it."""
    store = Store(str(small_disk / "broker.db"))
    store.lease({"web01": QuotaState(0, 1.0, 7)})
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(bytes(1 << 20))

    with pytest.raises(StateUnavailable) as caught:
        store.lease({f"c{n}": QuotaState(0, 1.0, n) for n in range(500)})
    kept, fault = (store.leased("web01"), store.leased("c0")), store.fault
    ballast.unlink()
    store.lease({"web01": QuotaState(0, 1.0, 8)})
    after = store.leased("web01")
    store.close()

    assert "Free space" in (caught.value.hint or "")
    assert "full" in fault
    assert store.fault == ""
    assert kept == (QuotaState(0, 1.0, 7), None)
    assert after == QuotaState(0, 1.0, 8)


def test_a_full_disk_at_start_refuses_to_start(small_disk) -> None:
    """A broker does not start on state that it cannot write."""
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(bytes(1 << 20))

    with pytest.raises(StateUnavailable):
        Store(str(small_disk / "broker.db"))

"""X25519MLKEM768 with broker and consumer on Debian 13."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cache import or_skip
from lab.roots import MINBASE, Root, chroot

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.long
BROKER = """
[broker]
name = "pq"
state_dir = "/tmp/broker"
run_dir = "/tmp/run"
[[source]]
name = "noise"
driver = "chardev"
path = "/dev/urandom"
allow_os_generator = true
min_entropy = 6.0
[tls]
listen = "127.0.0.1:55000"
names = ["127.0.0.1"]
require_pq = true
"""
CONSUMER = """
[broker]
state_dir = "/tmp/consumer"
[[upstream]]
url = "tls://127.0.0.1:55000"
[tls]
require_pq = true
"""
SCRIPT = """
set -eu
export PYTHONPATH=/opt/drawwell
drawwell() { python3 -m drawwell "$@"; }
python3 -m drawwell -c /tmp/broker.toml run 2> /tmp/log &
trap "kill $!" EXIT
until grep -q healthy /tmp/log; do sleep 0.1; done
drawwell -c /tmp/broker.toml consumer invite web01 | drawwell -c /tmp/consumer.toml join
drawwell -c /tmp/consumer.toml draw 32 --hex
drawwell -c /tmp/broker.toml status
openssl s_client -connect 127.0.0.1:55000 -groups X25519 -tls1_3 < /dev/null && echo X25519 is taken
true
"""


@pytest.fixture(scope="module")
def debian_13() -> Iterator[Root]:
    """Return a Debian 13 with this source."""
    with or_skip(), chroot("trixie", (*MINBASE, "openssl")) as root:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(
            ROOT / "src" / "drawwell", root.path / "opt" / "drawwell" / "drawwell", ignore=ignored
        )
        for name, text in (("broker.toml", BROKER), ("consumer.toml", CONSUMER)):
            (root.path / "tmp" / name).write_text(text)
        yield root


def test_a_session_agrees_on_the_post_quantum_group_and_on_no_other(debian_13: Root) -> None:
    """With require_pq draws use X25519MLKEM768; X25519 is refused."""
    said = debian_13.run("sh", "-c", SCRIPT).stdout
    assert re.search(r"^[0-9a-f]{64}$", said, re.MULTILINE), said
    assert re.search(r"tls key exchanges: X25519MLKEM768 \(\d+\)", said), said
    assert "X25519 is taken" not in said
    assert "handshake failure" in said

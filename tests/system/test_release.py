"""``make release`` from a clone: reproducible, summed and signed."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from support.documents import ROOT

pytestmark = pytest.mark.long


def test_a_release_is_reproducible_and_signed(tmp_path: Path) -> None:
    """The named key signed the sums of package, wheel, source and SBOM."""
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    environment = os.environ | {"GNUPGHOME": str(home)}

    def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=check
        )

    run("gpg", "--batch", "--quick-generate-key", "--passphrase", "", "test", "ed25519", "sign", "never")
    run("git", "clone", "--quiet", str(ROOT), "clone")
    refused = run("make", "-C", "clone", "release", check=False)
    assert "name your key" in refused.stderr
    run("make", "-C", "clone", "release", "KEY=test")
    out = tmp_path / "clone" / "dist" / "release"
    run("gpg", "--verify", str(out / "SHA256SUMS.asc"), str(out / "SHA256SUMS"))
    sums = dict(reversed(line.split()) for line in (out / "SHA256SUMS").read_text().splitlines())
    assert {Path(name).suffix for name in sums} == {".deb", ".whl", ".gz", ".json"}
    for name, digest in sums.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    (bill,) = out.glob("*.cdx.json")
    names = {each["name"] for each in json.loads(bill.read_text())["components"]}
    assert {"cryptography", "h11"} <= names

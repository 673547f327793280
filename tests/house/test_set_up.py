"""Setting up a checkout: requirements, and missing packages."""

import re
import subprocess
from pathlib import Path

from support.documents import ROOT


def pinned(name: str) -> set[str]:
    """Return the pinned releases of a file, each with its hashes."""
    return set(re.split(r"\n(?=[a-z])", (ROOT / name).read_text().rstrip()))


def test_the_demo_s_requirements_are_those_of_the_program() -> None:
    """requirements-run.txt has the same releases, without development tools."""
    assert pinned("requirements-run.txt") < pinned("requirements.txt")
    names = {each.partition("==")[0] for each in pinned("requirements-run.txt")}
    assert names == {"cffi", "cryptography", "h11", "pycparser"}


def test_a_user_gets_one_line_for_what_is_missing(tmp_path: Path) -> None:
    """Without Python, a user without root gets one apt command."""
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", ROOT / "tools" / "packages", "venv"],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.findall(r"apt install .*", done.stderr) == ["apt install python3 python3-venv"]

"""Write requirements.txt, pinned with hashes, without index addresses.

requirements-run.txt has only the packages that the program imports, and
requirements-release.txt those that ``make release`` runs.

``make lock`` runs this after a change of the dependencies in pyproject.toml.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Resolve runtime and development dependencies together."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = project["project"]["dependencies"]
    with tempfile.TemporaryDirectory() as folder:
        tool = Path(folder) / "tool"
        subprocess.run([sys.executable, "-m", "venv", tool], check=True)
        subprocess.run([tool / "bin/pip", "install", "--quiet", "pip-tools"], check=True)
        everything = ROOT / "requirements.txt"
        _compile(tool, [*needed, *project["dependency-groups"]["dev"]], everything)
        _compile(tool, [*needed, f"-c {everything}"], ROOT / "requirements-run.txt")
        release = [*project["dependency-groups"]["release"], f"-c {everything}"]
        _compile(tool, release, ROOT / "requirements-release.txt")


def _compile(tool: Path, wanted: list[str], output: Path) -> None:
    source = tool / "requirements.in"
    source.write_text("\n".join(wanted) + "\n")
    command = [
        str(tool / "bin/pip-compile"), "--quiet", "--generate-hashes", "--allow-unsafe", "--strip-extras",
        "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-header",
        "--no-annotate", "--output-file", str(output), str(source),
    ]  # fmt: skip
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

"""Write requirements.txt: everything pinned with hashes, and no index address in it.

Run by ``make lock`` after a change of the dependencies in pyproject.toml.
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
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "requirements.in"
        source.write_text("\n".join(wanted) + "\n")
        tool = Path(folder) / "tool"
        subprocess.run([sys.executable, "-m", "venv", tool], check=True)
        subprocess.run([tool / "bin/pip", "install", "--quiet", "pip-tools"], check=True)
        command = [
            str(tool / "bin/pip-compile"), "--quiet", "--generate-hashes", "--allow-unsafe", "--strip-extras",
            "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-header",
            "--no-annotate", "--output-file", str(ROOT / "requirements.txt"), str(source),
        ]  # fmt: skip
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

"""The Debian package, built from the tree and cached by its inputs."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lab.cache import NoLab, digest_of, kept, program

TREE: Final = Path(__file__).resolve().parents[2]
INPUTS: Final = (
    "debian", "packaging", "src", "docs", "examples", "README.md", "SECURITY.md",
    "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE",
    "pyproject.toml", "tools/deb",
)  # fmt: skip
NEEDED: Final = {"dpkg-buildpackage": "dpkg-dev", "dh": "debhelper", "dh_python3": "dh-python"}


def package() -> Path:
    """Return the package, built by ``make deb``.

    Raises:
        NoLab: Debian's build packages are not installed, or the build fails.
    """
    for tool, name in NEEDED.items():
        if not shutil.which(tool):
            raise NoLab(f"{name} is not installed")
    recipe = {str(file.relative_to(TREE)): [digest_of(file), os.access(file, os.X_OK)] for file in _inputs()}
    folder = kept("package", recipe, lambda work: _ignore(program(TREE / "tools" / "deb", work)))
    (found,) = folder.glob("*.deb")
    return found


def package_of(commit: str) -> Path:
    """Return the package of an earlier commit in this clone's history.

    Raises:
        NoLab: as `package`, or the commit is not in the history.
    """

    def build(work: Path) -> None:
        tree = work / "tree"
        tree.mkdir()
        program("git", "-C", TREE, "archive", "--output", work / "tree.tar", commit)
        program("tar", "-x", "-C", tree, "-f", work / "tree.tar")
        program(tree / "tools" / "deb", work)
        shutil.rmtree(tree)
        (work / "tree.tar").unlink()

    (found,) = kept("package", {"commit": commit}, build).glob("*.deb")
    return found


def program_digest() -> str:
    """Return the hash of the package's inputs without the manuals."""
    files = (
        file for file in _inputs() if "docs" not in file.relative_to(TREE).parts and file.suffix != ".md"
    )
    return hashlib.sha256("".join(f"{file} {digest_of(file)}\n" for file in files).encode()).hexdigest()


def _ignore(_: object) -> None:
    pass


def _inputs() -> list[Path]:
    places = [TREE / name for name in INPUTS]
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*"))]
    return sorted(file for file in files if file.is_file() and "__pycache__" not in file.parts)


@contextlib.contextmanager
def newer(deb: Path, version: str) -> Iterator[Path]:
    """Create the same package with a newer version, to upgrade to."""
    with tempfile.TemporaryDirectory(prefix="drawwell-deb-") as folder:
        tree, made = Path(folder) / "tree", Path(folder) / f"drawwell_{version}_all.deb"
        program("dpkg-deb", "--raw-extract", deb, tree)
        control = tree / "DEBIAN" / "control"
        lines = control.read_text().splitlines()
        changed = [f"Version: {version}" if line.startswith("Version:") else line for line in lines]
        control.write_text("\n".join(changed) + "\n")
        program("dpkg-deb", "--root-owner-group", "--build", tree, made)
        yield made


def field(deb: Path, name: str) -> str:
    """Return one field of the package's control file."""
    done = subprocess.run(["dpkg-deb", "--field", deb, name], capture_output=True, text=True, check=True)
    return done.stdout.strip()

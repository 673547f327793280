"""Build a signed release in dist/release: package, wheel and source.

Everything is built twice from the committed files, in two directories, and compared byte by
byte. ``make release KEY=FINGERPRINT`` runs this; KEY is the releasing person's key in their
gpg.
"""

import filecmp
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
OUT: Final = ROOT / "dist" / "release"
SUMS: Final = "SHA256SUMS"


class Refused(Exception):
    """The release failed; the message states what to do."""


def main() -> int:
    """Build, compare and sign."""
    try:
        key = _key(sys.argv[1:])
        release(OUT, key)
    except Refused as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def _key(arguments: list[str]) -> str:
    if len(arguments) != 1 or not arguments[0]:
        raise Refused("name your key: make release KEY=FINGERPRINT")
    known = subprocess.run(["gpg", "--list-secret-keys", arguments[0]], capture_output=True, check=False)
    if known.returncode:
        raise Refused(f"gpg has no secret key {arguments[0]}")
    if _run("git", "status", "--porcelain"):
        raise Refused("commit first: a release is what is committed")
    return arguments[0]


def release(out: Path, key: str) -> None:
    """Write a release to a directory.

    Raises:
        Refused: two builds differ, or a build failed.
    """
    with tempfile.TemporaryDirectory(prefix="release-") as one, tempfile.TemporaryDirectory() as two:
        built = [_build(Path(place)) for place in (one, two)]
        differ = [path.name for path in built[0].iterdir() if not _same(path, built[1] / path.name)]
        if differ:
            raise Refused(f"two builds of {', '.join(differ)} differ")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(built[0], out)
    _bill_of_materials(out)
    names = sorted(path.name for path in out.iterdir())
    sums = [f"{hashlib.sha256((out / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (out / SUMS).write_text("".join(sums))
    _run("gpg", "--batch", "--local-user", key, "--armor", "--detach-sign", str(out / SUMS))
    print("\n".join([*names, SUMS, f"{SUMS}.asc"]))


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _build(work: Path) -> Path:
    """Build the commit in a separate tree; return the output directory."""
    tree, out = work / "tree", work / "out"
    tree.mkdir()
    out.mkdir()
    archive = work / "tree.tar"
    _run("git", "archive", "--output", str(archive), "HEAD")
    _run("tar", "-x", "-C", str(tree), "-f", str(archive))
    epoch = _run("git", "log", "-1", "--format=%ct").strip()
    environment = os.environ | {"SOURCE_DATE_EPOCH": epoch}
    hatch = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(out))
    _run(*hatch, cwd=tree, environment=environment)
    _run(str(tree / "tools" / "deb"), str(out), cwd=tree, environment=environment)
    for path in out.iterdir():
        if path.suffix not in {".deb", ".whl", ".gz"}:
            path.unlink()  # dpkg's record of this machine
    return out


def _bill_of_materials(out: Path) -> None:
    """Write the SBOM (CycloneDX) of the program's run-time dependencies."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    _run(
        sys.executable, "-m", "cyclonedx_py", "requirements", "--pyproject", str(ROOT / "pyproject.toml"),
        "--output-reproducible", "--output-format", "JSON",
        "--output-file", str(out / f"drawwell-{version}.cdx.json"), str(ROOT / "requirements-run.txt"),
    )  # fmt: skip


def _run(*command: str, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"{command[0]} failed: {done.stderr.strip()[-2000:] or done.stdout.strip()[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())

"""The lab's products, cached under the hash of their recipe."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

KEPT_DAYS: Final = 14
"""Entries unused for this long are removed when a new one is built."""
BUILD_S: Final = 1800.0
"""The time limit of one program in a build; a slow mirror needs minutes."""


class NoLab(Exception):
    """A guest or a part of it is unavailable; the message is the reason."""


@contextlib.contextmanager
def or_skip() -> Iterator[None]:
    """Skip the test with the reason if there is no lab; in CI, fail."""
    import pytest

    try:
        yield
    except NoLab as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no guest: {reason}")
        pytest.skip(f"no guest: {reason}")


def cache_directory() -> Path:
    """Return the cache directory: $DRAWWELL_LAB, or ~/.cache/drawwell-lab."""
    return Path(os.environ.get("DRAWWELL_LAB") or Path.home() / ".cache" / "drawwell-lab")


def kept(kind: str, recipe: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """Return the directory that `build` filled for a JSON `recipe`.

    Concurrent builders wait for each other; a build that fails leaves nothing.

    Raises:
        NoLab: it is not cached and cannot be built.
    """
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    cache = cache_directory()
    place = cache / f"{kind}-{digest}"
    if not place.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f".lock-{kind}-{digest}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.is_dir():
                _build(place, recipe, build)
    os.utime(place)
    return place


def _build(place: Path, recipe: Mapping[str, Any], build: Callable[[Path], None]) -> None:
    _remove_old(place.parent)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".new-", dir=place.parent, ignore_cleanup_errors=True) as folder:
        work = Path(folder) / "content"
        work.mkdir()
        build(work)
        (work / "recipe.json").write_text(json.dumps(recipe, sort_keys=True, indent=1))
        work.rename(place)
    sys.stderr.write(f"lab: made {place.name} in {time.monotonic() - began:.1f} s\n")


def _remove_old(cache: Path) -> None:
    for entry in cache.glob("[!.]*-*"):
        if time.time() - entry.stat().st_mtime > KEPT_DAYS * 86400:
            shutil.rmtree(entry, ignore_errors=True)


def digest_of(path: Path | str) -> str:
    """Return the SHA-256 of a file, for a recipe."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def program(*arguments: str | Path, cwd: Path | None = None, data: bytes | None = None) -> str:
    """Run a program of a build and return its output.

    Raises:
        NoLab: it is not installed, fails, or takes too long.
    """
    try:
        done = subprocess.run(
            arguments, cwd=cwd, input=data, capture_output=True, check=True, timeout=BUILD_S
        )  # fmt: skip
    except FileNotFoundError:
        raise NoLab(f"{arguments[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise NoLab(f"{arguments[0]} takes too long") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines()
        raise NoLab(f"{arguments[0]}: {' / '.join(reason[-3:]) or error}") from None
    return done.stdout.decode(errors="replace")

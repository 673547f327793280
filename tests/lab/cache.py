"""What the lab has made, kept under the hash of the recipe that it was made from."""

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
"""What nobody used for so long is thrown away when something new is made."""
BUILD_S: Final = 1800.0
"""How long one program of a build may take; on a slow mirror, minutes."""


class NoLab(Exception):
    """A guest, or a part of one, cannot be had here; the reason is its text."""


@contextlib.contextmanager
def or_skip() -> Iterator[None]:
    """Skip the test when there is no lab, with the reason; in CI that is a failure."""
    import pytest

    try:
        yield
    except NoLab as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no guest: {reason}")
        pytest.skip(f"no guest: {reason}")


def cache_directory() -> Path:
    """Return where everything is kept: $DRAWWELL_LAB, or ~/.cache/drawwell-lab."""
    return Path(os.environ.get("DRAWWELL_LAB") or Path.home() / ".cache" / "drawwell-lab")


def kept(kind: str, recipe: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """Return the directory that `build` has filled for `recipe`, a JSON object; build it when it is not there.

    Builders side by side wait for each other; one that fails leaves nothing.

    Raises:
        NoLab: it is not there and cannot be built.
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
    _throw_away_the_old(place.parent)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".new-", dir=place.parent, ignore_cleanup_errors=True) as folder:
        work = Path(folder) / "content"
        work.mkdir()
        build(work)
        (work / "recipe.json").write_text(json.dumps(recipe, sort_keys=True, indent=1))
        work.rename(place)
    sys.stderr.write(f"lab: made {place.name} in {time.monotonic() - began:.1f} s\n")


def _throw_away_the_old(cache: Path) -> None:
    for entry in cache.glob("[!.]*-*"):
        if time.time() - entry.stat().st_mtime > KEPT_DAYS * 86400:
            shutil.rmtree(entry, ignore_errors=True)


def digest_of(path: Path | str) -> str:
    """Return the SHA-256 of a file, for a recipe."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def program(*words: str | Path, cwd: Path | None = None, data: bytes | None = None) -> str:
    """Run a program of a build and return its output.

    Raises:
        NoLab: not installed, failed, or took too long.
    """
    try:
        done = subprocess.run(
            words, cwd=cwd, input=data, capture_output=True, check=True, timeout=BUILD_S
        )  # fmt: skip
    except FileNotFoundError:
        raise NoLab(f"{words[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise NoLab(f"{words[0]} takes too long") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines()
        raise NoLab(f"{words[0]}: {' / '.join(reason[-3:]) or error}") from None
    return done.stdout.decode(errors="replace")

"""Modules that a command imports before it does its work.

On a small machine imports are most of its time.
"""

import subprocess
import sys

import pytest


def loaded(*arguments: str) -> set[str]:
    """Return the names of the modules that a command loads."""
    script = (
        "import sys\nfrom drawwell.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_version_needs_no_parser() -> None:
    """`--version` loads only drawwell's entry, and no asyncio or ssl."""
    modules = loaded("--version")
    assert modules & {"asyncio", "ssl", "argparse", "dataclasses"} == set()
    assert {name for name in modules if name.startswith("drawwell")} == {"drawwell", "drawwell.cli"}


@pytest.mark.parametrize("arguments", [["--help"], ["draw", "--help"], ["status", "--help"]], ids=" ".join)
def test_help_needs_no_event_loop(arguments: list[str]) -> None:
    """Help, for every command, loads neither asyncio nor ssl."""
    assert loaded(*arguments) & {"asyncio", "ssl"} == set()


def test_a_draw_does_not_read_the_table_of_devices() -> None:
    """Without a broker it fails after all its imports."""
    modules = loaded("draw", "--via", "unix:///nowhere")
    assert "drawwell.config.load" in modules
    assert "drawwell.config.devices" not in modules

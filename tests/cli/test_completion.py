"""The completion scripts, and the bash one at work."""

import shutil
import subprocess
from pathlib import Path

import pytest

from drawwell.cli import build_parser
from drawwell.cli.command_tree import command_tree
from drawwell.cli.completion import shells

TREE = command_tree(build_parser())
SCRIPTS = {"bash": shells.bash(TREE), "zsh": shells.zsh(TREE), "fish": shells.fish(TREE)}


def _complete(line: str, cwd: Path) -> list[str]:
    """What bash offers for the last word of `line`, in sorted order."""
    words = line.split(" ")
    script = (
        f"{SCRIPTS['bash']}\n"
        f"COMP_WORDS=({' '.join(words[:-1])} '{words[-1]}')\nCOMP_CWORD={len(words) - 1}\n"
        'set -u\n_drawwell\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", script], cwd=cwd, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return sorted(done.stdout.split("\n")[:-1])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("drawwell stat", ["status"]),
        ("drawwell c", ["check", "completion", "config", "consumer"]),
        ("drawwell config ", ["check", "sample", "show"]),
        ("drawwell config show --o", ["--origin"]),
        ("drawwell config show --json --o", ["--origin"]),
        ("drawwell config show -c x.toml --o", ["--origin"]),
        ("drawwell config show -c status --o", ["--origin"]),
        ("drawwell config show -c a", ["a file", "a.toml"]),
        ("drawwell config check a", ["a file", "a.toml"]),
        ("drawwell completion ", ["bash", "fish", "zsh"]),
        ("drawwell --ver", ["--version"]),
        ("drawwell nonsense --h", ["--help"]),
        ("drawwell -c x.toml sta", ["status"]),
    ],
)
def test_bash_offers_what_fits(tmp_path: Path, line: str, expected: list[str]) -> None:
    """Tab offers the commands, options, choices and files that fit where the cursor is."""
    for name in ("a file", "a.toml", "b"):
        (tmp_path / name).touch()
    assert _complete(line, tmp_path) == expected


@pytest.mark.parametrize("shell", SCRIPTS)
def test_script_is_good_for_its_shell(shell: str) -> None:
    """The shell itself finds no fault with the syntax of its script."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed here")
    option = {"bash": "-n", "zsh": "-n", "fish": "--no-execute"}[shell]
    done = subprocess.run([shell, option], input=SCRIPTS[shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_script_knows_every_command_and_option(shell: str) -> None:
    """No command and no option is missing from any shell's script."""
    for command in TREE.walk():
        assert command.name in SCRIPTS[shell]
        for flag in (flag for option in command.options for flag in option.flags):
            assert (
                f" -l {flag[2:]} " if shell == "fish" and flag.startswith("--") else flag.lstrip("-")
            ) in SCRIPTS[shell]

"""The completion scripts, run in bash, zsh and fish."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_tree import command_tree

from drawwell.cli.completion import SHELLS, script_for
from drawwell.cli.parser import build_parser
from drawwell.testing.waiting import DEADLINE_S

TREE = command_tree(build_parser())
SCRIPTS = {shell: script_for(shell) for shell in SHELLS}


def _complete(line: str, cwd: Path) -> list[str]:
    """Return bash's completions for the last word of `line`, sorted."""
    typed = line.split(" ")
    script = (
        f"{SCRIPTS['bash']}\n"
        f"COMP_WORDS=({' '.join(typed[:-1])} '{typed[-1]}')\n"  # wording: bash's variable
        f"COMP_CWORD={len(typed) - 1}\n"
        'set -u\n_shtab_drawwell\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", script], cwd=cwd, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return sorted(done.stdout.split("\n")[:-1])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("drawwell stat", ["status"]),
        ("drawwell c", ["check", "check-health", "completion", "config", "consumer"]),
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
    """Tab offers matching commands, options, choices and files."""
    for name in ("a file", "a.toml", "b"):
        (tmp_path / name).touch()
    assert _complete(line, tmp_path) == expected


@pytest.mark.parametrize("shell", SCRIPTS)
def test_script_is_good_for_its_shell(shell: str) -> None:
    """The shell accepts the syntax of its script."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed here")
    option = {"bash": "-n", "zsh": "-n", "fish": "--no-execute"}[shell]
    done = subprocess.run([shell, option], input=SCRIPTS[shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_script_knows_every_command_and_option(shell: str) -> None:
    """Every shell's script has every command and option."""
    for command in TREE.walk():
        assert command.name in SCRIPTS[shell]
        for flag in (flag for option in command.options for flag in option.flags):
            assert (
                f" -l {flag[2:]} " if shell == "fish" and flag.startswith("--") else flag.lstrip("-")
            ) in SCRIPTS[shell]


ZSH = """\
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PROMPT=; fpath=($PWD \\$fpath); autoload -U compinit; compinit -u -D; print rea''dy"
zpty -r shell output '*ready*'
zpty -w -n shell $'drawwell config sa\\t'
zpty -r shell output '*sample*'
print -r -- $output
"""
"""A terminal in which zsh loads the script from its fpath; reads wait for their match."""


def test_zsh_offers_what_fits(tmp_path: Path) -> None:
    """Tab in an interactive zsh completes a command."""
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed here")
    (tmp_path / "_drawwell").write_text(SCRIPTS["zsh"])
    command = ["zsh", "-f", "-c", ZSH]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    assert "sample" in done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("drawwell config ", {"check", "sample", "show"}),
        ("drawwell completion ", {"bash", "fish", "zsh"}),
        ("drawwell config show --o", {"--origin"}),
    ],
)
def test_fish_offers_what_fits(tmp_path: Path, line: str, expected: set[str]) -> None:
    """Tab in fish offers commands, choices and options."""
    if not shutil.which("fish"):
        pytest.skip("fish is not installed here")
    script = tmp_path / "drawwell.fish"
    script.write_text(SCRIPTS["fish"])
    command = ["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert {each.partition("\t")[0] for each in done.stdout.splitlines()} == expected


def test_names_of_sources_and_links_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tab offers configured sources, and no files in place of names."""
    (tmp_path / "drawwell.toml").write_text(
        f'[broker]\nrun_dir = "{tmp_path}/run"\nstate_dir = "{tmp_path}"\n[[source]]\nname = "stick"\n'
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "drawwell").write_text(f'#!/bin/sh\nexec {sys.executable} -m drawwell "$@"\n')
    (tmp_path / "bin" / "drawwell").chmod(0o755)
    monkeypatch.setenv("DRAWWELL_CONFIG", str(tmp_path / "drawwell.toml"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert _complete("drawwell source verify st", tmp_path) == ["stick"]
    assert [each for each in _complete("drawwell leave ", tmp_path) if each] == []

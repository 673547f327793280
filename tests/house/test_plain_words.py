"""tools/words.py: the faults that it finds, and its exceptions."""  # wording: a name

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "words.py"  # wording: a name
FOREIGN = "It begins anew.\n"  # wording: a sample


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create an empty repository as the working directory."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, TOOL, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.md", f"Fine.\n{FOREIGN}", "a.md:2: 'anew'"),  # wording: a sample
        ("a.sh", "wait_for_nobody\n", "a.sh:1: 'nobody'"),  # wording: a sample
        ("a.py", "class NobodyWaits: ...\n", "a.py:1: 'nobody'"),  # wording: a sample
        ("a.py", '"""Pour it out."""\n', "a.py:1: 'pour'"),  # wording: a sample
        ("a.md", "x " * 48, "a.md:1: prose ends at column 95"),
        ("a.toml", "# " + "x " * 47, "a.toml:1: prose ends at column 95"),
        ("a.py", f'key = 1\n"""{"x " * 47}"""\n', "a.py:2: prose ends at column 95"),
        ("a.py", f'def f():\n    """{"x" * 73}"""\n', "a.py:2: first line of 73 characters"),
    ],
)
def test_a_fault_is_found_in_its_line(tree: Path, name: str, text: str, fault: str) -> None:
    """Phrases, long first lines and long prose fail, with their lines."""
    (tree / name).write_text(text)
    status, report = check()
    assert status == 1
    assert report.startswith(fault)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", "The option `anew`, --mend and docs/anew.md.\n"),  # wording: a sample
        ("a.md", "A sum of 32-bit words. Nothing to pour into.\n"),  # wording: a sample
        ("a.py", 'user = "nobody"  # wording: an account of the system\n'),
        ("a.md", f"```\n{'x' * 96}\n```\n|{'x' * 96}|\n"),
        ("a.md", f"  (`{'x' * 96}`).\n"),
        ("a.py", f'long = "{"x" * 96}"\n'),
        ("LICENSE", FOREIGN),
        ("tests/vectors/a.json", FOREIGN),
        ("a.bin", b"\xff anew"),  # wording: a sample
    ],
)
def test_what_is_no_prose_of_ours_is_read_over(tree: Path, name: str, text: str | bytes) -> None:
    """Code, options, tables, quoted files and lines with a reason pass."""
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    status, report = check()
    assert status == 0, report


def test_an_excuse_needs_a_reason(tree: Path) -> None:
    """A mark without a reason excuses nothing."""
    (tree / "a.py").write_text('user = "nobody"  # wording:\n')  # wording: a sample
    assert check()[0] == 1


def test_single_files_are_checked(tree: Path) -> None:
    """Only the named files are checked."""
    (tree / "foreign.md").write_text(FOREIGN)
    (tree / "plain.md").write_text("It starts again.\n")

    assert check("plain.md")[0] == 0
    assert check("foreign.md")[0] == 1

"""Check that files are written in plain English, as tools/words.txt asks.

A fault is a phrase from that list, a docstring with a first line of more than 72 characters,
or a line of prose beyond column 95. Code spans, paths and options are ignored, and so are
lines with a stated reason: `wording: quoted from FIPS 140-2`.
"""

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FIRST_LINE, PROSE = 72, 95
LIST = Path(__file__).with_name("words.txt")  # wording: a file name
QUOTED = re.compile(
    r"LICENSE|requirements(-run)?\.txt|debian/copyright|tests/vectors/.*(?<!\.py)"
    r"|docs/pictures/.*\.svg|tools/words\.txt"  # wording: names of files
    r"|src/drawwell/cli/completion/drawwell\.(ba|z)sh"
)
"""Licences, generated data and scripts, and the list itself."""
READ_OVER = re.compile(r"`[^`]*`|\S*/\S+|--[\w-]+")
EXCUSED = re.compile(r"\bwording: \w")
Fault = tuple[int, str]


INSTEAD = dict(line.split(" = ", 1) for line in LIST.read_text().partition("\n\n")[2].splitlines())
PHRASES = re.compile(rf"\b(?:{'|'.join(f'(?P<p{n}>{each})' for n, each in enumerate(INSTEAD))})\b")


def _phrase_faults(lines: list[str]) -> Iterator[Fault]:
    instead = list(INSTEAD.values())
    for number, line in enumerate(lines, 1):
        plain = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", READ_OVER.sub(" ", line)).lower()
        for found in PHRASES.finditer(plain):
            yield number, f"{found[0]!r}: write {instead[int((found.lastgroup or '')[1:])]}"


def _docstring_faults(tree: ast.AST) -> Iterator[Fault]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            if len(first) > FIRST_LINE:
                yield node.body[0].lineno, f"first line of {len(first)} characters: at most {FIRST_LINE}"


def _strings(tree: ast.AST) -> set[int]:
    """Return the line numbers of all docstrings."""
    return {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _paragraphs(lines: list[str]) -> set[int]:
    """Return the numbers of Markdown lines outside tables and code blocks."""
    inside, prose = False, set()
    for number, line in enumerate(lines, 1):
        inside ^= line.lstrip().startswith("```")
        if not inside and not line.startswith("|"):
            prose.add(number)
    return prose


def _too_long(line: str) -> bool:
    """Return whether a line is too long and could be broken."""
    return len(line) > PROSE and " " in line.strip()


def faults(name: str, text: str) -> list[Fault]:
    """Return the faults of one file, sorted by line."""
    lines = text.splitlines()
    prose = {number for number, line in enumerate(lines, 1) if line.lstrip().startswith("#")}
    found = list(_phrase_faults(lines))
    if name.endswith(".py"):
        tree = ast.parse(text)
        found += _docstring_faults(tree)
        prose |= _strings(tree)
    elif name.endswith(".md"):
        prose = _paragraphs(lines)
    found += [(n, f"prose ends at column {PROSE}") for n in prose if _too_long(lines[n - 1])]
    return sorted(fault for fault in found if not EXCUSED.search(lines[fault[0] - 1]))


def _kept_files() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")


def _check(names: list[str]) -> dict[str, list[Fault]]:
    """Return the files with faults, and the faults."""
    found = {}
    for name in names:
        if Path(name).is_file() and not QUOTED.fullmatch(name):
            try:
                found[name] = faults(name, Path(name).read_text("utf-8"))
            except UnicodeDecodeError:
                continue
    return {name: each for name, each in found.items() if each}


def main() -> int:
    """Check the named files, or all files that git tracks or would add."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("files", nargs="*", metavar="FILE", help="check these (default: all)")
    found = _check(parser.parse_args().files or _kept_files())
    report = [f"{name}:{n}: {fault}" for name, each in found.items() for n, fault in each]
    print("\n".join(sorted(report)) or "plain")
    return 1 if report else 0


if __name__ == "__main__":
    sys.exit(main())

"""Check that files are written in plain English, as tools/words.txt asks.

A fault is a phrase of that list, a docstring whose first line is longer than 72 characters,
or a line of prose beyond column 95. Code spans, paths and options are read over, and so is a
line that gives its reason: `wording: quoted from FIPS 140-2`.

tools/words-todo.txt names the files that were there before the rules. It only shrinks: a
listed file that is clean or gone is a fault, and `--write-todo` takes it off.
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
TODO = Path("tools/words-todo.txt")
QUOTED = re.compile(
    r"LICENSE|requirements(-run)?\.txt|debian/copyright|tests/vectors/.*(?<!\.py)"
    r"|docs/pictures/.*\.svg|tools/words(-todo)?\.txt"  # wording: names of files
)
"""Licences, generated data and the two lists."""
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
    """Return the lines of all strings that document something."""
    return {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _paragraphs(lines: list[str]) -> set[int]:
    """Return the lines of Markdown that are no table and no code block."""
    inside, prose = False, set()
    for number, line in enumerate(lines, 1):
        inside ^= line.lstrip().startswith("```")
        if not inside and not line.startswith("|"):
            prose.add(number)
    return prose


def faults(name: str, text: str) -> list[Fault]:
    """Return the faults of one file, by line."""
    lines = text.splitlines()
    prose = {number for number, line in enumerate(lines, 1) if line.lstrip().startswith("#")}
    found = list(_phrase_faults(lines))
    if name.endswith(".py"):
        tree = ast.parse(text)
        found += _docstring_faults(tree)
        prose |= _strings(tree)
    elif name.endswith(".md"):
        prose = _paragraphs(lines)
    found += [(n, f"prose ends at column {PROSE}") for n in prose if len(lines[n - 1]) > PROSE]
    return sorted(fault for fault in found if not EXCUSED.search(lines[fault[0] - 1]))


def _kept_files() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")


def _check(names: list[str]) -> dict[str, list[Fault]]:
    """Return the files that have faults, and these."""
    found = {}
    for name in names:
        if Path(name).is_file() and not QUOTED.fullmatch(name):
            try:
                found[name] = faults(name, Path(name).read_text("utf-8"))
            except UnicodeDecodeError:
                continue
    return {name: each for name, each in found.items() if each}


def main() -> int:
    """Check the files named, or all that git knows or would add."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("files", nargs="*", metavar="FILE", help="check these (default: all)")
    parser.add_argument("--write-todo", action="store_true", help="take clean files off the list")
    args = parser.parse_args()
    names = args.files or _kept_files()
    listed = set(TODO.read_text().split()) if TODO.exists() else set()
    found = _check(names)
    if args.write_todo:
        left = found.keys() & listed if TODO.exists() else found.keys()
        TODO.write_text("".join(f"{name}\n" for name in sorted(left)))
        return 0
    done = listed & set(args.files or listed) - found.keys()
    report = [f"{name}:{n}: {fault}" for name in found.keys() - listed for n, fault in found[name]]
    report += [f"{name}: clean or gone: take it off with tools/words.py --write-todo" for name in done]
    print("\n".join(sorted(report)) or f"{len(listed)} files to do, the others are plain")
    return 1 if report else 0


if __name__ == "__main__":
    sys.exit(main())

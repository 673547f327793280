"""The project's own Python code; each file is parsed once in a process."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = sorted(path for name in ("src", "bench", "tools", "tests") for path in (ROOT / name).rglob("*.py"))


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of a module's syntax tree."""
    return tuple(ast.walk(ast.parse(path.read_text())))

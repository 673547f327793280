"""The project's own Python code; each file is parsed once per process."""

import ast
import functools
import gc
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = sorted(path for name in ("src", "bench", "tools", "tests") for path in (ROOT / name).rglob("*.py"))


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of a module's syntax tree.

    The nodes stay in memory until the process ends; the garbage collector ignores them.
    """
    gc.disable()
    try:
        return tuple(ast.walk(ast.parse(path.read_text())))
    finally:
        gc.freeze()
        gc.enable()

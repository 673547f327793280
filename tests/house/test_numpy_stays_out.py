"""Only an assessment loads NumPy and related libraries."""

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "drawwell"
HEAVY = {"numpy", "numba", "llvmlite", "pydivsufsort"}


def test_no_module_but_the_assessment_loads_numpy():
    """Importing all modules except drawwell.assess loads no heavy library."""
    paths = [path for path in sorted(SOURCE.rglob("*.py")) if path.name != "__main__.py"]
    names = [
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in paths
        if path.parts[-2] != "estimators" and path.relative_to(SOURCE).parts[0] != "assess"
    ]
    script = (
        f"import sys, importlib\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & HEAVY == set()

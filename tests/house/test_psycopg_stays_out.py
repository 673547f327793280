"""Only a broker of a fleet loads psycopg."""

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "drawwell"


def test_no_room_but_the_fleet_loads_psycopg() -> None:
    """Importing all modules outside drawwell.fleet does not load psycopg."""
    paths = [path.relative_to(SOURCE) for path in sorted(SOURCE.rglob("*.py")) if path.name != "__main__.py"]
    names = [
        ".".join(("drawwell", *path.with_suffix("").parts)).removesuffix(".__init__")
        for path in paths
        if path.parts[0] not in {"fleet", "assess"}
    ]
    script = (
        f"import sys, importlib\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"psycopg", "psycopg_binary", "drawwell.fleet.connection"} == set()

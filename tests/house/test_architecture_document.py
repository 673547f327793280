"""ARCHITECTURE.md names every room, and only files that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "drawwell"
BASES = (ROOT, SOURCE, SOURCE / "cli")
TEXT = (ROOT / "ARCHITECTURE.md").read_text()


def test_every_room_is_in_the_table() -> None:
    """The table of rooms lists each package of drawwell exactly once."""
    section = TEXT.split("\n## Rooms\n")[1].split("\n## ")[0]
    rooms = [path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()]
    assert sorted(re.findall(r"^\| `(\w+)/` \|", section, flags=re.MULTILINE)) == sorted(rooms)


def test_each_name_after_a_path_is_defined_there() -> None:
    """The names after a path, such as `a.py`: `b`, `c`, are in that file."""
    named = re.findall(r"`([\w/]+\.py)`: ((?:`\w+`(?:, )?)+)", TEXT)
    pairs = [(path, name) for path, names in named for name in re.findall(r"\w+", names)]
    assert ("broker/broker.py", "_attempt") in pairs

    def defines(path: str, name: str) -> bool:
        (file,) = [base / path for base in BASES if (base / path).exists()]
        return bool(
            re.search(rf"^\s*(async def|def|class) {name}\b|^{name}\b", file.read_text(), re.MULTILINE)
        )

    assert [pair for pair in pairs if not defines(*pair)] == []


def test_every_file_it_names_exists() -> None:
    """A path in code style is a file of the repository or of src/drawwell."""
    named = set(re.findall(r"`([\w./-]+(?:\.\w+|/))(?: [^`]*)?`", TEXT))
    assert "roles/source.py" in named
    assert "tests/house/test_purity.py" in named
    assert sorted(name for name in named if not any((base / name).exists() for base in BASES)) == []

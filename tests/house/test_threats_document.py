"""docs/threats.md names only existing tests."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = sorted(set(re.findall(r"`(tests/[\w/.]+(?:::\w+)?)`", (ROOT / "docs" / "threats.md").read_text())))


@pytest.mark.parametrize("named", NAMED)
def test_every_test_that_is_named_exists(named: str) -> None:
    """Each named file has the named test."""
    path, _, test = named.partition("::")
    assert (ROOT / path).exists()
    assert not test or f"def {test}(" in (ROOT / path).read_text()


def test_every_defence_names_a_test() -> None:
    """Each row of a table of attacks ends with a test."""
    text = (ROOT / "docs" / "threats.md").read_text()
    tables = [table for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE) if "| test |" in table]
    rows = [row for table in tables for row in table.splitlines()[2:]]
    assert len(rows) > 20
    assert [row for row in rows if not re.search(r"`tests/[\w/.:]+` \|$", row)] == []

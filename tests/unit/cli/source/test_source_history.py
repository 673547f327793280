"""The plot of a source's health history."""

from typing import Any

from drawwell.cli.source.history import _lines

NOW = 86_400 * 400
HISTORY: dict[str, Any] = {
    "source": "stick",
    "simulated": True,
    "now": NOW,
    "tests": ["adaptive proportion (byte)", "repeat (byte)"],
    "minutes": [
        {"at": NOW - 3600, "min_entropy": 6.91, "nearness": [0.5, 0.0]},
        {"at": NOW, "min_entropy": 0.0, "nearness": [1.0, 0.0]},
    ],
    "days": [{"at": NOW, "min_entropy": 6.5, "nearness": [1.0, 0.0]}],
}


def test_it_fits_eighty_columns() -> None:
    """The present is at the right, a gap is blank, a cutoff is a full column."""
    lines = list(_lines(HISTORY))

    assert max(map(len, lines)) == 80
    assert lines[0].startswith("stick (simulated): ")
    assert lines[3] == f"adaptive proportion (byte) {' ' * 45}▄ █ 100%"
    assert lines[4] == f"repeat (byte){' ' * 14}{' ' * 45}▁ ▁   0%"
    assert lines[5] == "min-entropy estimate       at least 6.91 bits per sample"


def test_nothing_noted_is_said() -> None:
    """A source without history has no plot, but a line with the reason."""
    lines = list(_lines({**HISTORY, "minutes": [], "days": []}))

    assert len(lines) == 2
    assert "once per minute" in lines[1]

"""docs/http.md and the code: paths, parameters and limits."""

import re
from pathlib import Path

import pytest

from drawwell.doors.door import Limits
from drawwell.wire.http_answers import refusal
from drawwell.wire.http_api import ROUTES
from drawwell.wire.http_formats import FORMATS
from drawwell.wire.http_session import MAX_BODY_BYTES, MAX_HEAD_BYTES
from drawwell.wire.limits import MAX_DRAW_BYTES, MAX_PATIENCE_MS
from drawwell.wire.openapi import statuses
from drawwell.wire.refusals import REFUSAL_CODES

TEXT = (Path(__file__).parents[2] / "docs" / "http.md").read_text()


def rows(section: str) -> list[list[str]]:
    """Return the cells of the table in one section, without its header."""
    (found,) = [
        part for part in re.split(r"^## ", TEXT, flags=re.MULTILINE) if part.startswith(section + "\n")
    ]
    lines = [line for line in found.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_paths_are_those_of_the_table() -> None:
    """The page has every path, its methods and media types, and if public."""
    written = {
        (path.strip("`"), methods, answers, "*public*" in notes)
        for path, methods, answers, notes in rows("Paths")
    }
    assert written == {
        (route.path, ", ".join(route.methods), ", ".join(route.media), route.public) for route in ROUTES
    }


def test_parameters_are_those_of_the_table() -> None:
    """The page has every parameter of a draw with its default."""
    (draw,) = [route for route in ROUTES if route.path == "/v1/draw"]
    written = {name.strip("`"): default.strip("`") for name, default, _ in rows("A draw")}
    assert {name: default for name, default in written.items() if name != "format"} == {
        each.name: str(each.schema["default"]) for each in draw.parameters if each.name != "format"
    }
    assert all(f"`{name}`" in TEXT for name in FORMATS)


def test_bounds_are_those_of_the_code() -> None:
    """The figures on the page are the limits in the code."""
    limits = Limits()
    for text in (
        f"1 to {MAX_DRAW_BYTES};",
        f"at most {MAX_PATIENCE_MS // 1000};",
        f"(no chunks), body over {MAX_BODY_BYTES} bytes, head over {MAX_HEAD_BYTES}",
        f"{limits.max_sessions_each} for each consumer",
        f"within {limits.handshake_deadline_s:.0f} s of connecting",
        f"within {limits.frame_deadline_s:.0f} s of its first byte",
        f"read within {limits.write_deadline_s:.0f} s",
    ):
        assert text in " ".join(TEXT.split())


@pytest.mark.parametrize("kind", REFUSAL_CODES.values(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_broker_has_a_status_that_is_described(kind) -> None:
    """Every refusal has a status that the page and the OpenAPI document list."""
    status = refusal(kind("no")).status
    described = {int(each) for cell, *_ in rows("Errors") for each in cell.split(", ")}
    assert status in described
    assert status in {each for route in ROUTES for each in statuses(route)}

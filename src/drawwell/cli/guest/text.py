"""Formats plans, changes, findings and tables of guests as text."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Final

from drawwell.cli.style import PLAIN, Style
from drawwell.guests.model import Change, GuestFacts, GuestFinding, GuestVerdict, Plan
from drawwell.units import format_size

MARKS: Final = {GuestVerdict.HOLDS: "+", GuestVerdict.FAILS: "!", GuestVerdict.UNKNOWN: "?"}
_WIDTH: Final = 100


def plan_text(plan: Plan) -> str:
    """Return all pieces with their destinations, then the notes."""
    lines: list[str] = []
    for piece in plan.pieces:
        into = "to paste" if piece.into == "paste" else f"into {piece.into}"
        lines += [f"# {piece.title}, {into}", piece.text.rstrip("\n"), ""]
    for note in plan.notes:
        text = note[:1].upper() + note[1:]
        lines += textwrap.wrap(
            text, _WIDTH, initial_indent="# - ", subsequent_indent="#   ", break_on_hyphens=False
        )
    return "\n".join(lines).rstrip()


def changes_text(changes: Sequence[Change], name: str) -> str:
    """Return a line for each change and its location."""
    return "\n".join(f"{change.what} ({change.where})" for change in changes) or f"{name}: nothing to change"


def findings_text(findings: Iterable[GuestFinding], style: Style = PLAIN) -> str:
    """Return a line for each finding, followed by its hint."""
    lines: list[str] = []
    for each in findings:
        side = "" if each.inside else " (from the host)"
        lines.append(style.marked(MARKS[each.verdict], f"{each.what}{side}: {each.detail}"))
        if each.hint:
            lines.append(style.wrap(f"    {each.hint}", "    "))
    return "\n".join(lines)


def audit_text(facts: Sequence[GuestFacts], style: Style = PLAIN) -> str:
    """Return a table of the guests, then their problems."""
    if not facts:
        return "no guests found on this host"
    heading = ("KIND", "NAME", "RUNS", "VIRTIO-RNG", "FED BY", "LIMIT", "GENERATION ID")
    rows = [
        (
            f.kind,
            f.name,
            _yes(f.running),
            _yes(f.virtio_rng),
            f.backend or "-",
            f.limit or "-",
            _yes(f.generation_id),
        )
        for f in facts
    ]
    wrong = [
        f"{each.name}: {found.what}: {found.detail}" + (f"\n    {found.hint}" if found.hint else "")
        for each in facts
        for found in each.findings
        if found.verdict is GuestVerdict.FAILS
    ]
    return "\n".join(
        [
            style.table([heading, *rows], drop=("KIND", "GENERATION ID", "LIMIT")),
            *([""] if wrong else []),
            *wrong,
        ]
    )


def _yes(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"


def guests_text(guests: Sequence[dict[str, Any]], style: Style = PLAIN) -> str:
    """Return a table of the broker's guests."""
    if not guests:
        return "no guests; to add a guest, run 'drawwell guest apply KIND NAME'"
    heading = (
        "NAME",
        "KIND",
        "VIA",
        "CLASS",
        "RATE",
        "QUOTA",
        "CONNECTED",
        "OWED",
        "GRANTED",
        "CONSUMED",
        "IN FLIGHT",
    )
    rows = [
        (
            g["name"], g["kind"], g["via"], g["class"], g["rate"] or "none", g["quota"] or "none",
            str(g["connected"]), format_size(g["owed_bytes"]), format_size(g["full_bytes"] + g["drbg_bytes"]),
            format_size(g["consumed_bytes"]), format_size(g["in_flight_bytes"]),
        )
        for g in guests
    ]  # fmt: skip
    return style.table([heading, *rows], drop=("KIND", "OWED", "CLASS", "CONNECTED"))

"""``drawwell doctor``: the whole chain looked at in its order; what is wrong, and what to type."""

import argparse
from typing import Any

from drawwell.cli.output import Output

MARKS = {"good": "+", "note": "-", "problem": "!"}


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    parser = nouns.add_parser(
        "doctor", parents=[common], help="look at the whole chain; say what is wrong and what to type",
        allow_abbrev=False, epilog="Exit codes: 0 nothing is wrong, 1 there are problems.",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.doctor.checks import examine

    findings = []
    for finding in examine(args):
        findings.append(finding)
        out.progress(f"looked at: {finding.subject} …")
    lines = []
    for finding in findings:
        lines.append(f"{MARKS[finding.level]} {finding.subject}: {finding.words}")
        if finding.hint:
            lines.append(f"    {finding.hint}")
    problems = sum(finding.level == "problem" for finding in findings)
    lines.append("" if problems else "\nnothing is wrong")
    if problems:
        lines.append(f"{problems} problem{'s' if problems > 1 else ''}")
    document = {"problems": problems, "findings": [finding.document() for finding in findings]}
    out.result(document, "\n".join(lines).rstrip())
    return 1 if problems else 0

"""``drawwell doctor``: report problems with drawwell, and their fixes."""

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output, same_configuration

if TYPE_CHECKING:
    from drawwell.cli.doctor.finding import DoctorFinding

MARKS = {"good": "+", "note": "-", "problem": "!"}


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "doctor", parents=[common], help="check all parts of drawwell, and report each problem and how to fix it",
        allow_abbrev=False, epilog="Exit codes: 0 no problems, 1 problems found.",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.doctor.checks import examine

    findings = []
    for finding in examine(args):
        findings.append(finding)
        out.progress(f"checked: {finding.subject} …")
    lines = []
    for finding in findings:
        lines.append(out.style.marked(MARKS[finding.level], finding.line))
        if finding.hint:
            lines += [out.style.wrap(f"    {line}", "    ") for line in finding.hint.splitlines()]
    problems = sum(finding.level == "problem" for finding in findings)
    verdict, command = _verdict(findings, problems)
    following = same_configuration(args, command)
    legend = "  ".join(f"{out.style.state(mark)} {level}" for level, mark in MARKS.items())
    lines += ["", legend, verdict, f"next: {following}"]
    document = {
        "problems": problems,
        "verdict": verdict,
        "next": following,
        "findings": [finding.document() for finding in findings],
    }
    out.result(document, "\n".join(lines).rstrip())
    return 1 if problems else 0


def _verdict(findings: "Sequence[DoctorFinding]", problems: int) -> tuple[str, str]:
    """Return the verdict as a sentence, and the command to run next."""
    serves = [
        each for each in findings if each.level == "good" and each.subject.startswith(("broker", "joined"))
    ]
    if problems:
        worst = [each for each in findings if each.level == "problem"]
        plural = "s" if problems > 1 else ""
        return f"{problems} problem{plural}, marked with !", _first_command(worst, "drawwell doctor")
    if serves:
        return "no problems found; draws are possible", "drawwell draw 32 --hex"
    commands = [each.command for each in findings]
    useful = ("drawwell init host", "drawwell init hwrng", "drawwell run")  # a connected device comes first
    following = next((command for command in useful if command in commands), "drawwell demo")
    return "no problems found, but draws are not possible", following


def _first_command(findings: "Iterable[DoctorFinding]", default: str) -> str:
    return next((each.command for each in findings if each.command), default)

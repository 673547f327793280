"""The tables of the report, with every figure."""

from collections.abc import Iterable, Sequence
from html import escape

from drawwell.assess.ais31 import Ais31Result
from drawwell.assess.health_run import HealthRun
from drawwell.assess.iid import IidResult
from drawwell.assess.report import Assessment
from drawwell.assess.restart import RestartResult
from drawwell.assess.results import Column, NonIidResult


def tables_of(assessment: Assessment) -> str:
    """Return all tables as HTML."""
    tables = [_estimators(assessment.non_iid)]
    if assessment.iid:
        tables.append(_iid(assessment.iid))
    if assessment.restart:
        tables.append(_restart(assessment.restart))
    if assessment.ais31:
        tables.append(_ais31(assessment.ais31))
    if assessment.health:
        tables.append(_health(assessment.health))
    return "".join(tables)


def _table(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, figures: Sequence[int] = ()
) -> str:
    """Format a table; `figures` are its numeric columns."""
    kinds = [' class="n"' if column in figures else "" for column in range(len(heads))]
    head = "".join(f"<th{kind}>{escape(label)}</th>" for kind, label in zip(kinds, heads, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="sheet"><h3>{escape(title)}</h3><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></div>"
    )


def _estimators(result: NonIidResult) -> str:
    columns: list[Column | None] = [result.bit_string, result.literal]
    rows = []
    for title, section in dict.fromkeys(
        (estimate.title, estimate.section) for column in columns if column for estimate in column.estimates
    ):
        cells = [_cell(column, title) for column in columns if column]
        rows.append((title, section, *cells))
    least = [f"{column.min_entropy:.12g}" for column in columns if column]
    rows.append(("Minimum", "3.1.3", *least))
    heads = ["estimator", "section"]
    heads += ["bit string, bits per bit"] if result.bit_string else []
    heads.append("samples, bits per sample")
    return _table("SP 800-90B, non-IID estimators: min-entropy", heads, rows, figures=range(2, len(heads)))


def _cell(column: Column, title: str) -> str:
    for estimate in column.estimates:
        if estimate.title == title:
            return "too few samples" if estimate.min_entropy is None else f"{estimate.min_entropy:.12g}"
    return "bits only"


def _verdict(passed: bool | None) -> str:
    return {True: "passed", False: "failed", None: "not decided"}[passed]


def _iid(result: IidResult) -> str:
    chi2 = [
        (
            name,
            f"T = {test.statistic:.6f}, {test.degrees} degrees",
            f"{test.p_value:.6g}",
            _verdict(test.passed),
        )
        for name, test in (
            ("chi-square, independence (5.2.1, 5.2.3)", result.independence),
            ("chi-square, goodness of fit (5.2.2, 5.2.4)", result.goodness_of_fit),
        )
    ]
    repeat = result.longest_repeat
    chi2.append(
        ("longest repeated substring (5.2.5)", f"{repeat.length} samples", _p(repeat.p_value, repeat.log2_p_value),
         _verdict(repeat.passed))
    )  # fmt: skip
    shuffled = [
        (s.name, f"{s.value:.12g}", f"{s.more} / {s.same} / {s.less}", _verdict(s.passed))
        for s in result.permutations
    ]
    text = _table(
        "SP 800-90B, IID track: chi-square and repeats",
        ("test", "statistic", "p", "verdict"),
        chi2,
        figures=(2,),
    )
    if shuffled:
        heads = ("statistic (5.1)", "original", "orders with more / same / less", "verdict")
        text += _table("SP 800-90B, IID track: permutation tests", heads, shuffled, figures=(1, 2))
    return text


def _p(p: float, log2_p: float) -> str:
    return f"{p:.6g}" if p > 0 else f"2^{log2_p:,.0f}"


def _restart(result: RestartResult) -> str:
    rows = [
        ("initial estimate", f"{result.h_initial:g}"),
        (
            "largest count of one value",
            f"{result.most}, in {result.most_in}; chance allows {result.cutoff}",
        ),
        ("estimate by rows", "-" if result.h_rows is None else f"{result.h_rows:.6f}"),
        ("estimate by columns", "-" if result.h_columns is None else f"{result.h_columns:.6f}"),
        ("verdict", _verdict(result.passed)),
    ]
    return _table("SP 800-90B 3.1.4, restart tests: bits per sample", ("figure", "value"), rows)


def _ais31(result: Ais31Result) -> str:
    rows = [
        (
            str(trial), test.name, f"{test.value:.6g}",
            f"at least {test.low:g}" if test.high is None else f"between {test.low:g} and {test.high:g}",
            _verdict(test.passed),
        )
        for trial, tests in enumerate(result.trials, 1) for test in tests
    ]  # fmt: skip
    heads = ("trial", "test", "found", "allowed", "verdict")
    return _table("AIS 20/31 version 3.0, on the raw bits", heads, rows, figures=(2,))


def _health(run: HealthRun) -> str:
    rows = [
        (
            f"{test.name} of {test.unit}s", f"{test.min_entropy:g}", str(test.window or "-"),
            str(test.cutoff_intermittent), str(test.cutoff_permanent), str(test.worst_count), str(test.failures),
        )
        for test in run.tests
    ]  # fmt: skip
    heads = ("health test", "H", "window", "cutoff 2⁻³⁰", "cutoff 2⁻⁶⁰", "worst count", "fired")
    text = _table("drawwell's health tests over these samples", heads, rows, figures=(1, 2, 3, 4, 5, 6))
    fired = [event for event in run.events if event.kind != "healthy"]
    if fired:
        events = [(f"{event.sample:,}", event.kind, event.words) for event in fired]  # wording: a JSON key
        text += _table("Health test events", ("at sample", "kind", "event"), events, figures=(0,))
    return text

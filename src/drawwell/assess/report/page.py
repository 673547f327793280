"""The report as one HTML page that needs no network access."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Final

from drawwell.assess.report import Assessment, charts
from drawwell.assess.report.findings import bits_text, ceiling_text
from drawwell.assess.report.svg import Plot
from drawwell.assess.report.tables import tables_of

# light, dark and printed; colour-blind readers can distinguish the colours (Okabe and Ito)
_STYLE: Final = files("drawwell").joinpath("style.css").read_text()
_SIGNS: Final = {"good": ("✓", "good"), "note": ("i", "note"), "bad": ("✗", "bad")}
LIMITS: Final = (
    "Statistics give only an upper bound of min-entropy: they find faults and never prove unpredictability. This report"
    " is not a certificate, which requires an accredited laboratory and a model of how the noise is produced."
)


def page_of(assessment: Assessment) -> str:
    """Return the report as an HTML document."""
    name = escape(assessment.subject.name)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Noise assessment: {name}</title><style>{_STYLE}</style></head><body><main>"
        f"{_banner(assessment)}{_top(assessment)}{_findings(assessment)}{_plots(assessment)}"
        f"<h2>Every figure</h2>{tables_of(assessment)}{_footer(assessment)}</main></body></html>\n"
    )


def _banner(assessment: Assessment) -> str:
    identity = assessment.subject.identity
    if identity is not None and identity.simulated:
        return '<div class="banner">Simulated device: nothing on this page applies to real hardware.</div>'
    return ""


def _top(assessment: Assessment) -> str:
    result = assessment.non_iid
    ceiling = result.ceiling
    ideal = f"an ideal source of this length would score about {ceiling.min_entropy:.2f}" if ceiling else ""
    return (
        f'<header><h1>How good is this noise?</h1><div class="subject">{escape(assessment.subject.name)}</div>'
        f'<div class="top"><div><div class="figure"><b>{result.min_entropy:.2f}</b>'
        f"<span>bits of min-entropy per sample<br>of {bits_text(result)}</span></div>"
        f'<div class="gauge">{_gauge(assessment)}</div>'
        f'<p class="soft">By SP 800-90B, non-IID track{"; " + ideal if ideal else ""}.</p></div>'
        f"{_facts(assessment)}</div></header>"
    )


def _gauge(assessment: Assessment) -> str:
    """Draw the result as a bar, with marks for claim and ceiling."""
    result, bits = assessment.non_iid, assessment.non_iid.bits_per_sample
    plot = Plot(560, 62, f"{result.min_entropy:.2f} of {bits} bits", left=1, right=12, top=22, bottom=22)
    x = plot.scale_x(0, bits)
    plot.box((plot.left, 22), (plot.right - plot.left, 14), "track")
    plot.box((plot.left, 22), (x(result.min_entropy) - plot.left, 14), "fill")
    marks = [
        (
            assessment.claim,
            "claim",
            f"claim {assessment.claim:g}" if assessment.claim is not None else "",
            14.0,
        )
    ]
    if result.ceiling:
        marks.append(
            (result.ceiling.min_entropy, "ceiling", f"ideal source {result.ceiling.min_entropy:.2f}", 54.0)
        )
    for value, kind, label, y in marks:
        if value is None:
            continue
        plot.line([(x(value), 18), (x(value), 40)], "halo")
        plot.line([(x(value), 18), (x(value), 40)], f"upright {kind} solid")
        plot.text(x(value), y, label, f"flag {kind}", "end" if x(value) > 0.75 * plot.right else "middle")
    plot.text(0, 54, "0", "tick")
    plot.text(plot.right, 14, f"{bits}", "tick", "end")
    return plot.svg()


def _facts(assessment: Assessment) -> str:
    subject = assessment.subject
    rows = [("samples", f"{subject.samples:,} of {bits_text(assessment.non_iid)}")]
    if identity := subject.identity:
        rows += [
            (
                "device",
                f"{identity.kind} at {identity.path}" + (" (simulated)" if identity.simulated else ""),
            ),
            ("stable name", identity.stable_name),
            ("hardware id", identity.hardware_id),
            ("judged", identity.noise),
            ("firmware", str(identity.firmware)),
            ("", identity.firmware_detail),
        ]
    rows += [*subject.configuration.items(), *subject.versions.items(), ("assessed", subject.assessed_at)]
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows if value)
    return f'<dl class="facts">{facts}<dt>SHA-256</dt><dd class="hash">{subject.sha256}</dd></dl>'


def _findings(assessment: Assessment) -> str:
    items = "".join(
        f'<li class="{finding.level}"><i title="{_SIGNS[finding.level][1]}">{_SIGNS[finding.level][0]}</i>'
        f"<span>{escape(finding.words)}</span></li>"  # wording: a JSON key
        for finding in assessment.findings
    )
    return f'<h2>Findings</h2><ul class="findings">{items}</ul>'


def _plots(assessment: Assessment) -> str:
    picture, claim = assessment.picture, assessment.claim
    chance = f"χ² = {picture.chi2:,.1f} with {picture.chi2_degrees} degrees of freedom, p = {p_text(picture.chi2_p)}"
    k = len(picture.histogram)
    figures = [
        _figure(
            "Min-entropy by estimator",
            "Ten ways to predict the next sample; the best one decides. Bit-string estimates are scaled to a whole"
            f" sample. {ceiling_text(assessment.non_iid)}",
            charts.estimates(assessment.non_iid, claim),
            legend=_legend((("b", True, "over the bit string"), ("a", True, "over the samples")))
            if assessment.non_iid.bit_string else "", whole=True,
        ),
        _figure(
            "Frequency of each value",
            f"{chance}, for {k} equally frequent values. The band contains 999 of 1,000 counts of an ideal source.",
            charts.histogram(picture),
        ),
        _figure(
            "The first bits",
            "Each square is a bit, row by row; ones are filled. Stripes, blocks or other patterns indicate a fault.",
            charts.bitmap(picture),
        ),
        _figure(
            "Autocorrelation of the bits",
            "How well a bit predicts the bit at each distance. An ideal source has all marks inside the band, except"
            " in one of 1,000 captures.",
            charts.autocorrelation(picture),
        ),
        _figure(
            "Runs of equal bits",
            "Number of runs of each length. The dashed line is for fair, independent bits; the band contains 999 "
            "of 1,000 counts.",
            charts.run_lengths(picture),
        ),
    ]  # fmt: skip
    if assessment.margins:
        figures.append(_margins(assessment))
    figures.append(
        _figure(
            "Min-entropy over the capture",
            f"The most common value estimate for every {picture.window_samples:,} samples in a row. Small parts "
            "score lower than the whole capture; half of an ideal source's parts are below the dotted line.",
            charts.windows(picture, claim), whole=True,
        )
    )  # fmt: skip
    return f'<h2>Plots</h2><div class="cards">{"".join(figures)}</div>'


def _margins(assessment: Assessment) -> str:
    names = [f"{margin.test} of {margin.unit}s" for margin in assessment.margins]
    marks = tuple((kind, False, name) for kind, name in zip("abcd", names, strict=False))
    return _figure(
        "Margins of the health tests",
        "drawwell's own tests over these samples: the worst count in each hundredth of the samples, and the cutoff at"
        " which the source is taken out of service (false alarm rate 2⁻³⁰).",
        charts.margins(assessment.margins, assessment.subject.samples), legend=_legend(marks), whole=True,
    )  # fmt: skip


def _figure(title: str, caption: str, drawing: str, *, legend: str = "", whole: bool = False) -> str:
    kind = ' class="whole"' if whole else ""
    drawn = f'<div class="scroll">{drawing}</div>' if whole else drawing
    return f"<figure{kind}><h3>{escape(title)}</h3><p>{escape(caption)}</p>{legend}{drawn}</figure>"


def _legend(entries: Iterable[tuple[str, bool, str]]) -> str:
    """Format a legend from entries: a kind, mark (True) or line, and a label."""
    shapes = {
        "a": '<circle class="mark a" cx="15" cy="6" r="4.5"/>',
        "b": '<path class="mark b" d="M15 .8l5.2 5.2-5.2 5.2-5.2-5.2Z"/>',
    }
    items = (
        f'<span><svg viewBox="0 0 30 12">{shapes[kind] if marks else f"""<path class="curve {kind}" d="M0 6h30"/>"""}'
        f"</svg>{escape(label)}</span>"
        for kind, marks, label in entries
    )
    return f'<div class="legend">{"".join(items)}</div>'


def p_text(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "less than 0.001"


def _footer(assessment: Assessment) -> str:
    provenance = assessment.non_iid.ceiling.provenance if assessment.non_iid.ceiling else ""
    sources: Sequence[str] = (
        "Estimators, IID and restart tests: NIST SP 800-90B (January 2018), with the results of NIST's tool.",
        f"Ceiling of an ideal source: {provenance}" if provenance else "",
        LIMITS,
    )
    return "<footer>" + "".join(f"<p>{escape(line)}</p>" for line in sources if line) + "</footer>"

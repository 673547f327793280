"""The report is self-contained, well formed and honest."""

import functools
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from drawwell.assess import Ceiling, assess
from drawwell.assess.health_run import blocks_of, margins_of, run_health_tests
from drawwell.assess.iid import most_common_value
from drawwell.assess.report import Assessment, Subject
from drawwell.assess.report.findings import findings_of
from drawwell.assess.report.page import page_of
from drawwell.assess.report.picture import ideal_most_common_value, picture_of
from drawwell.assess.report.svg import Scale, decades, number, ticks
from drawwell.assess.samples import parse
from drawwell.entropy.health import NoiseClaim
from drawwell.reports import Firmware, SourceIdentity
from drawwell.testing.sick import biased, good

IDENTITY = SourceIdentity(
    "front", "onerng", "/dev/ttyACM0", firmware=Firmware.VERIFIED, firmware_detail="version 3 <key>"
)


def assessment(data, claim=6.0, identity=IDENTITY):
    bits = NoiseClaim(claim)
    result = replace(assess(data), ceiling=Ceiling(6.3, 6.2, 6.4, "Made up for this test."))
    picture, health = picture_of(parse(data)), run_health_tests(blocks_of(data), bits, bytes(32))
    findings = findings_of(
        result, picture, claim=claim, identity=identity, health=health, iid=None, restart=None, ais31=None
    )
    return Assessment(
        subject=Subject("front & <back>", "ab" * 32, len(data), "now", identity),
        claim=claim, non_iid=result, iid=None, restart=None, ais31=None,
        health=health, margins=margins_of(data, bits), picture=picture, findings=findings,
    )  # fmt: skip


@functools.cache
def of_good():
    """Return the assessment of good noise."""
    return assessment(good(1).read(20_000))


@functools.cache
def of_biased():
    """Return the assessment of noise that is below its claim."""
    return assessment(biased(0.8).read(20_000))


def test_the_page_needs_no_network():
    """The page has no external address or script, and a policy against them."""
    page = page_of(of_good())
    assert re.findall(r"https?://|<script|<img|<link|@import|url\(", page) == []
    assert "default-src 'none'" in page


def test_names_cannot_break_out_of_the_page():
    """Names of devices and files appear as text, never as markup."""
    page = page_of(of_good())
    assert "front &amp; &lt;back&gt;" in page
    assert "<back>" not in page
    assert "<key>" not in page


@pytest.mark.parametrize("made", [of_good, of_biased])
def test_every_drawing_is_well_formed_and_stays_inside(made):
    """Each SVG parses, and all coordinates are inside its view box."""
    drawings = re.findall(r"<svg.*?</svg>", page_of(made()), re.DOTALL)
    assert len(drawings) >= 8
    for drawing in drawings:
        root = ET.fromstring(drawing)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for mark in root.iter():
            assert "nan" not in str(mark.attrib)
            if "x" in mark.attrib and mark.tag == "text":
                assert -1 <= float(mark.attrib["x"]) <= width
                assert 0 <= float(mark.attrib["y"]) <= height


def test_a_simulated_device_is_named_first():
    """A simulated device's page starts with a banner, and findings repeat it."""
    page = page_of(assessment(good(2).read(20_000), identity=replace(IDENTITY, simulated=True)))
    body = page[page.index("<main>") :]
    assert body.index("Simulated device") < body.index("How good is this noise")


def test_what_is_bad_comes_first():
    """Noise below its claim and a failed health test are the first findings."""
    levels = [finding.level for finding in of_biased().findings]
    assert levels == sorted(levels, key=["bad", "good", "note"].index)
    bad = " ".join(each.words for each in of_biased().findings if each.level == "bad")  # wording: in JSON
    assert "less than the claim of 6" in bad
    assert "health test fired, first at sample" in bad


def test_the_ceiling_is_explained():
    """The page explains an ideal source's score below the full width."""
    assert "An ideal source with 8 bits per sample would score about 6.30" in page_of(of_good())


@pytest.mark.parametrize(("score", "level"), [(6.25, "good"), (6.19, "note")])
def test_a_score_is_good_within_those_of_ideal_sources(score: float, level: str):
    """The finding shows the ideal range, or below it the share of the median."""
    result = replace(of_good().non_iid, min_entropy=score)
    facts = {"identity": None, "health": None, "iid": None, "restart": None, "ais31": None}
    found = findings_of(result, of_good().picture, claim=6.0, **facts)
    texts = {each.words: each.level for each in found}  # wording: in JSON
    [compared] = [text for text in texts if "An ideal source" in text]
    assert texts[compared] == level
    within = "Simulated ideal sources scored from 6.20 to 6.40; this source scored 6.25."
    assert compared.endswith(within if level == "good" else "This source reaches 98% of that score.")


def test_margins_are_those_of_the_daemon():
    """The worst window equals, or nearly equals, the monitor's own count."""
    counted = {(t.name, t.unit): t.worst_count for t in of_good().health.tests}
    for margin in of_good().margins:
        assert max(margin.worst) == counted[margin.test, margin.unit]


def test_half_of_ideal_windows_exceed_the_ideal():
    """The median over ideal windows matches that of simulated ones."""
    ideal = ideal_most_common_value(200, 256)
    parts = [good(seed).read(200) for seed in range(101)]
    found = sorted(most_common_value(np.frombuffer(part, dtype=np.uint8)) for part in parts)
    assert found[25] <= ideal <= found[-1]


def test_scales_and_figures_are_round():
    """Ticks are round numbers within the range, in a readable format."""
    assert ticks(0, 8, 8) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert decades(1, 1e6) == [1, 10**2, 10**4, 10**6]
    assert [number(v) for v in (0, 0.5, 1_000_000, 2e9)] == ["0", "0.5", "1,000,000", "2·10⁹"]
    scale = Scale(1, 1000, 0, 300, log=True)
    assert [round(scale(v)) for v in (1, 10, 1000, 10_000)] == [0, 100, 300, 300]

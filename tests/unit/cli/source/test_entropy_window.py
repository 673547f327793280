"""The sliding window of ``source watch``."""

import numpy as np
import pytest

from drawwell.assess.iid import most_common_value
from drawwell.cli.source.entropy_window import PIECE_BYTES, PIECES, Window, describe
from drawwell.testing.sick import biased, good


def filled(stream, pieces=PIECES):
    window = Window()
    for _ in range(pieces):
        window.add(stream.read(PIECE_BYTES))
    return window


def test_it_is_the_estimator_of_the_assessment():
    """The window uses the most-common-value estimate of all its samples."""
    data = good(4).read(PIECES * PIECE_BYTES)
    report = filled(good(4)).report(6.0)
    assert report["samples"] == len(data)
    assert report["min_entropy"] == pytest.approx(most_common_value(np.frombuffer(data, dtype=np.uint8)))


def test_old_samples_slide_out():
    """A recovered source is good again when its old samples have left."""
    window = filled(biased(0.9))
    assert window.report(6.0)["alarm"]
    for _ in range(PIECES):
        window.add(good(5).read(PIECE_BYTES))
    assert window.report(6.0)["samples"] == PIECES * PIECE_BYTES


@pytest.mark.parametrize("pieces", [1, 2, PIECES])
def test_a_source_that_keeps_its_claim_raises_no_alarm(pieces):
    """Ideal noise meets the highest claim in a window of any length."""
    assert not filled(good(6), pieces).report(8.0)["alarm"]


def test_a_source_below_its_claim_raises_the_alarm():
    """Noise of 4.1 bits per byte raises the alarm for a claim of 6."""
    report = filled(biased(0.7)).report(6.0)
    assert report["alarm"]
    assert "BELOW THE CLAIM" in describe(report)


def test_the_bitmap_shows_every_bit():
    """Only ones fill every dot, only zeros fill none."""
    window = Window()
    window.add(b"\xff" * PIECE_BYTES)
    assert set(window.bitmap()) == {"⣿", "\n"}
    window.add(bytes(PIECE_BYTES))
    assert set(window.bitmap()) == {"⠀", "\n"}

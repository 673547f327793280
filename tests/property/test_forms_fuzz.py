"""Files of samples with any content, in every format."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from drawwell.assess.forms import FORMS, ReadSamples, read_as
from drawwell.errors import BadData, UsageError

NUMBERS = st.one_of(
    st.integers(), st.integers(-(1 << 65), 1 << 65), st.sampled_from([-1, 0, 1 << 63, 1 << 64])
)
CELLS = st.one_of(
    NUMBERS.map(str),
    NUMBERS.map(lambda number: f"{number:x}"),
    st.text(max_size=4),
    st.sampled_from(["0x", "00000010:"]),
)
TEXT = st.builds(
    lambda lines, space, encoding: "\n".join(map(space.join, lines)).encode(encoding, "replace"),
    st.lists(st.lists(CELLS, max_size=4), max_size=12),
    st.sampled_from([" ", ",", ", ", ""]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]),
)
FORM = st.one_of(
    st.none(), st.sampled_from(sorted(FORMS)), st.builds("csv:{}".format, st.one_of(st.integers(), st.text()))
)


@given(FORM, st.one_of(TEXT, st.binary(max_size=200)))
def test_a_file_is_read_or_refused(form: str | None, data: bytes) -> None:
    """Nothing but BadData or UsageError is raised."""
    with suppress(BadData, UsageError):
        assert isinstance(read_as(form, data, "f"), ReadSamples)

"""Requests of a virtual machine, taken in batches: every one is taken once, and pays what it asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.doors.qemu_egd.batch import REQUEST_BYTES, Batch, read_sizes
from drawwell.errors import RemoteProtocolError

SIZES = st.binary(min_size=1, max_size=64)
AHEAD = st.integers(0, 4096)


@given(SIZES, AHEAD)
def test_a_batch_pays_for_what_it_takes(sizes: bytes, ahead_bytes: int) -> None:
    """What was sent ahead and what is missing make up what was asked for, and what is left."""
    batch = Batch.of(sizes, ahead_bytes)
    asked_bytes = sum(sizes[: batch.count])

    assert batch.missing_bytes - batch.left_bytes == asked_bytes - ahead_bytes
    assert min(batch.missing_bytes, batch.left_bytes) == 0
    assert batch.smallest_bytes == min(sizes[: batch.count])


@given(SIZES, AHEAD)
def test_what_is_missing_is_one_requests(sizes: bytes, ahead_bytes: int) -> None:
    """Requests that were not answered ahead are answered one at a time: each waits for its own bytes alone."""
    batch = Batch.of(sizes, ahead_bytes)
    if batch.missing_bytes:
        assert batch.count == 1


@given(SIZES, AHEAD)
def test_all_that_is_paid_is_taken_at_once(sizes: bytes, ahead_bytes: int) -> None:
    """A batch ends where the next request is not paid for."""
    batch = Batch.of(sizes, ahead_bytes)
    if batch.count < len(sizes) and not batch.missing_bytes:
        assert sum(sizes[: batch.count + 1]) > ahead_bytes


@given(st.binary(max_size=200))
def test_any_bytes_are_requests_or_a_breach(data: bytes) -> None:
    """Whole requests give their sizes, a half one at the end none; any other command is refused."""
    if set(data[::REQUEST_BYTES]) <= {2}:
        assert read_sizes(data) == data[1::REQUEST_BYTES]
    else:
        with pytest.raises(RemoteProtocolError):
            read_sizes(data)

"""A receipt's copy of its readings gives every reading back, whatever they are, and says what each one is."""

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import receipt_rows
from ingest.store import rows

NUMBERS = st.tuples(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**15), 2**15 - 1),
)


@given(st.lists(NUMBERS, max_size=60), st.integers(0, 2**62), st.lists(st.integers(0, 2**31 - 1), max_size=5))
def test_unpacked_is_what_was_packed(
    readings: list[tuple[int, int, float, int]], receipt: int, ranks: list[int]
) -> None:
    packed = [rows.pack(*reading, receipt) for reading in readings]
    entries = [rows.pack_override(row, rank) for row, rank in zip(packed, ranks, strict=False)]
    stored = sorted(packed + entries)
    copy = receipt_rows.pack(stored)
    assert receipt_rows.unpack(copy) == stored
    assert receipt_rows.digest(receipt_rows.unpack(copy)[::-1]) == receipt_rows.digest(stored)


def test_a_message_of_many_points_takes_few_bytes() -> None:
    at_us = 1_772_294_400_000_000
    stored = sorted(rows.pack(1000 + n, at_us, 104512.75 + n, 0, 77) for n in range(50))
    assert len(receipt_rows.pack(stored)) < 50 * 5 + 100


def test_a_row_says_what_it_is() -> None:
    at = datetime(2026, 3, 1, 0, 15, tzinfo=UTC)
    row = rows.pack(7, int(at.timestamp()) * 1_000_000, 1.5, 2, 99)
    assert receipt_rows.decode(row) == receipt_rows.StoredReading(7, at, 1.5, 2, None)
    assert receipt_rows.decode(rows.pack_override(row, 3)) == receipt_rows.StoredReading(7, at, 1.5, 2, 3)


@pytest.mark.parametrize("copy", [b"\xff\xff\xff\xff" + bytes(80), b"\x00\x00\x00\x02" + bytes(20)])
def test_what_is_no_copy_is_refused(copy: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        receipt_rows.unpack(copy)


def test_a_cut_copy_is_not_taken_for_readings() -> None:
    stored = sorted(rows.pack(n, 0, float(n), 0, 1) for n in range(9))
    cut = receipt_rows.pack(stored)[:-3]
    with pytest.raises((ValueError, struct.error)):
        [receipt_rows.decode(row) for row in receipt_rows.unpack(cut)]

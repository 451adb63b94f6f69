"""The readings that a receipt brought, in one compact piece, so that verification can say what was altered.

A row is a reading in PostgreSQL's binary COPY form, an entry is one of `reading_override` (see ingest.store.rows). Rows
of one message differ in few of their bytes, so the copy holds the number of rows, the first row, and for each byte in
which rows differ that byte of every row; then the entries as they are. Checked against a receipt's sealed rows_digest,
the copy needs no seal of its own.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

# Each field follows its length: field count, point_id int4, ts int8, value float8, quality int2, receipt_id int8.
ROW = struct.Struct(">h ii iq id ih iq")
# The same and the rank, int4.
ENTRY = struct.Struct(">h ii iq id ih iq ii")
KEY_BYTES = 22  # field count, point_id, ts: which reading it is
# Where rows of one receipt can differ: point_id, ts, value, quality.
_DIFFERING = (*range(6, 10), *range(14, 22), *range(26, 34), *range(38, 40))
_COUNT_BYTES, _MASK_BYTES = 4, 7
_HEAD_BYTES = _COUNT_BYTES + ROW.size + _MASK_BYTES
_MOST_ROWS = 100_000
_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredReading:
    """A reading as a table holds it; `rank` is None in `reading`."""

    point_id: int
    at: datetime
    value: float
    quality: int
    rank: int | None


def pack(rows: Sequence[bytes]) -> bytes:
    """Return the copy of rows and entries that are sorted as bytes, which puts the entries last."""
    size, plain = ROW.size, len(rows)
    while plain and len(rows[plain - 1]) != size:
        plain -= 1
    if not plain:
        return b"".join((bytes(_COUNT_BYTES), *rows))
    table = b"".join(rows[:plain])
    mask, differing = 0, []
    for position in _DIFFERING if plain > 1 else ():
        column = table[position::size]
        if column.count(column[0]) != plain:
            mask |= 1 << position
            differing.append(column)
    head = (plain.to_bytes(_COUNT_BYTES), rows[0], mask.to_bytes(_MASK_BYTES))
    return b"".join((*head, *differing, *rows[plain:]))


def unpack(copy: bytes) -> list[bytes]:
    """Return the rows and entries of a copy, sorted as bytes; ValueError where it is none."""
    size, plain, at = ROW.size, int.from_bytes(copy[:_COUNT_BYTES]), _COUNT_BYTES
    if plain > _MOST_ROWS or (plain and len(copy) < _HEAD_BYTES):
        raise ValueError("the copy of a receipt's readings is cut off")
    table = bytearray(copy[at : at + size] * plain)
    if plain:
        mask, at = int.from_bytes(copy[at + size : _HEAD_BYTES]), _HEAD_BYTES
        for position in _DIFFERING:
            if mask >> position & 1:
                table[position::size] = copy[at : at + plain]
                at += plain
    rows = [bytes(table[start : start + size]) for start in range(0, len(table), size)]
    return rows + [copy[start : start + ENTRY.size] for start in range(at, len(copy), ENTRY.size)]


def digest(rows: Sequence[bytes]) -> bytes:
    """Return the rows_digest of rows and entries, in whatever order they come."""
    return hashlib.sha256(b"".join(sorted(rows))).digest()


def decode(row: bytes) -> StoredReading:
    """Return what a row or an entry says; struct.error where it is neither."""
    rank = None
    if len(row) == ENTRY.size:
        *_, rank = ENTRY.unpack(row)
        row = row[: ROW.size]
    _, _, point_id, _, ts_us, _, value, _, quality, _, _ = ROW.unpack(row)
    return StoredReading(point_id, _POSTGRES_EPOCH + timedelta(microseconds=ts_us), value, quality, rank)

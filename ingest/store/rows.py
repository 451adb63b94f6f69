"""PostgreSQL's binary COPY form of readings, which is also what a receipt's digest covers.

**rows_digest** of a receipt: SHA-256 over the concatenation, sorted as bytes (so by point_id, then ts), of

* each row of `reading` with this receipt_id, as `COPY (SELECT point_id, ts, value, quality, receipt_id FROM reading …)
  TO STDOUT (FORMAT binary)` writes it: 5 fields, ts as microseconds since 2000-01-01 UTC;
* each row of `reading_override` with this receipt_id and origin gateway, as `COPY (SELECT point_id, ts, value, quality,
  receipt_id, rank FROM reading_override …)` writes it: 6 fields; except one of rank 0 whose first five fields equal
  a row of `reading`: that is the copy of a first arrival, made when a second entry came, under no receipt of its own.

So it can be computed from the tables alone. A missing copy is not seen by the digest: `verify` checks beside it that
every instant in reading_override has its row of `reading` there too. What the digest covered is kept beside it in the
receipt (rows_copy, see app.domain.receipt_rows), so that `verify` can tell what was altered.
"""

import struct
from collections.abc import Callable, Iterable

from app.domain import receipt_rows

COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TAIL = b"\xff\xff"
POSTGRES_EPOCH_US = 946_684_800_000_000  # 2000-01-01 UTC in microseconds since 1970
HOUR_US = 3_600_000_000
KEY_BYTES = receipt_rows.KEY_BYTES

_ROW = receipt_rows.ROW
_OVERRIDE_TAIL = struct.Struct(">ii")
pack_fields: Callable[..., bytes] = _ROW.pack


def pack(point_id: int, ts_us: int, value: float, quality: int, receipt_id: int) -> bytes:
    """Return a reading as a binary COPY row (point_id, ts, value, quality, receipt_id); ts_us counts from 1970."""
    return pack_fields(5, 4, point_id, 8, ts_us - POSTGRES_EPOCH_US, 8, value, 2, quality, 8, receipt_id)


def unpack(row: bytes) -> tuple[int, int, float, int, int]:
    """Return (point_id, ts in microseconds since 1970, value, quality, receipt_id) of a packed row."""
    _, _, point_id, _, ts_us, _, value, _, quality, _, receipt_id = _ROW.unpack(row)
    return point_id, ts_us + POSTGRES_EPOCH_US, value, quality, receipt_id


def pack_override(row: bytes, rank: int) -> bytes:
    """Return the entry of `reading_override` for a packed reading and its rank, as a binary COPY row."""
    return b"\x00\x06" + row[2:] + _OVERRIDE_TAIL.pack(4, rank)


def copy_data(rows: Iterable[bytes]) -> bytes:
    """Return a whole binary COPY stream."""
    return b"".join((COPY_HEAD, *rows, COPY_TAIL))


def hour_ranges(hours: set[int]) -> list[tuple[int, int]]:
    """Merge hour numbers (hours since 1970) into half-open ranges of adjacent hours, in order."""
    ranges: list[tuple[int, int]] = []
    for hour in sorted(hours):
        if ranges and ranges[-1][1] == hour:
            ranges[-1] = (ranges[-1][0], hour + 1)
        else:
            ranges.append((hour, hour + 1))
    return ranges

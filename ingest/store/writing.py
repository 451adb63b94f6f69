"""The rows that go with readings: receipts, quarantine, stale marks; and the optimistic transaction.

Every transaction writes in one order (readings, receipts, then what nobody waits for), each sorted, so that writers
wait for each other instead of deadlocking.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg

from app.domain import receipt_rows
from ingest import payload
from ingest.store import quarantine, rows
from ingest.store.arrivals import Prepared
from ingest.store.gaps import close_lost

COPY_READING = "COPY reading (point_id, ts, value, quality, receipt_id) FROM STDIN (FORMAT binary)"
_COPY_RECEIPT = """
    COPY receipt (id, gateway_id, epoch, lane, seq, message_digest, rows_digest, rows_copy, accepted, duplicate,
                  disputed, rejected, sent_at, received_at, committed_at) FROM STDIN
"""
_COPY_STALE = "COPY stale (stage, subject_id, point_id, from_at, to_at) FROM STDIN"
_INSERT_OVERRIDE = """
    INSERT INTO reading_override (point_id, ts, rank, value, quality, origin, receipt_id)
    VALUES (%s, %s, %s, %s, %s, 'gateway', %s) ON CONFLICT DO NOTHING
"""
Connection = psycopg.Connection[Any]


def write_optimistically(connection: Connection, batch: Sequence[Prepared], committed_at: datetime) -> None:
    """Write a batch in which nothing is known yet; psycopg's UniqueViolation where something is."""
    reading_rows: list[bytes] = []
    for prepared in batch:
        prepared.forget_result()
        prepared.accepted = len(prepared.rows)
        reading_rows += sorted(prepared.rows)
    reading_rows.sort()
    with connection.transaction():
        if reading_rows:
            copy(connection, COPY_READING, rows.copy_data(reading_rows))
        for prepared in batch:
            if prepared.has_revisions:
                _write_first_revisions(connection, prepared)
        write_beside(connection, batch, committed_at)


def _write_first_revisions(connection: Connection, prepared: Prepared) -> None:
    """A first arrival with a rank goes into both tables, because `reading` has no rank."""
    ranked = [(row, reading[4]) for row, reading in zip(prepared.rows, prepared.readings, strict=True) if reading[4]]
    insert_overrides(connection, ranked)
    prepared.stored_rows = prepared.rows + [rows.pack_override(row, rank) for row, rank in ranked]


def insert_overrides(connection: Connection, ranked: Iterable[tuple[bytes, int]]) -> None:
    """Insert entries (packed row, rank) into `reading_override`; those that are there already stay."""
    entries = [(*rows.unpack(row), rank) for row, rank in sorted(ranked)]
    with connection.cursor() as cursor:
        cursor.executemany(
            _INSERT_OVERRIDE,
            [(p, payload.instant_at(ts_us), rank, v, q, receipt_id) for p, ts_us, v, q, receipt_id, rank in entries],
        )


def write_beside(connection: Connection, batch: Sequence[Prepared], committed_at: datetime) -> None:
    """Write receipts, quarantine and marks of a batch whose readings are written, and close gaps said to be lost."""
    fresh = [prepared for prepared in batch if prepared.receipt_id is not None and prepared.repeated is None]
    if fresh:
        fresh.sort(key=lambda prepared: prepared.identity)
        copy(connection, _COPY_RECEIPT, "".join(_receipt_line(one, committed_at) for one in fresh).encode())
    quarantine.write(connection, [prepared for prepared in batch if not prepared.repeated])
    marks = _mark_lines(fresh)
    if marks:
        copy(connection, _COPY_STALE, "".join(marks).encode())
    for prepared in batch:
        if prepared.gone is not None and prepared.gateway is not None:
            close_lost(connection, prepared.gateway.gateway_id, prepared.arrival.lane, prepared.gone, committed_at)


def copy(connection: Connection, statement: str, data: bytes) -> None:
    """Run a COPY … FROM STDIN with all its data."""
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        stream.write(data)


def _receipt_line(prepared: Prepared, committed_at: datetime) -> str:
    """Return a line of COPY text; no field can hold a tab, a newline or a backslash but the ones put here."""
    gateway_id, epoch, lane, seq = prepared.identity
    stored = sorted(prepared.rows if prepared.stored_rows is None else prepared.stored_rows)
    rows_digest = hashlib.sha256(b"".join(stored)).hexdigest()
    rows_copy = rf"\\x{receipt_rows.pack(stored).hex()}" if stored else r"\N"
    faults = prepared.all_faults()
    rejected = json.dumps([{"index": fault.index, "reason": fault.reason} for fault in faults]) if faults else r"\N"
    sent_at = prepared.sent_at.isoformat() if prepared.sent_at else r"\N"
    return (
        f"{prepared.receipt_id}\t{gateway_id}\t{epoch}\t{lane}\t{seq}\t\\\\x{prepared.digest.hex()}\t\\\\x{rows_digest}\t"
        f"{rows_copy}\t{prepared.accepted}\t{prepared.duplicate}\t{prepared.disputed}\t{rejected}\t"
        f"{sent_at}\t{prepared.arrival.received_at.isoformat()}\t{committed_at.isoformat()}\n"
    )


def _mark_lines(fresh: Sequence[Prepared]) -> list[str]:
    """One mark per gateway and run of adjacent hours; narrowed to the point where only one was touched."""
    touched: dict[int, tuple[set[int], set[int]]] = {}
    for prepared in fresh:
        if not prepared.rows or prepared.gateway is None:
            continue
        points, hours = touched.setdefault(prepared.gateway.gateway_id, (set(), set()))
        if prepared.changed_us is None:
            known = prepared.gateway.points
            points.update({known[code][0] for code in {reading[0] for reading in prepared.readings}})
            hours.update({reading[1] // rows.HOUR_US for reading in prepared.readings})
        else:
            points.update(point_id for point_id, _ in prepared.changed_us)
            hours.update(ts_us // rows.HOUR_US for _, ts_us in prepared.changed_us)
    return [
        f"rollup\t{gateway_id}\t{_only(points)}\t{_hour(start)}\t{_hour(end)}\n"
        for gateway_id, (points, hours) in sorted(touched.items())
        for start, end in rows.hour_ranges(hours)
    ]


def _only(points: set[int]) -> str:
    return str(next(iter(points))) if len(points) == 1 else r"\N"


def _hour(hour: int) -> str:
    return datetime.fromtimestamp(hour * 3600, UTC).isoformat()

"""The ledger of missing messages: found in the receipts, asked for, and closed as received or lost."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from app.domain.sequence import Range, look_through, pause_after, ranges, without
from ingest.payload import Gone

Connection = psycopg.Connection[Any]
REQUESTS_AT_ONCE = 50
STREAMS_AT_ONCE = 500
MESSAGES_AT_ONCE = 20_000

# Streams that had a receipt since they were looked through, or of which a gap was not ripe then. HTTP gateways (lane 2)
# cannot be asked, but their gaps belong to the ledger too.
_STREAMS = """
    SELECT r.gateway_id, r.epoch, r.lane, min(r.seq), p.complete_through
    FROM receipt r LEFT JOIN sequence_progress p USING (gateway_id, epoch, lane)
    WHERE r.committed_at > now() - interval '1 hour' AND r.epoch NOT LIKE ':%%'
    GROUP BY r.gateway_id, r.epoch, r.lane, p.complete_through
    HAVING max(r.seq) > coalesce(p.complete_through, -1) ORDER BY 1, 2, 3 LIMIT %s
"""
_FIRST_SEQ = "SELECT min(seq) FROM receipt WHERE gateway_id = %s AND epoch = %s AND lane = %s"
_MESSAGES = """
    SELECT seq, committed_at FROM receipt WHERE gateway_id = %s AND epoch = %s AND lane = %s AND seq > %s
    ORDER BY seq LIMIT %s
"""
_PROGRESS = """
    INSERT INTO sequence_progress (gateway_id, epoch, lane, complete_through, looked_at) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (gateway_id, epoch, lane) DO UPDATE
    SET complete_through = greatest(sequence_progress.complete_through, excluded.complete_through),
        looked_at = excluded.looked_at
"""
_OPEN = """
    INSERT INTO sequence_gap (gateway_id, epoch, lane, from_seq, to_seq, found_at, requested_at, request_count,
                              closed_at, outcome)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_SELECT_OPEN = """
    SELECT id, gateway_id, epoch, lane, from_seq, to_seq, found_at, requested_at, request_count FROM sequence_gap
    WHERE closed_at IS NULL {} ORDER BY id FOR UPDATE SKIP LOCKED
"""
_RECEIVED = "SELECT seq FROM receipt WHERE gateway_id = %s AND epoch = %s AND lane = %s AND seq BETWEEN %s AND %s"
_DUE = """
    SELECT s.id, g.code, s.epoch, s.lane, s.from_seq, s.to_seq, s.requested_at, s.request_count
    FROM sequence_gap s JOIN gateway g ON g.id = s.gateway_id
    WHERE s.closed_at IS NULL AND g.is_enabled AND s.lane < 2
    ORDER BY s.requested_at NULLS FIRST, s.id LIMIT 500 FOR UPDATE OF s SKIP LOCKED
"""
_ASKED = "UPDATE sequence_gap SET requested_at = %s, request_count = request_count + 1 WHERE id = ANY(%s)"


@dataclass(frozen=True, slots=True)
class Request:
    """A range of messages to ask a gateway for again."""

    gateway_code: str
    epoch: str
    lane: int
    missing: Range


@dataclass(frozen=True, slots=True)
class _Gap:
    id: int
    stream: tuple[int, str, int]
    missing: Range
    found_at: datetime
    requested_at: datetime | None
    request_count: int


def find_gaps(connection: Connection, now: datetime) -> int:
    """Look through the streams that moved, write down ripe gaps, close what came meanwhile; return the gaps found.

    Harmless when several processes do it: a gap is written once.
    """
    found = 0
    for *stream, _, complete_through in connection.execute(_STREAMS, [STREAMS_AT_ONCE]).fetchall():
        found += _look(connection, (stream[0], stream[1], stream[2]), complete_through, now)
    _close_received(connection, now)
    return found


def _look(connection: Connection, stream: tuple[int, str, int], complete_through: int | None, now: datetime) -> int:
    if complete_through is None:  # where a stream began cannot be known: it begins with what came
        row = connection.execute(_FIRST_SEQ, stream).fetchone()
        complete_through = row[0] - 1 if row else -1
    received = connection.execute(_MESSAGES, [*stream, complete_through, MESSAGES_AT_ONCE]).fetchall()
    look = look_through(complete_through, received, now)
    with connection.transaction():
        for gap in look.gaps:
            connection.execute(_OPEN, [*stream, gap.first, gap.last, now, None, 0, None, None])
        connection.execute(_PROGRESS, [*stream, look.complete_through, now])
    return len(look.gaps)


def _close_received(connection: Connection, now: datetime) -> None:
    with connection.transaction():
        for gap in _open_gaps(connection, "", []):
            came = connection.execute(_RECEIVED, [*gap.stream, gap.missing.first, gap.missing.last]).fetchall()
            if came:
                _split(connection, gap, ranges(row[0] for row in came), "received", now)


def close_lost(connection: Connection, gateway_id: int, lane: int, gone: Gone, now: datetime) -> None:
    """Close what a gateway says it no longer has, inside the caller's transaction; the rest of a gap stays open."""
    condition = "AND gateway_id = %s AND epoch = %s AND lane = %s AND from_seq <= %s AND to_seq >= %s"
    parameters = [gateway_id, gone.epoch, lane, gone.to_seq, gone.from_seq]
    for gap in _open_gaps(connection, condition, parameters):
        lost = Range(max(gone.from_seq, gap.missing.first), min(gone.to_seq, gap.missing.last))
        _split(connection, gap, [lost], "lost", now)


def _open_gaps(connection: Connection, condition: str, parameters: list[object]) -> list[_Gap]:
    rows = connection.execute(_SELECT_OPEN.format(condition).encode(), parameters).fetchall()
    return [_Gap(row[0], (row[1], row[2], row[3]), Range(row[4], row[5]), *row[6:]) for row in rows]


def _split(connection: Connection, gap: _Gap, closed: list[Range], outcome: str, now: datetime) -> None:
    """Replace a gap by its closed parts and what is left of it."""
    connection.execute("DELETE FROM sequence_gap WHERE id = %s", [gap.id])
    asked = (gap.found_at, gap.requested_at, gap.request_count)
    for part in closed:
        connection.execute(_OPEN, [*gap.stream, part.first, part.last, *asked, now, outcome])
    for part in without(gap.missing, closed):
        connection.execute(_OPEN, [*gap.stream, part.first, part.last, *asked, None, None])


def take_requests(connection: Connection, now: datetime) -> list[Request]:
    """Return the gaps that are due to be asked for, noted as asked."""
    due: list[tuple[int, Request]] = []
    with connection.transaction():
        for id_, code, epoch, lane, first, last, requested_at, count in connection.execute(_DUE).fetchall():
            is_due = requested_at is None or now - requested_at >= pause_after(count)
            if is_due and len(due) < REQUESTS_AT_ONCE:
                due.append((id_, Request(code, epoch, lane, Range(first, last))))
        if due:
            connection.execute(_ASKED, [now, [id_ for id_, _ in due]])
    return [request for _, request in due]

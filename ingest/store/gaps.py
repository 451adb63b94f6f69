"""The ledger of missing messages: found in the receipts, asked for, and closed as received or lost."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from app.domain.sequence import Range, beginning, look_through, pause_after, ranges, without
from ingest.payload import Gone

Connection = psycopg.Connection[Any]
Stream = tuple[int, str, int]  # gateway id, epoch, lane
REQUESTS_AT_ONCE = 50
STREAMS_AT_ONCE = 5000
MESSAGES_AT_ONCE = 20_000

# Streams that moved since anybody looked (a commit is seen up to a minute late), and those with a hole that was not
# ripe. HTTP gateways (lane 2) cannot be asked, but their gaps belong to the ledger too.
LOOK_BACK, LONGEST_LOOK_BACK = timedelta(minutes=2), timedelta(days=2)
_STREAMS = """
    WITH moved AS (
        SELECT gateway_id, epoch, lane FROM receipt WHERE epoch NOT LIKE ':%%' AND committed_at > greatest(
            (SELECT max(looked_at) FROM sequence_progress) - %(look_back)s, %(now)s - %(longest)s)
        UNION SELECT gateway_id, epoch, lane FROM sequence_progress WHERE has_hole
    )
    SELECT m.gateway_id, m.epoch, m.lane, p.complete_through, r.messages, r.lowest, r.highest
    FROM moved m LEFT JOIN sequence_progress p USING (gateway_id, epoch, lane), LATERAL (
        SELECT count(*) AS messages, min(seq) AS lowest, max(seq) AS highest FROM receipt s
        WHERE s.gateway_id = m.gateway_id AND s.epoch = m.epoch AND s.lane = m.lane
          AND s.seq > coalesce(p.complete_through, -1)
    ) r WHERE r.messages > 0 ORDER BY p.looked_at NULLS FIRST LIMIT %(streams)s
"""
_MESSAGES = """
    SELECT seq, committed_at FROM receipt WHERE gateway_id = %s AND epoch = %s AND lane = %s AND seq > %s
    ORDER BY seq LIMIT %s
"""
_PROGRESS = """
    INSERT INTO sequence_progress (gateway_id, epoch, lane, complete_through, has_hole, looked_at)
    SELECT gateway_id, epoch, lane, complete_through, has_hole, %s
    FROM unnest(%s::bigint[], %s::text[], %s::smallint[], %s::bigint[], %s::boolean[])
         AS n (gateway_id, epoch, lane, complete_through, has_hole)
    ORDER BY gateway_id, epoch, lane
    ON CONFLICT (gateway_id, epoch, lane) DO UPDATE
    SET complete_through = greatest(sequence_progress.complete_through, excluded.complete_through),
        has_hole = excluded.has_hole, looked_at = excluded.looked_at
"""
_OPEN = """
    INSERT INTO sequence_gap (gateway_id, epoch, lane, from_seq, to_seq, found_at, requested_at, request_count,
                              closed_at, outcome)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_SELECT_OPEN = """
    SELECT id, gateway_id, epoch, lane, from_seq, to_seq, found_at, requested_at, request_count FROM sequence_gap g
    WHERE closed_at IS NULL {} ORDER BY id FOR UPDATE SKIP LOCKED
"""
_RECEIVED = "SELECT seq FROM receipt WHERE gateway_id = %s AND epoch = %s AND lane = %s AND seq BETWEEN %s AND %s"
_FILLED = """
    AND EXISTS (SELECT FROM receipt r WHERE r.gateway_id = g.gateway_id AND r.epoch = g.epoch AND r.lane = g.lane
                AND r.seq BETWEEN g.from_seq AND g.to_seq)
"""
# A gateway that is away would not hear it: it is asked when it is back.
_DUE = """
    SELECT s.id, g.code, s.epoch, s.lane, s.from_seq, s.to_seq
    FROM sequence_gap s JOIN gateway g ON g.id = s.gateway_id LEFT JOIN gateway_state t ON t.gateway_id = g.id
    WHERE s.closed_at IS NULL AND g.is_enabled AND s.lane < 2 AND coalesce(t.is_online OR t.seen_at > t.said_at, true)
      AND (s.requested_at IS NULL OR s.requested_at + (%s::interval[])[least(s.request_count, %s)] <= %s)
    ORDER BY s.requested_at NULLS FIRST, s.id LIMIT %s FOR UPDATE OF s SKIP LOCKED
"""
# Beyond so many requests the pause is the longest one.
_PAUSES = [pause_after(count) for count in range(1, 13)]
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
    stream: Stream
    missing: Range
    found_at: datetime
    requested_at: datetime | None
    request_count: int


def find_gaps(connection: Connection, now: datetime) -> int:
    """Look through the streams that moved, write down ripe gaps, close what came meanwhile; return the gaps found.

    Harmless when several processes do it: a gap is written once. Streams without a hole, nearly all, cost one row of
    two statements; those with one are read.
    """
    parameters = {"now": now, "look_back": LOOK_BACK, "longest": LONGEST_LOOK_BACK, "streams": STREAMS_AT_ONCE}
    found, settled = 0, []
    for *stream, complete_through, messages, lowest, highest in connection.execute(_STREAMS, parameters).fetchall():
        key = (stream[0], stream[1], stream[2])
        settled_before = beginning(lowest) if complete_through is None else complete_through
        if messages == highest - settled_before:
            settled.append((*key, highest, False))
        else:
            gaps, settled_now = _look(connection, key, settled_before, now)
            found += gaps
            settled.append((*key, settled_now, settled_now < highest))
    if settled:
        connection.execute(_PROGRESS, [now, *(list(column) for column in zip(*settled, strict=True))])
    _close_received(connection, now)
    return found


def _look(
    connection: Connection, stream: tuple[int, str, int], complete_through: int, now: datetime
) -> tuple[int, int]:
    """Write down the ripe gaps of a stream; return how many, and how far the stream is settled now."""
    received = connection.execute(_MESSAGES, [*stream, complete_through, MESSAGES_AT_ONCE]).fetchall()
    look = look_through(complete_through, received, now)
    for gap in look.gaps:
        connection.execute(_OPEN, [*stream, gap.first, gap.last, now, None, 0, None, None])
    return len(look.gaps), look.complete_through


def _close_received(connection: Connection, now: datetime) -> None:
    with connection.transaction():
        for gap in _open_gaps(connection, _FILLED, []):
            came = connection.execute(_RECEIVED, [*gap.stream, gap.missing.first, gap.missing.last]).fetchall()
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
    with connection.transaction():
        due = connection.execute(_DUE, [_PAUSES, len(_PAUSES), now, REQUESTS_AT_ONCE]).fetchall()
        if due:
            connection.execute(_ASKED, [now, [row[0] for row in due]])
    return [Request(code, epoch, lane, Range(first, last)) for _, code, epoch, lane, first, last in due]

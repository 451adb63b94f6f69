"""The gap ledger of a gateway: what should have come, what came, what is missing and what is lost for good."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from app.domain.calendar import day_start

# A point is silent when it has sent nothing for three of its intervals although its gateway sends.
SILENT_INTERVALS = 3
SILENT = "silent"  # the reason of its finding
SILENT_LOCK = 7_230_032

# The points in service with their newest reading, and those of them that are silent. One that never sent is silent
# since it came into service; beyond 31 days nobody looks for its last reading.
_SILENT = """
WITH latest AS (
  SELECT p.id, p.gateway_id, p.code, a.expected_interval_s, greatest(a.from_at, i.from_at) AS in_service_at,
    (SELECT r.ts FROM reading r WHERE r.point_id = p.id AND r.ts > CAST(:now AS timestamptz) - interval '31 days'
     AND r.ts <= CAST(:now AS timestamptz) + interval '1 hour' ORDER BY r.ts DESC LIMIT 1) AS last_at
  FROM point p
  JOIN point_assignment a ON a.point_id = p.id AND a.from_at <= :now AND coalesce(a.to_at, 'infinity') > :now
  JOIN meter_installation i ON i.point_id = p.id AND i.from_at <= :now AND coalesce(i.to_at, 'infinity') > :now
  WHERE CAST(:gateway AS bigint) IS NULL OR p.gateway_id = :gateway
), silent AS (
  SELECT *, coalesce(last_at, in_service_at) AS since_at
  FROM (SELECT *, max(last_at) OVER (PARTITION BY gateway_id) AS newest_at FROM latest) AS each
  WHERE coalesce(last_at, in_service_at) < newest_at - expected_interval_s * :times * interval '1 second'
)
"""


def ledger(connection: Connection, gateway: int, first: date, end: date, now: datetime) -> list[dict[str, Any]]:
    """Return a row for every business day of [first, end).

    Windows expected are those in service (installation and assignment) on the day until now, whether or not anything
    came; messages are counted on the day their gap was found.
    """
    rows = connection.execute(
        text(
            "WITH day AS (SELECT d::date AS day, d AS from_at, d + interval '1 day' AS to_at FROM generate_series("
            " CAST(:from_at AS timestamptz), CAST(:last_at AS timestamptz), interval '1 day') AS d),"
            " elapsed AS (SELECT from_at, least(to_at, CAST(:now AS timestamptz)) AS to_at FROM day"
            "  WHERE from_at < :now),"
            # Of a point they are rounded once: a meter exchanged inside an interval owes no window more.
            " owed AS (SELECT d.from_at, round(sum(extract(epoch FROM"
            "  least(d.to_at, coalesce(a.to_at, 'infinity'), coalesce(i.to_at, 'infinity'))"
            "  - greatest(d.from_at, a.from_at, i.from_at)) / a.expected_interval_s)) AS windows"
            "  FROM elapsed d JOIN point p ON p.gateway_id = :gateway JOIN point_assignment a ON a.point_id = p.id"
            "  JOIN meter_installation i ON i.point_id = p.id WHERE a.from_at < d.to_at AND i.from_at < d.to_at"
            "  AND coalesce(a.to_at, 'infinity') > d.from_at AND coalesce(i.to_at, 'infinity') > d.from_at"
            "  AND coalesce(a.to_at, 'infinity') > i.from_at AND coalesce(i.to_at, 'infinity') > a.from_at"
            "  GROUP BY d.from_at, p.id),"
            " expected AS (SELECT from_at, sum(windows)::bigint AS windows FROM owed GROUP BY 1),"
            " received AS (SELECT u.day, sum(u.windows_received)::bigint AS received,"
            "  sum(u.windows_estimated)::bigint AS estimated FROM usage_day u JOIN point p ON p.id = u.point_id"
            "  WHERE p.gateway_id = :gateway AND u.day >= :first AND u.day < :end GROUP BY 1),"
            " message AS (SELECT (s.found_at AT TIME ZONE 'Asia/Shanghai')::date AS day, coalesce(s.outcome, 'open')"
            "  AS outcome, sum(s.to_seq - s.from_seq + 1) AS messages FROM sequence_gap s"
            "  WHERE s.gateway_id = :gateway GROUP BY 1, 2)"
            " SELECT b.day, coalesce(x.windows, 0) AS windows_expected, coalesce(r.received, 0) AS windows_received,"
            "  coalesce(r.estimated, 0) AS windows_estimated,"
            "  coalesce((SELECT messages FROM message m WHERE m.day = b.day AND m.outcome = 'open'), 0)"
            "  AS messages_missing,"
            "  coalesce((SELECT messages FROM message m WHERE m.day = b.day AND m.outcome = 'lost'), 0)"
            "  AS messages_lost,"
            "  coalesce((SELECT messages FROM message m WHERE m.day = b.day AND m.outcome = 'received'), 0)"
            "  AS messages_recovered"
            " FROM (SELECT (from_at AT TIME ZONE 'Asia/Shanghai')::date AS day, from_at FROM day) b"
            " LEFT JOIN expected x USING (from_at) LEFT JOIN received r ON r.day = b.day ORDER BY b.day"
        ),
        {
            "gateway": gateway,
            "now": now,
            "first": first,
            "end": end,
            "from_at": day_start(first),
            "last_at": day_start(date.fromordinal(end.toordinal() - 1)),
        },
    ).mappings()
    return [dict(row) for row in rows]


def open_gaps(connection: Connection, gateway: int, limit: int) -> list[dict[str, Any]]:
    """Return the ranges of messages that are missing now, oldest first."""
    rows = connection.execute(
        text(
            "SELECT epoch, lane, from_seq, to_seq, found_at, requested_at, request_count FROM sequence_gap"
            " WHERE gateway_id = :gateway AND closed_at IS NULL ORDER BY id LIMIT :limit"
        ),
        {"gateway": gateway, "limit": limit},
    ).mappings()
    return [dict(row) for row in rows]


def silent_points(connection: Connection, gateway: int, now: datetime) -> list[dict[str, Any]]:
    """Return points in service that have been silent for three of their intervals while their gateway sent others."""
    rows = connection.execute(
        text(f"{_SILENT} SELECT code, last_at, expected_interval_s FROM silent ORDER BY code"),
        _silent_parameters(now, gateway),
    ).mappings()
    return [dict(row) for row in rows]


def try_lock_silence(connection: Connection) -> bool:
    """Become the one who looks for silent points in this transaction, or return False."""
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": SILENT_LOCK}).scalar_one())


def note_silent_points(connection: Connection, now: datetime) -> int:
    """Open a finding for every point that fell silent, close those of points that send again or left service.

    Returns how many were opened or closed.
    """
    parameters = _silent_parameters(now, None)
    closed = connection.execute(
        text(
            f"{_SILENT} UPDATE finding f SET closed_at = :now, closed_by = 'gateway',"
            " to_at = greatest(f.to_at, l.last_at),"
            " note = CASE WHEN l.id IS NULL THEN 'out of service' ELSE 'sends again' END"
            " FROM point p LEFT JOIN latest l USING (id) WHERE f.point_id = p.id AND f.reason = :reason"
            " AND f.closed_at IS NULL AND (l.id IS NULL OR l.last_at > f.from_at)"
        ),
        parameters,
    )
    opened = connection.execute(
        text(
            f"{_SILENT} INSERT INTO finding (point_id, reason, from_at, to_at, detail)"
            " SELECT s.id, :reason, s.since_at, s.newest_at, jsonb_build_object('expected_interval_s',"
            " s.expected_interval_s) FROM silent s WHERE NOT EXISTS (SELECT FROM finding f WHERE f.point_id = s.id"
            " AND f.reason = :reason AND f.closed_at IS NULL) ORDER BY s.id"
        ),
        parameters,
    )
    return closed.rowcount + opened.rowcount


def _silent_parameters(now: datetime, gateway: int | None) -> dict[str, Any]:
    return {"now": now, "gateway": gateway, "times": SILENT_INTERVALS, "reason": SILENT}

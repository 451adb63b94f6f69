"""The gap ledger of a gateway: what should have come, what came, what is missing and what is lost for good."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db.scope import Scope
from app.domain.calendar import day_start
from app.errors import NotFound

# A point is silent when it has sent nothing for three of its intervals although its gateway sends.
SILENT_INTERVALS = 3


def gateway_id(connection: Connection, scope: Scope, code: str) -> int:
    """Return the id of a gateway in scope; outside it raises NotFound like one that is not there."""
    found = connection.execute(
        text(
            "SELECT g.id FROM gateway g JOIN enterprise e ON e.id = g.enterprise_id"
            f" WHERE g.code = :code AND {scope.enterprises_sql()}"
        ),
        {"code": code, **scope.parameters()},
    ).scalar()
    if found is None:
        raise NotFound(f"there is no gateway {code!r}", detail_zh=f"没有网关 {code}")
    return int(found)


def ledger(connection: Connection, gateway: int, first: date, end: date) -> list[dict[str, Any]]:
    """Return a row for every business day of [first, end).

    Windows expected are those in service (installation and assignment) on the day, whether or not anything came;
    messages are counted on the day their gap was found.
    """
    rows = connection.execute(
        text(
            "WITH day AS (SELECT d::date AS day, d AS from_at, d + interval '1 day' AS to_at FROM generate_series("
            " CAST(:from_at AS timestamptz), CAST(:last_at AS timestamptz), interval '1 day') AS d),"
            " expected AS (SELECT d.from_at, sum(round(extract(epoch FROM"
            "  least(d.to_at, coalesce(a.to_at, 'infinity'), coalesce(i.to_at, 'infinity'))"
            "  - greatest(d.from_at, a.from_at, i.from_at)) / a.expected_interval_s))::bigint AS windows"
            "  FROM day d JOIN point p ON p.gateway_id = :gateway JOIN point_assignment a ON a.point_id = p.id"
            "  JOIN meter_installation i ON i.point_id = p.id WHERE a.from_at < d.to_at AND i.from_at < d.to_at"
            "  AND coalesce(a.to_at, 'infinity') > d.from_at AND coalesce(i.to_at, 'infinity') > d.from_at"
            "  AND coalesce(a.to_at, 'infinity') > i.from_at AND coalesce(i.to_at, 'infinity') > a.from_at"
            "  GROUP BY 1),"
            " received AS (SELECT u.day, sum(u.windows_received)::bigint AS received,"
            "  sum(u.windows_estimated)::bigint AS estimated FROM usage_day u JOIN point p ON p.id = u.point_id"
            "  WHERE p.gateway_id = :gateway AND u.day >= :first AND u.day < :end GROUP BY 1),"
            " message AS (SELECT (s.found_at AT TIME ZONE 'Asia/Shanghai')::date AS day, coalesce(s.outcome, 'open')"
            "  AS outcome, sum(s.to_seq - s.from_seq + 1)::bigint AS messages FROM sequence_gap s"
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
        text(
            "WITH latest AS (SELECT p.code, a.expected_interval_s, (SELECT max(r.ts) FROM reading r"
            "  WHERE r.point_id = p.id AND r.ts > CAST(:now AS timestamptz) - interval '31 days'"
            "  AND r.ts <= CAST(:now AS timestamptz) + interval '1 hour') AS last_at"
            "  FROM point p JOIN point_assignment a ON a.point_id = p.id AND a.from_at <= :now"
            "  AND coalesce(a.to_at, 'infinity') > :now WHERE p.gateway_id = :gateway)"
            " SELECT code, last_at, expected_interval_s FROM latest WHERE coalesce(last_at, '-infinity') <"
            "  (SELECT max(last_at) FROM latest) - expected_interval_s * :times * interval '1 second' ORDER BY code"
        ),
        {"gateway": gateway, "now": now, "times": SILENT_INTERVALS},
    ).mappings()
    return [dict(row) for row in rows]

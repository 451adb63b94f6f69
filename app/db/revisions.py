"""Revisions of published figures: telling a run's transaction apart, reading what was known, and announcing changes.

The rows are written by triggers of the schema (migration 0006), in the transaction of the change itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a run changed for one enterprise, of figures that had been told otherwise."""

    enterprise_id: int
    district_code: str | None
    figures: int
    kinds: tuple[str, ...]
    first_period: date
    last_period: date
    causes: tuple[str, ...]


def begin_run(connection: Connection, now: datetime, cause: str) -> None:
    """Say what the present is and what made this run; revisions of this transaction carry both."""
    connection.execute(
        text("SELECT set_config('nenghao.now', :now, true), set_config('nenghao.cause', :cause, true)"),
        {"now": now.isoformat(), "cause": cause},
    )


def known_at(
    connection: Connection,
    kind: str,
    grain: str,
    keys: Sequence[str],
    first: date,
    end: date,
    at: datetime,
) -> dict[tuple[str, date], dict[str, Any] | None]:
    """Return what was known at an instant of figures that were revised at any time: (key, period) -> value or None.

    A figure that is not in the answer was never revised: what stands in its table was known since its publication.
    Periods are those of [first, end).
    """
    rows = connection.execute(
        text(
            "SELECT DISTINCT ON (f.key, f.period) f.key, f.period,"
            " CASE WHEN f.recorded_at <= :at THEN f.value END AS value"
            " FROM figure_revision f WHERE f.kind = :kind AND f.grain = :grain AND f.key = ANY(:keys)"
            " AND f.period >= :first AND f.period < :end"
            " ORDER BY f.key, f.period, (f.recorded_at <= :at) DESC,"
            " CASE WHEN f.recorded_at <= :at THEN f.revision END DESC"
        ),
        {"kind": kind, "grain": grain, "keys": list(keys), "first": first, "end": end, "at": at},
    )
    return {(row.key, row.period): row.value for row in rows}


def of_figure(connection: Connection, kind: str, grain: str, key: str, period: date) -> list[dict[str, Any]]:
    """Return the revisions of one figure, oldest first."""
    rows = connection.execute(
        text(
            "SELECT revision, value, cause, recorded_at, was_known FROM figure_revision"
            " WHERE kind = :kind AND grain = :grain AND key = :key AND period = :period ORDER BY revision"
        ),
        {"kind": kind, "grain": grain, "key": key, "period": period},
    ).mappings()
    return [dict(row) for row in rows]


def of_this_run(connection: Connection) -> list[Announcement]:
    """Return, per enterprise, what this transaction has revised of figures that had a value before."""
    rows = connection.execute(
        text(
            "WITH revised AS (SELECT f.kind, f.period, f.cause, coalesce(g.enterprise_id, u.enterprise_id,"
            "  lu.enterprise_id) AS enterprise_id FROM figure_revision f"
            "  LEFT JOIN point p ON f.kind = 'usage' AND p.id = split_part(f.key, ':', 1)::integer"
            "  LEFT JOIN gateway g ON g.id = p.gateway_id"
            "  LEFT JOIN process_unit u ON f.kind = 'energy' AND u.id = split_part(f.key, ':', 1)::bigint"
            "  LEFT JOIN production_line l ON f.kind = 'ratio' AND l.id = split_part(f.key, ':', 1)::bigint"
            "  LEFT JOIN process_unit lu ON lu.id = l.process_unit_id"
            "  WHERE f.xid = pg_current_xact_id() AND f.revision > 0 AND f.was_known)"
            " SELECT r.enterprise_id, (SELECT a.district_code FROM enterprise_assignment a"
            "   WHERE a.enterprise_id = r.enterprise_id ORDER BY a.from_on DESC LIMIT 1) AS district_code,"
            "  count(*) AS figures, array_agg(DISTINCT r.kind ORDER BY r.kind) AS kinds,"
            "  min(r.period) AS first_period, max(r.period) AS last_period,"
            "  array_agg(DISTINCT r.cause ORDER BY r.cause) AS causes"
            " FROM revised r GROUP BY r.enterprise_id ORDER BY r.enterprise_id"
        )
    )
    return [
        Announcement(
            row.enterprise_id,
            row.district_code,
            row.figures,
            tuple(row.kinds),
            row.first_period,
            row.last_period,
            tuple(row.causes),
        )
        for row in rows
    ]

"""Revisions of published figures: telling a run's transaction apart, reading what was known, and announcing changes.

The rows are written by triggers of the schema (migration 0006), in the transaction of the change itself.
"""

import json
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from app.db.assignments import CURRENT_DISTRICT


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a run changed for one enterprise, of figures that had been told otherwise."""

    enterprise_id: int
    district_code: str | None
    figures: int
    kinds: tuple[str, ...]
    grains: tuple[str, ...]
    first_period: date
    last_period: date
    causes: tuple[str, ...]


def begin_run(connection: Connection, now: datetime, cause: str) -> None:
    """Say what the present is and what made this run; revisions of this transaction carry both."""
    connection.execute(
        text("SELECT set_config('nenghao.now', :now, true), set_config('nenghao.cause', :cause, true)"),
        {"now": now.isoformat(), "cause": cause},
    )


def of_figure(connection: Connection, kind: str, grain: str, key: str, period: date) -> list[dict[str, Any]]:
    """Return the revisions of one figure, oldest first."""
    rows = connection.execute(
        text(
            "SELECT revision, value::text AS value, cause, recorded_at, was_known FROM figure_revision"
            " WHERE kind = :kind AND grain = :grain AND key = :key AND period = :period ORDER BY revision"
        ),
        {"kind": kind, "grain": grain, "key": key, "period": period},
    ).mappings()
    return [{**row, "value": _exact(row["value"])} for row in rows]


def _exact(value: str) -> dict[str, Any] | None:
    """A figure's fields as its table has them: counts and ids are whole numbers, all other numbers decimals."""
    fields = json.loads(value, parse_float=Decimal, parse_int=Decimal)
    return fields and {
        name: int(v) if isinstance(v, Decimal) and name.startswith(("windows_", "level_")) else v
        for name, v in fields.items()
    }


# A figure that came late is told, like any other, at noon of the next day: until then its history may still be coming
# in, run by run, and corrects nobody.
_TOLD = """(f.revision_0 OR now_at >= ((f.first_at AT TIME ZONE 'Asia/Shanghai')::date + 1)::timestamp
  AT TIME ZONE 'Asia/Shanghai' + interval '12 hours')"""
_OF_THIS_RUN = f"""
WITH mine AS (
  SELECT r.kind, r.key, r.grain, r.period, r.cause FROM figure_revision r
  -- What came into being just now was told to nobody; a history that comes in late has nothing else.
  WHERE r.xid = pg_current_xact_id() AND (r.revision > 1 OR r.revision = 1 AND r.was_known)
), revised AS (
  SELECT m.*, coalesce(g.enterprise_id, u.enterprise_id, lu.enterprise_id) AS enterprise_id
  FROM mine m CROSS JOIN LATERAL (
    SELECT min(a.recorded_at) AS first_at, bool_or(a.revision = 0) AS revision_0 FROM figure_revision a
    WHERE a.kind = m.kind AND a.key = m.key AND a.grain = m.grain AND a.period = m.period) f
  CROSS JOIN (SELECT revision_now() AS now_at) present
  LEFT JOIN point p ON m.kind = 'usage' AND p.id = split_part(m.key, ':', 1)::integer
  LEFT JOIN gateway g ON g.id = p.gateway_id
  LEFT JOIN process_unit u ON m.kind = 'energy' AND u.id = split_part(m.key, ':', 1)::bigint
  LEFT JOIN production_line l ON m.kind = 'ratio' AND l.id = split_part(m.key, ':', 1)::bigint
  LEFT JOIN process_unit lu ON lu.id = l.process_unit_id
  WHERE {_TOLD}
)
SELECT e.id AS enterprise_id, {CURRENT_DISTRICT} AS district_code, count(*) AS figures,
  array_agg(DISTINCT r.kind ORDER BY r.kind) AS kinds,
  array_agg(DISTINCT r.grain ORDER BY r.grain) AS grains, min(r.period) AS first_period, max(r.period) AS last_period,
  array_agg(DISTINCT r.cause ORDER BY r.cause) AS causes
FROM revised r JOIN enterprise e ON e.id = r.enterprise_id GROUP BY e.id ORDER BY e.id"""


def of_this_run(connection: Connection) -> list[Announcement]:
    """Return, per enterprise, what this transaction has revised of figures that were told with another value."""
    return [
        Announcement(
            row.enterprise_id,
            row.district_code,
            row.figures,
            tuple(row.kinds),
            tuple(row.grains),
            row.first_period,
            row.last_period,
            tuple(row.causes),
        )
        for row in connection.execute(text(_OF_THIS_RUN))
    ]

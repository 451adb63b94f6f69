"""Findings: one row per breach, closed when it is gone, each with its fault clock."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db.assignments import CURRENT_ASSIGNMENT
from app.db.scope import Scope
from app.domain.validation import NO_FAULT, Breach, Rule
from app.errors import Conflict, NotFound

VALIDATION = "validation"  # who closes what is no longer so


@dataclass(frozen=True, slots=True)
class Judged:
    """A rule that was applied to a period of a point, or of a gateway (then point_id is None)."""

    point_id: int | None
    gateway_id: int | None
    rule: Rule
    grain: str
    from_at: datetime


_JUDGED = """
WITH judged AS (
  SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS j(point_id integer, gateway_id bigint, rule text,
    grain text, from_at timestamptz, to_at timestamptz, detail jsonb)
)"""
_SAME = """f.point_id IS NOT DISTINCT FROM j.point_id AND f.gateway_id IS NOT DISTINCT FROM j.gateway_id
    AND f.reason = j.rule AND f.grain = j.grain AND f.from_at = j.from_at"""
_CLOSE = f"""{_JUDGED}
UPDATE finding f SET closed_at = :now, closed_by = '{VALIDATION}', note = 'no longer so'
FROM judged j WHERE j.detail IS NULL AND {_SAME} AND f.closed_at IS NULL"""
# A breach that comes back after it went away opens its row again with a new clock. What a person closed stays closed.
_OPEN = f"""{_JUDGED}
INSERT INTO finding AS f (point_id, gateway_id, reason, grain, from_at, to_at, detail, found_at)
SELECT point_id, gateway_id, rule, grain, from_at, to_at, detail, :now FROM judged WHERE detail IS NOT NULL
ORDER BY gateway_id, point_id, rule, from_at
ON CONFLICT (point_id, gateway_id, reason, grain, from_at) WHERE grain IS NOT NULL DO UPDATE SET
  to_at = excluded.to_at, closed_at = NULL, closed_by = NULL, note = NULL,
  detail = excluded.detail || CASE WHEN f.closed_at IS NULL AND f.detail ? 'calendar'
                              THEN jsonb_build_object('calendar', f.detail -> 'calendar') ELSE '{{}}' END,
  found_at = CASE WHEN f.closed_at IS NULL THEN f.found_at ELSE excluded.found_at END,
  due_on = CASE WHEN f.closed_at IS NULL THEN f.due_on END
WHERE (f.closed_at IS NULL AND (f.to_at <> excluded.to_at OR f.detail - 'calendar' <> excluded.detail))
   OR f.closed_by = '{VALIDATION}'"""


def settle(connection: Connection, judged: Mapping[Judged, Breach | None], now: datetime) -> None:
    """Make the breaches the open findings of what was judged; judged without a breach closes what is open."""
    standing = _open_keys(connection, judged)
    changed = {key: breach for key, breach in judged.items() if breach is not None or key in standing}
    if not changed:
        return
    rows = [
        {
            "point_id": key.point_id,
            "gateway_id": key.gateway_id,
            "rule": key.rule.value,
            "grain": key.grain,
            "from_at": key.from_at.isoformat(),
            "to_at": breach.to_at.isoformat() if breach else None,
            "detail": dict(breach.detail) if breach else None,
        }
        for key, breach in changed.items()
    ]
    parameters = {"rows": json.dumps(rows, ensure_ascii=False), "now": now}
    connection.execute(text(_CLOSE), parameters)
    connection.execute(text(_OPEN), parameters)


def _open_keys(connection: Connection, judged: Mapping[Judged, Breach | None]) -> set[Judged]:
    """Return what is open of what was judged: nearly all that is judged is right, and is sent nowhere."""
    rows = connection.execute(
        text(
            "SELECT point_id, gateway_id, reason, grain, from_at FROM finding WHERE closed_at IS NULL"
            " AND grain IS NOT NULL AND (point_id = ANY(:points) OR gateway_id = ANY(:gateways))"
        ),
        {
            "points": sorted({key.point_id for key in judged if key.point_id is not None}),
            "gateways": sorted({key.gateway_id for key in judged if key.gateway_id is not None}),
        },
    )
    found = {Judged(point, gateway, Rule(reason), grain, from_at) for point, gateway, reason, grain, from_at in rows}
    return found & judged.keys()


def open_sums(connection: Connection, gateway_id: int, months: Sequence[datetime]) -> list[Judged]:
    """Return the open findings about sums of these months (by their start) in the enterprise of a gateway."""
    rows = connection.execute(
        text(
            "SELECT f.point_id, f.reason, f.grain, f.from_at FROM finding f JOIN point p ON p.id = f.point_id"
            " JOIN gateway g ON g.id = p.gateway_id WHERE g.enterprise_id = (SELECT enterprise_id FROM gateway"
            " WHERE id = :gateway) AND f.reason = ANY(:rules) AND f.from_at = ANY(:months) AND f.closed_at IS NULL"
        ),
        {
            "gateway": gateway_id,
            "rules": [Rule.MONTHLY_DEVIATION.value, Rule.FEEDER_DEVIATION.value],
            "months": list(months),
        },
    )
    return [Judged(point_id, None, Rule(reason), grain, from_at) for point_id, reason, grain, from_at in rows]


_WITHOUT_CLOCK = "due_on IS NULL AND closed_at IS NULL AND NOT reason = ANY(:no_fault)"
_NO_FAULT = sorted(reason.value for reason in NO_FAULT)


def days_without_clock(connection: Connection) -> list[date]:
    """Return the business days on which open findings were found that should have a clock and have none yet."""
    return list(
        connection.execute(
            text(
                "SELECT DISTINCT (found_at AT TIME ZONE 'Asia/Shanghai')::date FROM finding"
                f" WHERE {_WITHOUT_CLOCK} ORDER BY 1"
            ),
            {"no_fault": _NO_FAULT},
        ).scalars()
    )


def start_clocks(connection: Connection, found_on: date, due_on: date, calendar: str | None) -> int:
    """Give the open findings of a day their clock; `calendar` says by which days it runs, where not by the official."""
    changed = connection.execute(
        text(
            "UPDATE finding SET due_on = :due_on, detail = CASE WHEN CAST(:calendar AS text) IS NULL THEN detail"
            " ELSE detail || jsonb_build_object('calendar', CAST(:calendar AS text)) END WHERE id IN ("
            f" SELECT id FROM finding WHERE {_WITHOUT_CLOCK}"
            " AND (found_at AT TIME ZONE 'Asia/Shanghai')::date = :found_on ORDER BY id FOR UPDATE SKIP LOCKED)"
        ),
        {"found_on": found_on, "due_on": due_on, "calendar": calendar, "no_fault": _NO_FAULT},
    )
    return changed.rowcount


def stop_clocks(connection: Connection, first: date) -> int:
    """Take the clock from open findings that run on or after a day, or by no official calendar: to be set anew."""
    changed = connection.execute(
        text(
            "UPDATE finding SET due_on = NULL, detail = detail - 'calendar' WHERE id IN (SELECT id FROM finding"
            " WHERE closed_at IS NULL AND (due_on >= :first OR detail ? 'calendar') ORDER BY id FOR UPDATE)"
        ),
        {"first": first},
    )
    return changed.rowcount


_FROM = (
    " FROM finding f LEFT JOIN point p ON p.id = f.point_id JOIN gateway g ON g.id = coalesce(f.gateway_id,"
    " p.gateway_id) JOIN enterprise e ON e.id = g.enterprise_id"
)
_COLUMNS = (
    "SELECT f.id, e.id AS enterprise_id, e.uscc, e.name_zh, e.name_en, g.code AS gateway, p.code AS point,"
    " f.point_id, f.reason, f.grain, f.from_at, f.to_at, f.detail, f.found_at, f.due_on,"
    " (f.closed_at IS NULL AND f.due_on < :today) AS is_overdue, f.closed_at, f.closed_by, f.note"
)


def list_findings(
    connection: Connection,
    scope: Scope,
    *,
    today: date,
    limit: int,
    before_id: int | None = None,
    enterprise_id: int | None = None,
    district_code: str | None = None,
    gateway: str | None = None,
    point: str | None = None,
    reason: str | None = None,
    is_open: bool | None = None,
    is_overdue: bool | None = None,
    is_by_clock: bool = False,
) -> list[dict[str, Any]]:
    """Return findings in scope, the last found first, below an id; or by their clock, the one due first."""
    rows = connection.execute(
        text(
            f"{_COLUMNS}{_FROM} LEFT JOIN {CURRENT_ASSIGNMENT} c ON true WHERE {scope.enterprises_sql()}"
            " AND (CAST(:before AS bigint) IS NULL OR f.id < :before)"
            " AND (CAST(:enterprise AS bigint) IS NULL OR e.id = :enterprise)"
            " AND (CAST(:district AS text) IS NULL OR c.district_code = :district)"
            " AND (CAST(:gateway AS text) IS NULL OR g.code = :gateway)"
            " AND (CAST(:point AS text) IS NULL OR p.code = :point)"
            " AND (CAST(:reason AS text) IS NULL OR f.reason = :reason)"
            " AND (CAST(:is_open AS boolean) IS NULL OR (f.closed_at IS NULL) = :is_open)"
            " AND (CAST(:is_overdue AS boolean) IS NULL"
            " OR (f.closed_at IS NULL AND f.due_on IS NOT NULL AND f.due_on < :today) = :is_overdue)"
            f" ORDER BY {'f.due_on NULLS LAST, ' if is_by_clock else ''}f.id DESC LIMIT :limit"
        ),
        {
            "today": today,
            "before": before_id,
            "enterprise": enterprise_id,
            "district": district_code,
            "gateway": gateway,
            "point": point,
            "reason": reason,
            "is_open": is_open,
            "is_overdue": is_overdue,
            "limit": limit,
            **scope.parameters(),
        },
    ).mappings()
    return [dict(row) for row in rows]


def count_open(connection: Connection, scope: Scope, today: date) -> dict[str, int]:
    """Return how many findings in scope are `open`, and how many of these are `overdue`."""
    row = connection.execute(
        text(
            "SELECT count(*) AS open, count(*) FILTER (WHERE f.due_on < :today) AS overdue"
            f"{_FROM} WHERE f.closed_at IS NULL AND {scope.enterprises_sql()}"
        ),
        {"today": today, **scope.parameters()},
    )
    return dict(row.mappings().one())


def count_kinds(connection: Connection, scope: Scope, today: date) -> list[dict[str, Any]]:
    """Return the same by reason, the most frequent first."""
    rows = connection.execute(
        text(
            "SELECT f.reason, count(*) AS open, count(*) FILTER (WHERE f.due_on < :today) AS overdue"
            f"{_FROM} WHERE f.closed_at IS NULL AND {scope.enterprises_sql()} GROUP BY 1 ORDER BY 2 DESC, 1"
        ),
        {"today": today, **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]


def get(connection: Connection, scope: Scope, finding_id: int, today: date) -> dict[str, Any]:
    """Return a finding in scope; else raise NotFound."""
    row = (
        connection.execute(
            text(f"{_COLUMNS}{_FROM} WHERE f.id = :id AND {scope.enterprises_sql()}"),
            {"id": finding_id, "today": today, **scope.parameters()},
        )
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound(f"there is no finding {finding_id}", detail_zh=f"没有编号为 {finding_id} 的问题")
    return dict(row)


def close(
    connection: Connection, scope: Scope, finding_id: int, *, actor: str, note: str, now: datetime, today: date
) -> dict[str, Any]:
    """Close an open finding in scope with a note and return it; one that is closed raises Conflict."""
    get(connection, scope, finding_id, today)
    changed = connection.execute(
        text(
            "UPDATE finding SET closed_at = :now, closed_by = :actor, note = :note WHERE id = :id AND closed_at IS NULL"
        ),
        {"id": finding_id, "now": now, "actor": actor, "note": note},
    )
    found = get(connection, scope, finding_id, today)
    if changed.rowcount == 0:
        raise Conflict(
            f"finding {finding_id} is closed already, by {found['closed_by']}",
            detail_zh=f"问题 {finding_id} 已由 {found['closed_by']} 关闭",
        )
    return found

"""Which figures a change of the registry makes stale. New points have no readings yet and leave no marks.

Nor does an enterprise that moves to another district or industry: sums by these are made when they are asked for.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from app.db import registry as registry_db
from app.db import stale
from app.domain.calendar import HOUR, day_start
from app.intake.registry_records import Change, Key, Plan, Record, Registered

CAUSE = "registry"
Ids = Mapping[tuple[str, Key], int]
Row = tuple[int, int | None, datetime, datetime]
# A change of these columns alone alters no figure.
NAMES_ONLY = {"name_zh", "name_en", "data_item_code", "serial", "verified_until", "capacity", "capacity_unit"}


def mark(connection: Connection, plan: Plan, registered: Registered, ids: Ids, now: datetime) -> None:
    """Append the marks of everything that the plan has changed for rows that were there before."""
    horizon = now + timedelta(days=1)
    rollup, account, outputs = _dated_rows(plan, registered, ids, horizon)
    rollup += _points(plan, registered, horizon)
    measured = registry_db.points_with_readings(connection, sorted({p for _, p, _, _ in rollup if p is not None}))
    rollup = [row for row in rollup if row[1] in measured]
    for stage, rows in (
        ("rollup", rollup),
        ("account", account),
        ("benchmark", outputs + _lines(plan, registered, ids, horizon)),
    ):
        wanted = sorted({row for row in rows if row[2] < row[3]}, key=lambda row: (row[0], row[1] or 0, row[2]))
        stale.mark_many(connection, stage, wanted, cause=CAUSE)


def touched_rows(plan: Plan, kind: str) -> list[Record | Change]:
    """Return the new rows of a kind and those that changed in more than names."""
    changes = [c for c in plan.updates[kind] if not set(c.columns) <= NAMES_ONLY]
    return [*plan.inserts[kind], *changes]


def covered_periods(touched: Record | Change, columns: tuple[str, str], horizon: Any) -> list[tuple[Any, Any]]:
    """Return the periods [from, to) that a row covers now and covered before; without end, up to the horizon."""
    start, end = columns
    if isinstance(touched, Record):
        return [(touched.given[start], touched.given.get(end) or horizon)]
    row = touched.row
    after = (touched.columns.get(start, row[start]), touched.columns.get(end, row[end]) or horizon)
    if set(touched.columns) <= {end, "final_register"}:
        # What it covers now and covered before stays as it is; the rollup adds the readings next to the end.
        earlier, later = sorted((row[end] or horizon, after[1]))
        return [(earlier, later)]
    return [(row[start], row[end] or horizon), after]


def _dated_rows(
    plan: Plan, registered: Registered, ids: Ids, horizon: datetime
) -> tuple[list[Row], list[Row], list[Row]]:
    rollup: list[Row] = []
    account: list[Row] = []
    outputs: list[Row] = []
    for kind in ("meter_installation", "point_assignment"):
        for touched in touched_rows(plan, kind):
            record = touched if isinstance(touched, Record) else touched.record
            point = registered["point"].get(record.key[:2])
            if point is None:
                continue
            spans = covered_periods(touched, ("from_at", "to_at"), horizon)
            start, end = min(s for s, _ in spans), max(e for _, e in spans)
            start = min(start, end - HOUR)  # a final register alone lies at an instant
            rollup.append((point["gateway_id"], point["id"], start, end))
            # The rollup marks the process unit that the point counts to now; the one it has left is marked here.
            account += [(unit, None, start, end) for unit in _referred(touched, ids, "process_unit_id")]
            outputs += [(line, None, start, end) for line in _referred(touched, ids, "line_id")]
    return rollup, account, outputs


def _referred(touched: Record | Change, ids: Ids, column: str) -> set[int]:
    """The ids that a column of a dated row names now and named before."""
    found: set[int] = set()
    if isinstance(touched, Change) and touched.row.get(column) is not None:
        found.add(touched.row[column])
    values = touched.given if isinstance(touched, Record) else touched.columns
    reference = values.get(column)
    if reference is not None:
        found.add(ids[reference.kind, reference.key])
    return found


def _points(plan: Plan, registered: Registered, horizon: datetime) -> list[Row]:
    """A point whose carrier, signal or unit was put right is rolled up again from its first installation."""
    rows: list[Row] = []
    for change in plan.updates["point"]:
        starts = [key[2] for key in registered["meter_installation"] if key[:2] == change.record.key]
        if starts and not set(change.columns) <= NAMES_ONLY:
            rows.append((change.row["gateway_id"], change.row["id"], min(starts), horizon))
    return rows


def _lines(plan: Plan, registered: Registered, ids: Ids, horizon: datetime) -> list[Row]:
    """Lines that changed, or whose enterprise's tree changed, are compared again from their first day."""
    changed = {t.key if isinstance(t, Record) else t.record.key for t in touched_rows(plan, "production_line")}
    moved = {c.record.key[0] for c in plan.updates["process_unit"] if "parent_id" in c.columns}
    keys = changed | {key for key in registered["production_line"] if key[0] in moved}
    rows: list[Row] = []
    for key in keys:
        before = registered["production_line"].get(key)
        starts = [record.given["from_on"] for record in plan.inserts["production_line"] if record.key == key]
        starts += [c.columns["from_on"] for c in plan.updates["production_line"] if c.record.key == key and _dates(c)]
        starts += [before["from_on"]] if before else []
        if (key[0],) in registered["enterprise"] and starts:
            rows.append((ids["production_line", key], None, day_start(min(starts)), horizon))
    return rows


def _dates(change: Change) -> bool:
    return isinstance(change.columns.get("from_on"), date)

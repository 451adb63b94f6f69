"""Which changes of the registry reach into a closed year: they take the right and the reason that an edit there takes.

A change reaches there when figures exist, or will, that lie in its period and in a closed year. What a point has not
measured cannot change: dates of years before its first reading are free, and so are new points and names.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from app.db import metering as metering_db
from app.domain.calendar import HOUR, day_start
from app.domain.closing import INSTANT, closed_year_of
from app.intake import closed_years, registry_marks
from app.intake.registry_file import Path, place
from app.intake.registry_records import Change, Key, Plan, Record, Registered

# A change of these columns of a point alters what is found fault with, but no figure.
BOUNDS = {"value_min", "value_max"}
OPERATOR = "operator"  # nobody else writes the registry: the routes and the command line see to that


@dataclass(frozen=True, slots=True)
class _Effect:
    """A changed row, the points whose figures it alters, and the period in which it does.

    `registers`: instants of registers that the row itself states; they are measurements like readings.
    """

    path: Path
    points: frozenset[int]
    from_at: datetime
    to_at: datetime
    registers: tuple[datetime, ...] = ()


def check(
    connection: Connection,
    plan: Plan,
    registered: Registered,
    *,
    now: datetime,
    reason: str | None,
    places: Mapping[Path, str],
) -> dict[int, str]:
    """Return the closed years that a plan reaches into; without a reason Forbidden, which names every row that does."""
    effects = [effect for effect in _effects(plan, registered, now) if closed_year_of(effect.from_at, now) is not None]
    if not effects:
        return {}
    extents = metering_db.extents(connection, sorted(set().union(*(effect.points for effect in effects))))
    located: list[tuple[str, datetime]] = []
    for effect in effects:
        begins = [
            max(effect.from_at, min((extent.from_at, *effect.registers)))
            for point in effect.points
            if (extent := extents.get(point)) and effect.from_at < max((extent.to_at, *effect.registers))
        ]
        if begins and min(begins) < effect.to_at:
            located.append((place(effect.path, places), min(begins)))
    return closed_years.check(located, OPERATOR, reason, now)


def _effects(plan: Plan, registered: Registered, now: datetime) -> Iterator[_Effect]:
    horizon = now + timedelta(days=1)
    for kind in ("meter_installation", "point_assignment"):
        yield from _dated_rows(plan, registered, kind, horizon)
    for change in plan.updates["point"]:
        starts = [key[2] for key in registered["meter_installation"] if key[:2] == change.record.key]
        if starts and not set(change.columns) <= registry_marks.NAMES_ONLY | BOUNDS:
            yield _Effect(change.record.path, frozenset({change.row["id"]}), min(starts), horizon)
    yield from _of_enterprises(plan, registered, horizon)


def _dated_rows(plan: Plan, registered: Registered, kind: str, horizon: datetime) -> Iterator[_Effect]:
    for touched in registry_marks.touched_rows(plan, kind):
        record = touched if isinstance(touched, Record) else touched.record
        point = registered["point"].get(record.key[:2])
        if point is None:
            continue  # a new point
        spans = registry_marks.covered_periods(touched, ("from_at", "to_at"), horizon)
        start, end = min(s for s, _ in spans), max(e for _, e in spans)
        start = min(start, end - HOUR)  # a final register alone lies at an instant
        is_meter = kind == "meter_installation"
        # A register at midnight of 1 January closes the year before; where a point counts from then on does not.
        start += timedelta(0) if is_meter else INSTANT
        yield _Effect(record.path, frozenset({point["id"]}), start, end, _registers(touched) if is_meter else ())


def _registers(touched: Record | Change) -> tuple[datetime, ...]:
    row: Mapping[str, Any] = touched.given if isinstance(touched, Record) else {**touched.row, **touched.columns}
    pairs = (("initial_register", "from_at"), ("final_register", "to_at"))
    return tuple(row[at] for value, at in pairs if row.get(value) is not None and row.get(at) is not None)


def _of_enterprises(plan: Plan, registered: Registered, horizon: datetime) -> Iterator[_Effect]:
    """Rows that alter figures of a whole enterprise: district and industry, lines, and the tree they stand in."""
    begun: list[tuple[Path, Key, datetime]] = []
    for touched in registry_marks.touched_rows(plan, "enterprise_assignment"):
        spans = registry_marks.covered_periods(touched, ("from_on", "to_on"), horizon.date())
        begun.append((*_named(touched), day_start(min(start for start, _ in spans))))
    for touched in registry_marks.touched_rows(plan, "production_line"):
        begun += [(*_named(touched), day_start(start)) for start in _line_starts(touched)]
    for change in plan.updates["process_unit"]:
        if "parent_id" in change.columns:
            lines = registered["production_line"].items()
            starts = [row["from_on"] for key, row in lines if key[0] == change.record.key[0]]
            begun += [(*_named(change), day_start(min(starts)))] if starts else []
    for path, key, start in begun:
        points = frozenset(_points_of(registered, key[0]))
        if points:
            yield _Effect(path, points, start + INSTANT, horizon)


def _named(touched: Record | Change) -> tuple[Path, Key]:
    record = touched if isinstance(touched, Record) else touched.record
    return record.path, record.key


def _line_starts(touched: Record | Change) -> list[Any]:
    if isinstance(touched, Record):
        return [touched.given["from_on"]]
    return [min(touched.row["from_on"], touched.columns.get("from_on") or touched.row["from_on"])]


def _points_of(registered: Registered, uscc: str) -> Iterable[int]:
    enterprise = registered["enterprise"].get((uscc,))
    if enterprise is None:
        return {}
    gateways = {row["id"] for row in registered["gateway"].values() if row["enterprise_id"] == enterprise["id"]}
    return [row["id"] for row in registered["point"].values() if row["gateway_id"] in gateways]

"""Explain a figure: derive it again from what it rests on, and show the chain down to the raw rows.

Nothing is written. `agrees` says whether the figure in the table equals the one derived now; while marks wait for a
stage, or after somebody has tampered with a derived table, it does not.
"""

import json
from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from app.db import evidence, metering, ratios, revisions
from app.db.scope import Scope
from app.domain import calendar
from app.errors import Invalid
from app.pipeline import account, benchmark, rollup

# Raw readings are listed for a day or an hour; a month names its days, each of which can be explained.
MOST_READINGS = 5000
TABLES = {"hour": ("usage_hour", "hour_at"), "day": ("usage_day", "day"), "month": ("usage_month", "month")}


def usage(connection: Connection, scope: Scope, point_id: int, grain: str, start: date | datetime) -> dict[str, Any]:
    """Explain the usage of a point in one hour (its start), business day, or month (its first day)."""
    subject = evidence.point(connection, scope, point_id)
    from_at, to_at = _bounds(grain, start)
    hours = _derived_hours(connection, point_id, from_at, to_at)
    derived = sum(hours.values(), Decimal(0)) if hours else None
    table, column = TABLES[grain]
    stored = _stored(connection, table, {"point_id": point_id, column: start})
    found: dict[str, Any] = {
        **subject,
        "grain": grain,
        "start": start,
        "stored": stored,
        "derived_quantity": derived,
        "agrees": _same(None if stored is None else stored["quantity"], derived),
        "installations": evidence.installations(connection, point_id, from_at, to_at),
        "findings": evidence.findings(connection, point_id, from_at, to_at),
    }
    if grain == "month":
        found["days"] = _days(hours)
    else:
        margin = timedelta(hours=2)  # the steps at the edges begin or end with a neighbour outside
        found["readings"] = evidence.readings(connection, point_id, from_at - margin, to_at + margin, MOST_READINGS)
        found["hours"] = [{"hour_at": at, "quantity": quantity} for at, quantity in sorted(hours.items())]
    if isinstance(start, date) and not isinstance(start, datetime):
        found["revisions"] = revisions.of_figure(connection, "usage", grain, str(point_id), start)
    return found


def energy(
    connection: Connection, scope: Scope, process_unit_id: int, carrier: str, flow: str, grain: str, start: date
) -> dict[str, Any]:
    """Explain energy of a process unit, carrier and flow: points times factors."""
    if grain not in ("day", "month"):
        raise Invalid("energy is explained by day or month", detail_zh="能耗按日或月说明")
    subject = evidence.owner(connection, scope, "process_unit", process_unit_id)
    from_at, to_at = _bounds(grain, start)
    spans = [
        span
        for span in account.conversion_spans(connection, process_unit_id, [(from_at, to_at)])
        if span.carrier_key == carrier
    ]
    points: dict[tuple[int, str, str], Decimal] = defaultdict(Decimal)
    quantity, equivalent = Decimal(0), Decimal(0)
    has_factor = True
    rows = evidence.contributions(connection, process_unit_id, carrier, flow, from_at, to_at)
    for row in rows:
        points[row["point_id"], row["gateway_code"], row["code"]] += row["quantity"]
        quantity += row["quantity"]
        factor = next(s.conversion.equivalent for s in spans if s.from_at <= row["hour_at"] < s.to_at)
        has_factor = has_factor and factor is not None
        equivalent += row["quantity"] * (factor or 0)
    keys = {"process_unit_id": process_unit_id, "carrier_key": carrier, "flow": flow, grain: start}
    stored = _stored(connection, f"energy_{grain}", keys)
    derived = {
        "quantity": quantity if rows else None,
        "equivalent_kgce": equivalent if rows and has_factor else None,
    }
    return {
        **subject,
        "carrier_key": carrier,
        "flow": flow,
        "grain": grain,
        "start": start,
        "stored": stored,
        "derived": derived,
        "agrees": all(_same(None if stored is None else stored[name], value) for name, value in derived.items()),
        "points": [
            {"point_id": point_id, "gateway_code": gateway, "code": code, "quantity": amount}
            for (point_id, gateway, code), amount in points.items()
        ],
        "factors": evidence.factors(connection, carrier),
        "revisions": revisions.of_figure(connection, "energy", grain, f"{process_unit_id}:{carrier}:{flow}", start),
    }


def ratio(connection: Connection, scope: Scope, line_id: int, month: date, now: datetime) -> dict[str, Any]:
    """Explain the ratio of a line in a month: energy, output, level, and the judgement made again."""
    subject = evidence.owner(connection, scope, "production_line", line_id)
    line = ratios.line(connection, line_id)
    stored = _stored(connection, "ratio", {"line_id": line_id, "grain": "month", "period": month})
    if line is None:
        raise Invalid(f"line {line_id} has no product in the catalogue", detail_zh=f"产线 {line_id} 无产品目录")
    derived = benchmark.figures_of(connection, line, [month], now)[month]
    names = ("actual", "energy", "output", "status", "ratio", "position")
    return {
        **subject,
        "variant_key": line.variant_key,
        "month": month,
        "stored": stored,
        "derived": {name: derived[name] for name in names},
        "agrees": stored is not None and all(_same(stored[name], derived[name]) for name in names),
        "level": evidence.level(connection, derived["level_id"]),
        "outputs": evidence.output_rows(connection, line_id, month, calendar.next_month(month)),
        "energy": evidence.energy_rows(connection, line.process_unit_ids, month),
        "revisions": revisions.of_figure(connection, "ratio", "month", f"{line_id}:{line.variant_key}", month),
    }


def _bounds(grain: str, start: date | datetime) -> tuple[datetime, datetime]:
    if isinstance(start, datetime):
        return start, start + calendar.HOUR
    return calendar.day_bounds(start) if grain == "day" else calendar.month_bounds(start)


def _derived_hours(
    connection: Connection, point_id: int, from_at: datetime, to_at: datetime
) -> dict[datetime, Decimal]:
    """The hours of a stretch by the pure rules over the raw readings."""
    known = metering.extents(connection, [point_id])
    if point_id not in known:
        return {}
    meters = metering.meters(connection, [point_id])
    hours, _findings = rollup.judged(connection, [(point_id, from_at, to_at)], known, meters)
    return {hour.hour_at: hour.quantity for hour in hours[0] if hour.quantity is not None}


def _days(hours: dict[datetime, Decimal]) -> list[dict[str, Any]]:
    days: dict[date, Decimal] = defaultdict(Decimal)
    for at, quantity in hours.items():
        days[calendar.business_day(at)] += quantity
    return [{"day": day, "quantity": quantity} for day, quantity in sorted(days.items())]


def _stored(connection: Connection, table: str, keys: dict[str, object]) -> dict[str, Any] | None:
    found = evidence.stored_row(connection, table, keys)
    return None if found is None else json.loads(found["row"], parse_float=Decimal)


def _same(stored: object, derived: object) -> bool:
    """Whether a stored field equals what was derived: numbers by value, whatever their trailing zeros."""
    if isinstance(derived, Decimal) or isinstance(stored, Decimal):
        return stored is not None and derived is not None and Decimal(str(stored)) == Decimal(str(derived))
    return stored == derived or (stored is not None and derived is not None and str(stored) == str(derived))

"""Figures derived again from the raw rows by the pure rules: what an explanation holds against the tables.

Nothing is written, and no derived table is read.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection

from app.db import evidence, metering
from app.db.energy import ConversionSpan
from app.db.ratio_inputs import EnergyAsked, EnergyOfMonth, Line
from app.domain import calendar
from app.domain.accounting import Conversion, to_decimal
from app.domain.benchmark import EnergyAmount
from app.domain.metering import Judgement, Meter, UsageHour, usage_hours
from app.pipeline import account, rollup

# Six decimals of a quantity times at most twelve of a coefficient: no product is cut.
EXACT_PLACES = 24


@dataclass(frozen=True, slots=True)
class Usage:
    """A point's usage over a stretch: its meter, the judgement on its readings, and the hours that come out."""

    meter: Meter
    judgement: Judgement
    hours: tuple[UsageHour, ...]


def usage(connection: Connection, point_id: int, from_at: datetime, to_at: datetime) -> Usage | None:
    """Derive whole hours [from_at, to_at) of a point from its readings; None where nothing is known of it."""
    known = metering.extents(connection, [point_id])
    if point_id not in known:
        return None
    meters = metering.meters(connection, [point_id])
    (judgement,) = rollup.judgements(connection, [(point_id, from_at, to_at)], known, meters)
    hours = usage_hours(meters[point_id], judgement.steps, from_at, to_at)
    return Usage(meters[point_id], judgement, tuple(hours))


@dataclass(frozen=True, slots=True)
class Part:
    """What a point gave to a process unit in one hour, and what converts it."""

    point_id: int
    carrier_key: str
    unit: str
    flow: str
    usage: UsageHour
    conversion: Conversion


def parts(connection: Connection, process_unit_id: int, from_at: datetime, to_at: datetime) -> list[Part]:
    """Derive what every point gave to a process unit, hour by hour, in order of points and time."""
    carriers, tables = account.factor_tables(connection, process_unit_id)
    units = {carrier.carrier_key: carrier.unit for carrier in carriers}
    spans: dict[str, list[ConversionSpan]] = defaultdict(list)
    for span in account.conversion_spans(carriers, tables, [(from_at, to_at)]):
        spans[span.carrier_key].append(span)
    found: list[Part] = []
    for point_id, assignments in _assignments(connection, process_unit_id, from_at, to_at).items():
        derived = usage(connection, point_id, from_at, to_at)
        for hour in derived.hours if derived else ():
            owner = _owner(assignments, hour.hour_at)
            if owner is not None and owner["process_unit_id"] == process_unit_id and owner["in_boundary"]:
                carrier = owner["carrier_key"]
                conversion = next(s.conversion for s in spans[carrier] if s.from_at <= hour.hour_at < s.to_at)
                found.append(Part(point_id, carrier, units[carrier], owner["flow"], hour, conversion))
    return found


def _assignments(
    connection: Connection, process_unit_id: int, from_at: datetime, to_at: datetime
) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in evidence.assignments_at(connection, process_unit_id, from_at, to_at):
        found[row["point_id"]].append(row)
    return found


def _owner(assignments: Iterable[dict[str, Any]], hour_at: datetime) -> dict[str, Any] | None:
    """The earliest assignment that reaches into an hour: an hour is counted once and wholly."""
    reaching = [
        row
        for row in assignments
        if row["from_at"] < hour_at + calendar.HOUR and (row["to_at"] is None or row["to_at"] > hour_at)
    ]
    return min(reaching, key=lambda row: row["from_at"], default=None)


def energy_row(found: Sequence[Part]) -> dict[str, Any] | None:
    """Return the sums of parts of one carrier and flow by the columns of an energy table; None without parts.

    A conversion is known only where every hour has its factor. Feedstock is not burned: it has no CO2.
    """
    if not found:
        return None
    burned = [None if p.flow == "feedstock" else p.conversion.co2_kg for p in found]
    return {
        "quantity": sum((p.usage.quantity for p in found), Decimal(0)),
        "equivalent_kgce": _converted(found, [p.conversion.equivalent for p in found]),
        "equal_kgce": _converted(found, [p.conversion.equal for p in found]),
        "co2_kg": _converted(found, burned),
        "factor_set": " + ".join(sorted({p.conversion.factor_set for p in found})),
        "windows_received": sum(p.usage.windows_received for p in found),
        "windows_estimated": sum(p.usage.windows_estimated for p in found),
    }


def _converted(found: Sequence[Part], coefficients: Sequence[Decimal | None]) -> Decimal | None:
    total = Fraction(0)
    for part, coefficient in zip(found, coefficients, strict=True):
        if coefficient is None:
            return None
        total += Fraction(part.usage.quantity) * Fraction(coefficient)
    return to_decimal(total, EXACT_PLACES)


def energy_of_lines(connection: Connection, asked: Sequence[EnergyAsked]) -> list[dict[date, EnergyOfMonth]]:
    """Derive what `ratio_inputs.energy` reads from the tables: the indicator's energy by month."""
    return [_energy_of_line(connection, one.line, one.whole_months, one.days) for one in asked]


def _energy_of_line(
    connection: Connection, line: Line, whole_months: Sequence[date], days: Sequence[date]
) -> dict[date, EnergyOfMonth]:
    counted: dict[date, set[date] | None] = dict.fromkeys(whole_months)
    for day in days:
        chosen = counted.setdefault(calendar.month_of(day), set())
        if chosen is not None:
            chosen.add(day)
    return {
        month: _energy_of_month(found)
        for month, chosen in counted.items()
        if (found := _indicator_parts(connection, line, month, chosen))
    }


def _indicator_parts(connection: Connection, line: Line, month: date, days: set[date] | None) -> list[Part]:
    return [
        part
        for unit_id in line.process_unit_ids
        for part in parts(connection, unit_id, *calendar.month_bounds(month))
        if line.indicator.counts(part.carrier_key, part.flow)
        and (days is None or calendar.business_day(part.usage.hour_at) in days)
    ]


def _energy_of_month(found: Sequence[Part]) -> EnergyOfMonth:
    grouped: dict[tuple[str, str], list[Part]] = defaultdict(list)
    for part in found:
        grouped[part.carrier_key, part.flow].append(part)
    amounts = []
    for (carrier, flow), group in sorted(grouped.items()):
        row = energy_row(group) or {}
        sets = tuple(sorted({part.conversion.factor_set for part in group}))
        sums = (row["quantity"], row["equivalent_kgce"], row["equal_kgce"])
        amounts.append(EnergyAmount(carrier, group[0].unit, flow, *sums, factor_sets=sets))
    return EnergyOfMonth(
        amounts=tuple(amounts),
        received=sum(part.usage.windows_received for part in found),
        estimated=sum(part.usage.windows_estimated for part in found),
        factor_sets=frozenset(part.conversion.factor_set for part in found),
        has_recalled_factor=any(part.conversion.has_recalled_factor for part in found),
    )

"""Usage to energy: standard coal and CO2 of one process unit, for the hours marked stale, then its days and months."""

import itertools
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, Engine

from app.db import energy, factors, heating_values, revisions, stale
from app.db.energy import ConversionSpan
from app.domain import accounting, calendar
from app.pipeline import announce

STAGE = "account"
Stretch = tuple[datetime, datetime]


def run(engine: Engine, now: datetime) -> int:
    """Account one process unit's stale hours and mark the lines it feeds; return the marks taken, 0 when idle."""
    with engine.begin() as connection:
        claim = stale.claim(connection, STAGE)
        if claim is None:
            return 0
        factors.let_account(connection)
        revisions.begin_run(connection, now, claim.cause)
        stretches = merge((mark.from_at, mark.to_at) for mark in claim.marks)
        months = recompute(connection, claim.subject_id, stretches)
        _mark_lines(connection, claim.subject_id, months, claim.cause)
        announce.revised(connection, now)
        return len(claim.marks)


def recompute(connection: Connection, process_unit_id: int, stretches: Sequence[Stretch]) -> list[date]:
    """Recompute a unit's energy over whole-hour stretches and return the months they touch."""
    spans = conversion_spans(*factor_tables(connection, process_unit_id), stretches)
    energy.recompute_hours(connection, process_unit_id, stretches, spans)
    days = _days(stretches)
    energy.recompute_days(connection, process_unit_id, days)
    months = sorted({calendar.month_of(day) for day in days})
    energy.recompute_months(connection, process_unit_id, months)
    return months


def merge(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Return stretches widened to whole hours, sorted, with overlapping and adjacent ones joined."""
    merged: list[Stretch] = []
    for from_at, to_at in sorted(
        (calendar.hour_floor(from_at), calendar.hour_ceiling(to_at)) for from_at, to_at in stretches
    ):
        if merged and from_at <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], to_at))
        else:
            merged.append((from_at, to_at))
    return merged


def _days(stretches: Sequence[Stretch]) -> list[date]:
    days: set[date] = set()
    for from_at, to_at in stretches:
        day, last = calendar.business_day(from_at), calendar.business_day(to_at - timedelta(microseconds=1))
        while day <= last:
            days.add(day)
            day += timedelta(days=1)
    return sorted(days)


def factor_tables(
    connection: Connection, process_unit_id: int
) -> tuple[list[accounting.Carrier], accounting.FactorTables]:
    """Return a unit's carriers and the rows that convert them, of all dates."""
    carriers = energy.carriers_of(connection, process_unit_id)
    return carriers, accounting.FactorTables(
        energy.coal_factors(connection, carriers),
        energy.emission_factors(connection, carriers),
        energy.units_of_measure(connection),
        accounting.EMISSION_SETS,
        heating_values.means(connection, process_unit_id),
    )


def conversion_spans(
    carriers: Sequence[accounting.Carrier], tables: accounting.FactorTables, stretches: Sequence[Stretch]
) -> list[ConversionSpan]:
    """The coefficients of carriers over the stretches, cut at years and at the edges of rows and measured months."""
    first, last = calendar.business_day(stretches[0][0]), calendar.business_day(stretches[-1][1])
    days = [first, *sorted(accounting.cut_days(tables, first, last)), last + timedelta(days=1)]
    return [
        ConversionSpan(
            carrier.carrier_key,
            calendar.day_start(day),
            calendar.day_start(following),
            accounting.conversion_on(carrier, tables, day),
        )
        for carrier in carriers
        for day, following in itertools.pairwise(days)
    ]


def _mark_lines(connection: Connection, process_unit_id: int, months: Sequence[date], cause: str) -> None:
    bounds = [calendar.month_bounds(month) for month in months]
    stale.mark_many(
        connection,
        "benchmark",
        [
            (line_id, None, from_at, to_at)
            for line_id in energy.lines_fed_by(connection, process_unit_id)
            for from_at, to_at in bounds
        ],
        cause=cause,
    )

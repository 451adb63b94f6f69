"""Conversion factors from a CSV file: the equal values and the factor of the grid are published year by year.

Checked as a whole, with what it would compute again. What figures used is never overwritten: a row stands beside the
former ones with its own date, and one that is put right supersedes its first version.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection

from app.db import access, editions, factors
from app.db.editions import Change
from app.db.factors import CarrierSpan, Loaded, Touched
from app.domain.accounting import CoalFactor, EmissionFactor, coal_factor_on, emission_factor_of_year
from app.domain.factor_changes import changed_spans
from app.intake import edition_file, factor_check

CAUSE = "factor"


@dataclass(frozen=True, slots=True)
class FactorChange:
    """One row of the file that is not there as given, and what it alone computes again."""

    name: str
    is_correction_of_a_row: bool
    before: str | None
    after: str
    carriers: list[str]
    process_units: int
    months: int


@dataclass(frozen=True, slots=True)
class FactorReport:
    """What an import changed, or would change: rows by kind, and the months of units that are computed again."""

    table: str
    inserted: int
    superseded: int
    unchanged: int
    process_units: int
    months: int
    changes: list[FactorChange]
    is_dry_run: bool


def bring_in(connection: Connection, content: str, *, actor: str, now: datetime, is_dry_run: bool) -> FactorReport:
    """Check a CSV file and bring it in within the caller's transaction; a dry run writes nothing.

    Any bad row raises Invalid with all of them. The account stage is told which days of which units are stale.
    """
    editions.lock(connection)
    if not is_dry_run:
        factors.hold_account(connection)
    file = edition_file.parse(content, factors.TABLES, "factors")
    table, loaded = file.table, factors.loaded(connection)
    changes = editions.compare(connection, table, file.rows.values(), actor=actor)
    by_key = {editions.key_of(table, change.after): change for change in changes}
    keys = {n: tuple(getattr(row, name) for name in editions.KEYS[table]) for n, row in file.rows.items()}
    numbered = {number: by_key[key] for number, key in keys.items() if key in by_key}
    own = factor_check.breaches(table, numbered, loaded, now)
    file.refuse([*edition_file.row_breaches(table, file.rows), *own])
    stretches = touched(connection, loaded, changes)
    report = FactorReport(
        table=table,
        inserted=sum(change.before is None for change in changes),
        superseded=sum(change.before is not None for change in changes),
        unchanged=len(file.rows) - len(changes),
        process_units=len({one.process_unit_id for one in stretches}),
        months=_months(stretches),
        changes=[_described(connection, loaded, change, changes) for change in changes],
        is_dry_run=is_dry_run,
    )
    if changes and not is_dry_run:
        editions.write(connection, changes, actor=actor, now=now)
        factors.mark(connection, stretches, cause=CAUSE)
        detail = {"inserted": report.inserted, "superseded": report.superseded, "months": report.months}
        access.record(connection, actor, "factors.import", table, detail)
    return report


def touched(
    connection: Connection, loaded: Loaded, changes: Sequence[Change], *, others: Sequence[Change] = ()
) -> list[Touched]:
    """Return the months with energy that changes compute again; `others` are changes that are made anyway."""
    if loaded.days is None:
        return []
    before, after = loaded.changed(others).tables(), loaded.changed([*others, *changes]).tables()
    carriers = {one.carrier_key: one for change in changes for one in loaded.users(change.table, change.after)}
    spans = [
        CarrierSpan(key, *span)
        for key, carrier in carriers.items()
        for span in changed_spans(carrier, before, after, *loaded.days)
    ]
    return factors.touched(connection, spans)


def _months(stretches: Sequence[Touched]) -> int:
    """Months are counted once a unit, however many carriers reach them."""
    return len({(one.process_unit_id, month) for one in stretches for month in one.months})


def _described(connection: Connection, loaded: Loaded, change: Change, changes: Sequence[Change]) -> FactorChange:
    row = change.after
    stretches = touched(connection, loaded, [change], others=[one for one in changes if one is not change])
    before = _factor(change.table, change.before) if change.before else _holding(loaded, change)
    return FactorChange(
        name=" · ".join(str(value) for value in editions.key_of(change.table, row) if value is not None),
        is_correction_of_a_row=change.before is not None,
        before=_text(before) if before else None,
        after=_text(_factor(change.table, row)),
        carriers=[one.carrier_key for one in loaded.users(change.table, row)],
        process_units=len({one.process_unit_id for one in stretches}),
        months=_months(stretches),
    )


def _factor(table: str, row: Any) -> CoalFactor | EmissionFactor:
    return factors.as_emission_factor(row) if table == "emission_factor" else factors.as_coal_factor(row)


def _holding(loaded: Loaded, change: Change) -> CoalFactor | EmissionFactor | None:
    """The factor that held until the new one begins."""
    row, tables = change.after, loaded.tables()
    if change.table == "standard_coal_factor":
        return coal_factor_on(tables.coal, row["factor_key"], row["valid_from"] or date.min)
    names = (row["factor_type"], row["factor_key"], row["factor_set"])
    found = emission_factor_of_year(tables.emission, *names, row["year"] if row["year"] is not None else date.max.year)
    return found[0] if found else None


def _text(factor: CoalFactor | EmissionFactor) -> str:
    confidence = "recalled" if factor.is_recalled else "confirmed"
    if isinstance(factor, CoalFactor):
        figure = f"{factor.kgce_per_unit} kgce/{factor.unit}" if factor.kgce_per_unit is not None else "no figure"
        when = f" from {factor.valid_from}" if factor.valid_from else ""
    else:
        by_carbon = f"{factor.lhv} {factor.lhv_unit}, {factor.carbon_content_tc_per_gj} tC/GJ"
        plain = f"{factor.factor_value} {factor.factor_unit}" if factor.factor_value is not None else "no figure"
        figure = plain if factor.lhv is None else by_carbon
        when = f" of {factor.year}" if factor.year else ""
    return f"{figure}{when} ({factor.factor_set}, {confidence})"

"""Factors of standard coal and CO2 as they stand, and which energy a change of them makes stale."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from sqlalchemy import Connection, text

from app.db import editions, energy, stale
from app.db.editions import Change
from app.domain.accounting import EMISSION_SETS, Carrier, CoalFactor, EmissionFactor, FactorTables
from app.domain.calendar import day_start, next_month

TABLES = ("standard_coal_factor", "emission_factor")
_ACCOUNT_LOCK = 7_230_030


def let_account(connection: Connection) -> None:
    """Wait until no factors are coming in, and keep them out until this transaction has written its energy."""
    connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _ACCOUNT_LOCK})


def hold_account(connection: Connection) -> None:
    """Wait for the runs that read the former factors: the energy they write is then seen, and marked."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ACCOUNT_LOCK})


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rows that were not superseded, by table, and what they convert. `days`: [first, end) of all energy."""

    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    carriers: Sequence[Carrier]
    units: Mapping[str, tuple[str, Any]]
    days: tuple[date, date] | None

    def tables(self) -> FactorTables:
        """Return the rows as accounting converts by them, without measured heating values."""
        coal, emission = (self.rows[table] for table in TABLES)
        return FactorTables(
            [as_coal_factor(row) for row in coal], [as_emission_factor(row) for row in emission], self.units,
            EMISSION_SETS,
        )  # fmt: skip

    def changed(self, changes: Sequence[Change]) -> "Loaded":
        """Return the rows as they will be after changes."""
        gone = {(change.table, change.before["id"]) for change in changes if change.before is not None}
        rows = {
            table: [
                *(row for row in self.rows[table] if (table, row.get("id")) not in gone),
                *(change.after for change in changes if change.table == table),
            ]
            for table in TABLES
        }
        return replace(self, rows=rows)

    def users(self, table: str, row: Mapping[str, Any]) -> list[Carrier]:
        """Return the carriers that a row converts."""
        if table == "emission_factor":
            key = (row["factor_type"], row["factor_key"])
            return [one for one in self.carriers if (one.emission_type, one.emission_key) == key]
        return [one for one in self.carriers if row["factor_key"] in (one.equivalent_factor_key, one.equal_factor_key)]


def loaded(connection: Connection) -> Loaded:
    """Return all factors that were not superseded."""
    return Loaded(
        {table: editions.current(connection, table) for table in TABLES},
        energy.carriers(connection),
        energy.units_of_measure(connection),
        _days_with_energy(connection),
    )


def _days_with_energy(connection: Connection) -> tuple[date, date] | None:
    """Return the days [first, end) of all energy, whole months; None where there is none."""
    first, last = connection.execute(text("SELECT min(month), max(month) FROM energy_month")).one()
    return (first, next_month(last)) if first else None


def as_coal_factor(row: Mapping[str, Any]) -> CoalFactor:
    """Return a row of standard_coal_factor as accounting converts by it."""
    names = ("factor_key", "factor_set", "unit", "kgce_per_unit", "basis", "valid_from", "valid_to")
    return CoalFactor(is_recalled=row["confidence"] == "recalled", **{name: row[name] for name in names})


def as_emission_factor(row: Mapping[str, Any]) -> EmissionFactor:
    """Return a row of emission_factor as accounting converts by it."""
    names = (
        *("factor_type", "factor_key", "factor_set", "year", "factor_value", "factor_unit", "lhv", "lhv_unit"),
        *("carbon_content_tc_per_gj", "oxidation_rate_pct"),
    )
    return EmissionFactor(is_recalled=row["confidence"] == "recalled", **{name: row[name] for name in names})


@dataclass(frozen=True, slots=True)
class CarrierSpan:
    """A carrier is converted differently on the days [from_on, to_on)."""

    carrier_key: str
    from_on: date
    to_on: date


@dataclass(frozen=True, slots=True)
class Touched:
    """Months with energy of a process unit that a span reaches."""

    process_unit_id: int
    from_on: date
    to_on: date
    months: tuple[date, ...]


def touched(connection: Connection, spans: Sequence[CarrierSpan]) -> list[Touched]:
    """Return the process units and months with energy of the carriers in their spans."""
    if not spans:
        return []
    rows = connection.execute(
        text(
            "SELECT x.process_unit_id, s.from_on, s.to_on, array_agg(DISTINCT x.month ORDER BY x.month)"
            " FROM unnest(CAST(:carriers AS text[]), CAST(:froms AS date[]), CAST(:tos AS date[]))"
            "  AS s(carrier_key, from_on, to_on)"
            " JOIN energy_month x ON x.carrier_key = s.carrier_key AND x.month < s.to_on"
            "  AND x.month + interval '1 month' > s.from_on GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        ),
        {
            "carriers": [span.carrier_key for span in spans],
            "froms": [span.from_on for span in spans],
            "tos": [span.to_on for span in spans],
        },
    )
    return [Touched(unit, from_on, to_on, tuple(months)) for unit, from_on, to_on, months in rows]


def mark(connection: Connection, stretches: Sequence[Touched], *, cause: str) -> None:
    """Mark the touched days of process units for the account stage."""
    marks = [
        (
            one.process_unit_id,
            None,
            day_start(max(one.from_on, one.months[0])),
            day_start(min(one.to_on, next_month(one.months[-1]))),
        )
        for one in stretches
    ]
    stale.mark_many(connection, "account", marks, cause=cause)

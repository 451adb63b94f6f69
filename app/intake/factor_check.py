"""What is wrong with rows of conversion factors: each by its own, and against those that are there."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from app.db import factors
from app.db.editions import BUNDLED, KEYS, Change
from app.db.factors import Loaded
from app.domain.accounting import EMISSION_SETS, FACTOR_UNITS, co2_kg_per_unit, kgce_per_canonical_unit
from app.domain.calendar import business_day
from app.intake.registry_file import Breach

Row = Mapping[str, Any]
Fault = tuple[str, str]
# The figures of a row: one that the project carries without any only says that the figure is published elsewhere.
FIGURES = {
    "standard_coal_factor": ("kgce_per_unit", "kgce_min", "kgce_max", "lhv", "lhv_min", "lhv_max"),
    "emission_factor": ("factor_value", "lhv", "carbon_content_tc_per_gj", "oxidation_rate_pct"),
}
# An earlier year is a slip of the pen: no energy that is counted here is older.
FIRST_YEAR = 2000


def breaches(table: str, changes: Mapping[int, Change], loaded: Loaded, now: datetime) -> Iterator[Breach]:
    """Yield all that is wrong with rows that are not there as given, by their number in the file."""
    for number, change in changes.items():
        for column, message in _faults(change, loaded, business_day(now)):
            yield ("rows", number, column), message
    if table == "standard_coal_factor":
        yield from _claims(changes, loaded)


def _faults(change: Change, loaded: Loaded, today: date) -> Iterator[Fault]:
    row = change.after
    for name, value in row.items():
        if isinstance(value, Decimal) and value <= 0:
            yield name, f"{value} is not over zero"
    yield from _bundled(change)
    alike = [one for one in loaded.rows[change.table] if _name(change.table, one) == _name(change.table, row)]
    users = loaded.users(change.table, row)
    if not alike and not users:
        yield "factor_key", f"{' '.join(_name(change.table, row))!r} is no key of this table or of a carrier"
        return
    if change.table == "standard_coal_factor":
        yield from _coal_faults(row, alike, loaded)
    else:
        yield from _emission_faults(row, alike, loaded, today)


def _name(table: str, row: Row) -> tuple[str, ...]:
    """What carriers refer to a row by."""
    names = ("factor_type", "factor_key") if table == "emission_factor" else ("factor_key",)
    return tuple(row[name] for name in names)


def _bundled(change: Change) -> Iterator[Fault]:
    before, figures = change.before, FIGURES[change.table]
    if before is None or before["recorded_by"] != BUNDLED or all(before[name] is None for name in figures):
        return
    differing = ", ".join(name for name in change.after if change.after[name] != before[name])
    dated = KEYS[change.table][-1]
    yield (
        dated,
        (
            f"this row comes with the project and differs in {differing}: it is not overwritten;"
            f" give yours another {dated} or factor_set"
        ),
    )


def _coal_faults(row: Row, alike: list[Row], loaded: Loaded) -> Iterator[Fault]:
    if row["valid_from"] is None:
        yield "valid_from", "say from when it holds"
    bases = sorted({one["basis"] for one in alike})
    if bases and row["basis"] not in bases:
        yield "basis", f"{row['basis']!r} is not that of this key: {', '.join(bases)}"
    if row["kgce_per_unit"] is None:
        yield "kgce_per_unit", "give the figure: without one, figures would be empty from then on"
        return
    factor = factors.as_coal_factor(row)
    for one in loaded.users("standard_coal_factor", row):
        if kgce_per_canonical_unit(factor, one.unit, loaded.units) is None:
            yield "unit", f"{row['unit']!r} is not converted to {one.unit!r}, the unit of carrier {one.carrier_key}"
            return
    if row["unit"] not in {one["unit"] for one in alike} | loaded.units.keys():
        yield "unit", f"{row['unit']!r} is no unit of this key"


def _emission_faults(row: Row, alike: list[Row], loaded: Loaded, today: date) -> Iterator[Fault]:
    if row["year"] is None and any(one["year"] is not None for one in alike):
        yield "year", "say of which year the factor is"
    if row["year"] is not None and not FIRST_YEAR <= row["year"] <= today.year:
        yield "year", f"{row['year']} is no year from {FIRST_YEAR} to {today.year}"
    if row["oxidation_rate_pct"] is not None and row["oxidation_rate_pct"] > 100:
        yield "oxidation_rate_pct", f"{row['oxidation_rate_pct']} is over 100 %"
    if row["factor_type"] not in EMISSION_SETS:
        yield "factor_type", f"{row['factor_type']!r} is none of {', '.join(EMISSION_SETS)}"
    if row["factor_value"] is None and None in (row["lhv"], row["carbon_content_tc_per_gj"], row["oxidation_rate_pct"]):
        yield "factor_value", "give it, or lhv, carbon_content_tc_per_gj and oxidation_rate_pct"
        return
    factor = factors.as_emission_factor(row)
    for one in loaded.users("emission_factor", row):
        if co2_kg_per_unit(factor, one.unit) is None:
            yield "factor_unit", f"{row['factor_unit']!r} gives no CO2 per {one.unit}, the unit of {one.carrier_key}"
            return
    if row["factor_unit"] not in FACTOR_UNITS:
        yield "factor_unit", f"{row['factor_unit']!r} is none of {', '.join(FACTOR_UNITS)}"


def _claims(changes: Mapping[int, Change], loaded: Loaded) -> Iterator[Breach]:
    """Two rows of one key that hold on one day leave open which one converts.

    A row without an end holds until the next one of its key begins.
    """
    table = "standard_coal_factor"
    numbers = {tuple(change.after[name] for name in KEYS[table]): number for number, change in changes.items()}
    rows = [row for row in loaded.changed(list(changes.values())).rows[table] if row["valid_from"]]
    keys = {change.after["factor_key"] for change in changes.values()}
    mine = sorted((row for row in rows if row["factor_key"] in keys), key=lambda row: row["valid_from"])
    by_set, by_day = _grouped(mine, "factor_key", "factor_set"), _grouped(mine, "factor_key", "valid_from")
    for former, later in (pair for group in (*by_set, *by_day) for pair in pairwise(group)):
        found = _rivals(former, later)
        places = [numbers.get(tuple(row[name] for name in KEYS[table])) for row in (later, former)]
        number = next((place for place in places if place is not None), None)
        if found and number is not None:
            yield ("rows", number, "valid_from" if number == places[0] else "valid_to"), found


def _grouped(rows: list[Row], *names: str) -> list[list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(groups.values())


def _rivals(former: Row, later: Row) -> str | None:
    own_set = former["factor_set"] == later["factor_set"]
    names = (
        f"{former['factor_set']!r} from {former['valid_from']}",
        f"{later['factor_set']!r} from {later['valid_from']}",
    )
    if former["valid_from"] == later["valid_from"]:
        return None if own_set else f"{names[0]} and {names[1]} begin on one day: say from when yours holds"
    if not own_set:
        return None
    if former["valid_to"] and later["valid_from"] < former["valid_to"]:
        return (
            f"{names[0]} holds until {former['valid_to']}, {names[1]} begins before: end the one where the other begins"
        )
    is_own = former.get("recorded_by") != BUNDLED
    if former["valid_to"] is None and later["valid_to"] and is_own:
        return f"{names[0]} has no end and would hold again after {later['valid_to']}: give it a valid_to"
    return None

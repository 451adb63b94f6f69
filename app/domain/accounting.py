"""Standard coal and CO2: coefficients, signs of flows, sums. Exact; rounding happens only when a figure is shown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from app.domain.calendar import next_month

# GB/T 2589-2020: 1 kgce is 29,307 kJ of lower heating value.
KJ_PER_KGCE = 29_307
CO2_PER_CARBON = Fraction(44, 12)
# A computed coefficient is cut to so many decimals once, before it multiplies any quantity: then hours sum to days
# exactly. Twelve decimals of kgCO2 per kg leave less than a gram on a million tonnes of coal.
COEFFICIENT_PLACES = 12
# The CO2 set in use per kind of emission; sets are never mixed inside one inventory (rules, section 8).
EMISSION_SETS: Mapping[str, str] = {
    "fuel_combustion": "guideline_default",
    "heat": "guideline_default",
    "grid_electricity": "MEE/NBS average",
}


# Added to the name of a set where a measured heating value stands in for the set's own: both the annex and the CO2
# guidelines take a measured value first, so this is part of the set and no second one.
MEASURED = ", measured LHV"


class MixedFactorSets(ValueError):
    """Two factor sets for one item in one inventory; no sum is given for such a mixture."""


class Flow(StrEnum):
    """Which way energy passes the boundary of a process unit."""

    IN = "in"
    OUT = "out"
    RECOVERED = "recovered"
    FEEDSTOCK = "feedstock"


def flow_sign(flow: Flow | str, *, feedstock_counts: bool) -> int:
    """Return +1, -1 or 0: what enters counts, what leaves or is recovered is deducted (GB/T 2589-2020).

    Feedstock (energy used as raw material) counts only where the indicator says so.
    """
    sign = _SIGNS.get(flow)
    if sign is None:
        raise ValueError(f"{flow!r} is no flow: in, out, recovered or feedstock")
    return sign if flow != Flow.FEEDSTOCK or feedstock_counts else 0


_SIGNS: Mapping[str, int] = {Flow.IN: 1, Flow.OUT: -1, Flow.RECOVERED: -1, Flow.FEEDSTOCK: 1}


def coefficient_from_lhv(lhv_kj: Decimal | Fraction) -> Fraction:
    """Return kgce per unit from a measured lower heating value in kJ per unit: k = LHV / 29,307 (GB/T 2589-2020)."""
    if lhv_kj <= 0:
        raise ValueError(f"a lower heating value is positive, got {lhv_kj} kJ: check the laboratory report")
    return Fraction(lhv_kj) / KJ_PER_KGCE


def weighted_lhv_kj(lots: Iterable[tuple[Decimal, Decimal]]) -> Fraction:
    """Return the mass-weighted mean heating value of lots given as (mass, LHV in kJ per unit of mass)."""
    masses, heat = Fraction(0), Fraction(0)
    for mass, lhv_kj in lots:
        masses += Fraction(mass)
        heat += Fraction(mass) * Fraction(lhv_kj)
    if masses <= 0:
        raise ValueError("a mean heating value needs at least one lot with a positive mass")
    return heat / masses


def refuse_mixed(used: Iterable[tuple[str, str]]) -> None:
    """Raise MixedFactorSets when one item (a carrier, or a kind of emission) appears under two factor sets."""
    sets: dict[str, str] = {}
    for item, name in used:
        factor_set = name.removesuffix(MEASURED)
        if sets.setdefault(item, factor_set) != factor_set:
            raise MixedFactorSets(
                f"{item}: {sets[item]} and {factor_set} in one inventory; choose one set and recompute the rest"
            )


@dataclass(frozen=True, slots=True)
class CoalFactor:
    """A row of the standard coal table; kgce_per_unit is None where the source prints a range or a yearly value."""

    factor_key: str
    factor_set: str
    unit: str
    kgce_per_unit: Decimal | None
    basis: str
    is_recalled: bool
    valid_from: date | None = None
    valid_to: date | None = None


@dataclass(frozen=True, slots=True)
class EmissionFactor:
    """A row of the CO2 table: a fuel by its heating value, carbon and oxidation, or a plain factor of a year."""

    factor_type: str
    factor_key: str
    factor_set: str
    year: int | None
    factor_value: Decimal | None
    factor_unit: str
    is_recalled: bool
    lhv: Decimal | None = None
    lhv_unit: str | None = None
    carbon_content_tc_per_gj: Decimal | None = None
    oxidation_rate_pct: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Carrier:
    """A carrier and the rows of the two tables that convert it."""

    carrier_key: str
    unit: str
    equivalent_factor_key: str
    equal_factor_key: str | None
    emission_type: str | None
    emission_key: str | None


@dataclass(frozen=True, slots=True)
class Conversion:
    """What multiplies an amount of a carrier on a day, per canonical unit; None where no factor is loaded."""

    equivalent: Decimal | None
    equal: Decimal | None
    factor_set: str
    co2_kg: Decimal | None
    emission_set: str | None
    is_co2_provisional: bool
    has_recalled_factor: bool


# What a carrier is converted with on days that no row covers: figures stay empty instead of wrong.
NO_FACTOR_SET = "none"
# Units in which the CO2 table prints its factors: canonical unit of the carrier, kg CO2 in it per printed one.
FACTOR_UNITS: Mapping[str, tuple[str, Decimal]] = {
    "tCO2/t (= kgCO2/kg)": ("kg", Decimal(1)),
    "kgCO2/Nm3": ("m3", Decimal(1)),
    "kgCO2/kWh": ("kWh", Decimal(1)),
    "tCO2/GJ": ("MJ", Decimal(1)),
    "tCO2/TJ": ("MJ", Decimal("0.001")),
}
# Units of the heating value in the CO2 table: canonical unit of the carrier, tonnes or 1,000 m3 in one printed unit.
LHV_UNITS: Mapping[str, tuple[str, int]] = {"GJ/t": ("kg", 1), "GJ/10^4 Nm3": ("m3", 10)}


def fuel_co2_kg_per_unit(
    lhv: Decimal | Fraction, lhv_unit: str, carbon_content_tc_per_gj: Decimal, oxidation_rate_pct: Decimal
) -> Fraction:
    """Return kg CO2 per kg or m3 of a fuel: LHV x carbon content x oxidation x 44/12 (rules, section 8)."""
    per_thousand = LHV_UNITS[lhv_unit][1]
    carbon = Fraction(lhv) * Fraction(carbon_content_tc_per_gj) * Fraction(oxidation_rate_pct) / 100
    return carbon * CO2_PER_CARBON / per_thousand


def coal_factor_on(rows: Iterable[CoalFactor], factor_key: str, day: date) -> CoalFactor | None:
    """Return the row in force on a day, the latest edition first; undated rows stand behind dated ones."""
    in_force = [
        row
        for row in rows
        if row.factor_key == factor_key
        and (row.valid_from is None or row.valid_from <= day)
        and (row.valid_to is None or day < row.valid_to)
    ]
    return max(in_force, key=lambda row: (row.valid_from or date.min, row.factor_set), default=None)


def emission_factor_of_year(
    rows: Iterable[EmissionFactor], factor_type: str, factor_key: str, factor_set: str, year: int
) -> tuple[EmissionFactor, bool] | None:
    """Return the factor for a data year and whether it is provisional, or None when no year up to it is published.

    A yearly factor is that of the data year; while that is not published the latest published one stands in and is
    provisional (rules, section 8). Rows without a year apply to all.
    """
    published = [
        row
        for row in rows
        if (row.factor_type, row.factor_key, row.factor_set) == (factor_type, factor_key, factor_set)
        and (row.factor_value is not None or row.lhv is not None)
        and (row.year is None or row.year <= year)
    ]
    chosen = max(published, key=lambda row: row.year if row.year is not None else 0, default=None)
    if chosen is None:
        return None
    return chosen, chosen.year is not None and chosen.year < year


def co2_kg_per_unit(factor: EmissionFactor, unit: str) -> Decimal | None:
    """Return kg CO2 per canonical unit of a carrier, or None where the factor is stated for another unit."""
    lhv, lhv_unit, carbon = factor.lhv, factor.lhv_unit or "", factor.carbon_content_tc_per_gj
    oxidation_pct = factor.oxidation_rate_pct
    if lhv is not None and carbon is not None and oxidation_pct is not None and lhv_unit in LHV_UNITS:
        if LHV_UNITS[lhv_unit][0] != unit:
            return None
        return to_decimal(fuel_co2_kg_per_unit(lhv, lhv_unit, carbon, oxidation_pct), COEFFICIENT_PLACES)
    stated_for, kg = FACTOR_UNITS.get(factor.factor_unit, ("", Decimal(0)))
    return None if stated_for != unit or factor.factor_value is None else factor.factor_value * kg


@dataclass(frozen=True, slots=True)
class FactorTables:
    """The loaded rows that conversions are taken from; emission_sets names the one CO2 set in use per kind.

    units: unit -> (canonical unit, canonical units in one). measured: (carrier, month) -> mean lower heating value in
    kJ per canonical unit.
    """

    coal: Sequence[CoalFactor]
    emission: Sequence[EmissionFactor]
    units: Mapping[str, tuple[str, Decimal]]
    emission_sets: Mapping[str, str]
    measured: Mapping[tuple[str, date], Fraction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChosenRows:
    """The rows that convert a carrier on a day; None where none is loaded."""

    equivalent: CoalFactor | None
    equal: CoalFactor | None
    emission: EmissionFactor | None
    is_provisional: bool


def conversion_on(carrier: Carrier, tables: FactorTables, day: date) -> Conversion:
    """Return the coefficients of a carrier on a business day.

    A fuel has one coefficient, by its heating value, for both totals; a carrier whose coefficient is an equivalent
    value has an equal value only where one is loaded. A measured heating value of the month goes before the annex.
    """
    rows = rows_on(carrier, tables, day)
    found = _conversion_by_tables(rows, carrier.unit, tables.units)
    lhv_kj = tables.measured.get((carrier.carrier_key, day.replace(day=1)))
    return found if lhv_kj is None else _by_heating_value(found, rows.emission, lhv_kj)


def cut_days(tables: FactorTables, first: date, last: date) -> set[date]:
    """Return the days in (first, last] on which coefficients may change: years, edges of rows and measured months."""
    cuts = {date(year, 1, 1) for year in range(first.year, last.year + 1)}
    cuts |= {day for row in tables.coal for day in (row.valid_from, row.valid_to) if day is not None}
    cuts |= {day for _, month in tables.measured for day in (month, next_month(month))}
    return {day for day in cuts if first < day <= last}


def _by_heating_value(found: Conversion, emission: EmissionFactor | None, lhv_kj: Fraction) -> Conversion:
    """Return a conversion with a measured heating value in the place of the tables' own.

    k = LHV / 29,307 (rules, section 1). CO2 keeps the carbon content and oxidation of its set (section 8); a plain
    CO2 factor has no heating value to replace.
    """
    coefficient = to_decimal(coefficient_from_lhv(lhv_kj), COEFFICIENT_PLACES)
    known = "" if found.factor_set == NO_FACTOR_SET else found.factor_set
    measured = replace(
        found,
        equivalent=coefficient,
        equal=coefficient,
        factor_set=f"{known}{MEASURED}".removeprefix(", "),
        has_recalled_factor=False,
    )
    if emission is None or found.co2_kg is None or emission.lhv_unit is None:
        return measured
    carbon, oxidation_pct = emission.carbon_content_tc_per_gj, emission.oxidation_rate_pct
    if carbon is None or oxidation_pct is None or emission.lhv_unit not in LHV_UNITS:
        return measured
    lhv = lhv_kj * LHV_UNITS[emission.lhv_unit][1] / 1000
    co2_kg = fuel_co2_kg_per_unit(lhv, emission.lhv_unit, carbon, oxidation_pct)
    return replace(
        measured, co2_kg=to_decimal(co2_kg, COEFFICIENT_PLACES), emission_set=f"{emission.factor_set}{MEASURED}"
    )


def _conversion_by_tables(rows: ChosenRows, unit: str, units: Mapping[str, tuple[str, Decimal]]) -> Conversion:
    emission = rows.emission
    co2_kg = co2_kg_per_unit(emission, unit) if emission else None
    return Conversion(
        equivalent=kgce_per_canonical_unit(rows.equivalent, unit, units),
        equal=kgce_per_canonical_unit(rows.equal, unit, units),
        factor_set=rows.equivalent.factor_set if rows.equivalent else NO_FACTOR_SET,
        co2_kg=co2_kg,
        emission_set=emission.factor_set if emission and co2_kg is not None else None,
        is_co2_provisional=rows.is_provisional and co2_kg is not None,
        has_recalled_factor=_is_recalled(rows),
    )


def _is_recalled(rows: ChosenRows) -> bool:
    """Whether either coefficient is recalled; the annex names equal values without figures, which convert nothing."""
    equal = rows.equal if rows.equal and rows.equal.kgce_per_unit is not None else None
    return any(row is not None and row.is_recalled for row in (rows.equivalent, equal))


def rows_on(carrier: Carrier, tables: FactorTables, day: date) -> ChosenRows:
    """Return the rows that convert a carrier on a business day."""
    equivalent = coal_factor_on(tables.coal, carrier.equivalent_factor_key, day)
    equal = equivalent if equivalent and equivalent.basis == "heat value" else None
    if carrier.equal_factor_key is not None:
        equal = coal_factor_on(tables.coal, carrier.equal_factor_key, day)
    if not carrier.emission_type or not carrier.emission_key:
        return ChosenRows(equivalent, equal, None, False)
    factor_set = tables.emission_sets.get(carrier.emission_type, "")
    found = emission_factor_of_year(tables.emission, carrier.emission_type, carrier.emission_key, factor_set, day.year)
    return ChosenRows(equivalent, equal, *(found or (None, False)))


def kgce_per_canonical_unit(
    row: CoalFactor | None, unit: str, units: Mapping[str, tuple[str, Decimal]]
) -> Decimal | None:
    """Return a row's coefficient per canonical unit of a carrier, or None where it is stated for another unit."""
    if row is None or row.kgce_per_unit is None:
        return None
    if row.unit == unit:
        return row.kgce_per_unit
    canonical, per_unit = units.get(row.unit, ("", Decimal(1)))
    if canonical != unit:
        return None
    return to_decimal(Fraction(row.kgce_per_unit) / Fraction(per_unit), COEFFICIENT_PLACES)


def to_decimal(value: Fraction, places: int) -> Decimal:
    """Return a fraction as a decimal number with at most so many decimals, half to even."""
    numerator, denominator = value.numerator, value.denominator
    scaled, rest = divmod(numerator * 10**places, denominator)
    scaled += 2 * rest > denominator or (2 * rest == denominator and scaled % 2)
    if not scaled:
        return Decimal(0)
    digits = str(scaled)
    zeros = min(places, len(digits) - len(digits.rstrip("0")))
    # Built from its digits: exact at any length, where arithmetic would cut to the 28 digits of the context.
    return Decimal(f"{digits[: len(digits) - zeros]}E-{places - zeros}")

"""The official tables as the project carries them: CSV files beside this module, read and checked into typed rows.

Each row names its source and whether a public copy of it was read (`confirmed`) or the figure is from memory
(`recalled`). `edition`, `valid_from` and `valid_to` are empty where the source states none. Numbers are Decimal,
written as in the source.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

FOLDER = Path(__file__).resolve().parent
CONFIDENCES = ("confirmed", "recalled")


class ReferenceError(ValueError):
    """A reference file is not as it should be; the message names file, line and column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cited:
    """What every row of an official table says about where it comes from."""

    source: str
    confidence: str
    note: str = ""
    edition: str | None = None
    valid_from: date | None = None
    valid_to: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class District(Cited):
    """A district of the city by its GB/T 2260 code."""

    code: str
    name_zh: str
    name_en: str
    level: str
    parent_code: str | None
    group_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Industry(Cited):
    """An industry of GB/T 4754-2017 from section to class."""

    code: str
    level: str
    name_zh: str
    name_en: str
    parent_code: str | None
    two_high_label: str | None
    in_723_catalogue: str | None
    mapping_confidence: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitOfMeasure(Cited):
    """A unit on the wire. `kind` rate: canonical units in one hour. `written_as`: what a registry file writes."""

    unit: str
    written_as: str
    canonical_unit: str
    canonical_per_unit: Decimal
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier(Cited):
    """An energy carrier, its canonical unit, and the keys of its factors."""

    carrier_key: str
    name_zh: str
    name_en: str
    unit: str
    kind: str
    equivalent_factor_key: str
    equal_factor_key: str | None
    emission_type: str | None
    emission_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardCoalFactor(Cited):
    """kgce per unit, GB/T 2589 and the statistics lists; a range (kgce_min, kgce_max) needs a measured value."""

    factor_key: str
    factor_set: str
    name_zh: str
    name_en: str
    category: str
    unit: str
    kgce_per_unit: Decimal | None
    kgce_min: Decimal | None
    kgce_max: Decimal | None
    lhv: Decimal | None
    lhv_min: Decimal | None
    lhv_max: Decimal | None
    lhv_unit: str | None
    basis: str
    nbs_code: str | None
    nbs_code_confidence: str | None
    nhjc_energy_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmissionFactor(Cited):
    """CO2 factor of a fuel, of grid electricity by data year, or of heat; factor sets are never mixed."""

    factor_type: str
    factor_key: str
    factor_set: str
    year: int | None
    name_zh: str
    name_en: str
    lhv: Decimal | None
    lhv_unit: str | None
    carbon_content_tc_per_gj: Decimal | None
    oxidation_rate_pct: Decimal | None
    factor_value: Decimal | None
    factor_unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueVariant(Cited):
    """A product by a process and how its indicator is made."""

    variant_key: str
    family: str
    domain_no: int | None
    industry_code: str | None
    domain_zh: str
    domain_en: str
    product_zh: str
    product_en: str
    indicator_zh: str
    unit: str
    direction: str
    carriers: tuple[str, ...] | None
    conversion: str
    feedstock: str
    base_per_indicator_unit: Decimal
    output_kind: str
    output_unit: str
    judged_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficiencyLevel(Cited):
    """Benchmark (标杆) and baseline (基准) of a variant; a variant without a row has status unknown."""

    variant_key: str
    benchmark: Decimal | None
    baseline: Decimal | None
    referenced_standard: str
    deadline_on: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaLimit(Cited):
    """The three levels of a mandatory quota standard, kept apart from the benchmark table."""

    family: str
    industry_code: str | None
    domain_zh: str
    domain_en: str
    product_zh: str
    product_en: str
    indicator_zh: str
    unit: str
    level_1: Decimal | None
    level_2: Decimal | None
    level_3: Decimal | None
    direction: str
    standard: str
    variant_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelCorrection(Cited):
    """What a standard adds to a level per point by which a condition of the line stands off its base."""

    variant_key: str
    input_key: str
    input_zh: str
    input_en: str
    input_unit: str
    level: str
    side: str
    base: Decimal | None
    per_point: Decimal
    most_points: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTarget(Cited):
    """A target or a duty of the city's plan, of national plans, or a threshold quoted beside them."""

    target_key: str
    name_zh: str
    name_en: str
    operator: str
    value: Decimal | None
    unit: str
    direction: str
    base_year: int | None
    target_year: int | None
    period: str
    scope: str
    scope_detail: str
    energy_relevant: str
    plan_line: str
    section_zh: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """An alert rule as the service starts with it; an operator may change parameters and severity later."""

    key: str
    kind: str
    severity: str
    title_zh: str
    title_en: str
    params: dict[str, Any]
    basis: str
    is_enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUnitTier(Cited):
    """A tier of the list of key energy-using units and the annual energy use from which it begins."""

    tier: str
    at_least_tce: Decimal
    name_zh: str
    name_en: str
    managed_by_zh: str
    managed_by_en: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierClass(Cited):
    """What a carrier counts as in the city's energy structure: coal, non_fossil."""

    carrier_key: str
    counts_as: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningRuleSet(Cited):
    """Levels of early warning as an official barometer graded them; see app.domain.warning for `rules`."""

    key: str
    title_zh: str
    title_en: str
    rules: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarDay(Cited):
    """A holiday, or a weekend day that is worked in its place, as the State Council announces them year by year."""

    day: date
    is_workday: bool
    name_zh: str


Row = TypeVar("Row")


def _optional(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: convert(text) if text else None


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("expected true or false")
    return text == "true"


# By a column's type: how a cell is read, and what a cell that cannot be read should have been.
_CONVERT: dict[Any, tuple[Callable[[str], Any], str]] = {
    str: (str, "text"),
    str | None: (_optional(str), "text"),
    int | None: (_optional(int), "a whole number such as 2025, or empty"),
    Decimal: (Decimal, "a number such as 100 or -30.5"),
    Decimal | None: (_optional(Decimal), "a number such as 100 or -30.5, or empty"),
    date: (date.fromisoformat, "a date such as 2026-01-01"),
    date | None: (_optional(date.fromisoformat), "a date such as 2026-01-01, or empty"),
    bool: (_flag, "true or false"),
    tuple[str, ...] | None: (_optional(lambda text: tuple(text.split("|"))), "keys with | between them"),
    dict[str, Any]: (json.loads, "a JSON object"),
}


def read(file_name: str, row_type: type[Row], folder: Path = FOLDER) -> tuple[Row, ...]:
    """Return the rows of one CSV file; a wrong header or cell raises ReferenceError with file, line and column."""
    with (folder / file_name).open(encoding="utf-8", newline="") as handle:
        return tuple(_rows(csv.DictReader(handle), file_name, row_type))


def _rows(reader: "csv.DictReader[str]", file_name: str, row_type: type[Row]) -> Iterator[Row]:
    odd = odd_columns(reader.fieldnames or (), row_type)
    if odd:
        raise ReferenceError(f"{file_name}: columns differ from {row_type.__name__}: {', '.join(odd)}")
    for record in reader:
        values, faults = converted(record, row_type)
        if faults:
            column, message = faults[0]
            raise ReferenceError(f"{file_name} line {reader.line_num}, column {column}: {message}")
        yield row_type(**values)


def odd_columns(columns: Iterable[str], row_type: type[Any]) -> list[str]:
    """Return the columns that a table's file lacks or has too many."""
    return sorted(set(columns) ^ {field.name for field in fields(row_type)})


def converted(record: Mapping[str, str | None], row_type: type[Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the values of a CSV record by column, and what is wrong with it as (column, message)."""
    values: dict[str, Any] = {}
    faults: list[tuple[str, str]] = []
    for field in fields(row_type):
        cell = record.get(field.name)
        if cell is None:
            faults.append((field.name, "the line is too short"))
            continue
        convert, expected = _CONVERT[field.type]
        try:
            values[field.name] = convert(cell)
        except (ValueError, InvalidOperation):
            faults.append((field.name, f"{cell!r} is not {expected}"))
    if values.get("confidence", "confirmed") not in CONFIDENCES:
        faults.append(("confidence", "confidence must be confirmed or recalled"))
    return values, faults


# In the order of loading: what is referred to comes first.
FILES: dict[str, tuple[str, type[Any]]] = {
    "district": ("districts.csv", District),
    "industry": ("industries.csv", Industry),
    "unit_of_measure": ("units.csv", UnitOfMeasure),
    "carrier": ("carriers.csv", Carrier),
    "standard_coal_factor": ("standard_coal_factors.csv", StandardCoalFactor),
    "emission_factor": ("emission_factors.csv", EmissionFactor),
    "catalogue_variant": ("catalogue_variants.csv", CatalogueVariant),
    "efficiency_level": ("efficiency_levels.csv", EfficiencyLevel),
    "quota_limit": ("quota_limits.csv", QuotaLimit),
    "level_correction": ("level_corrections.csv", LevelCorrection),
    "policy_target": ("policy_targets.csv", PolicyTarget),
    "key_unit_tier": ("key_unit_tiers.csv", KeyUnitTier),
    "carrier_class": ("carrier_classes.csv", CarrierClass),
    "warning_rule_set": ("warning_rule_sets.csv", WarningRuleSet),
    "calendar_day": ("calendar_days.csv", CalendarDay),
    "rule": ("rules.csv", AlertRule),
}


@cache
def table(name: str) -> tuple[Any, ...]:
    """Return the rows of one reference table by its name in the database."""
    file_name, row_type = FILES[name]
    return read(file_name, row_type)

"""The official tables that the project carries: complete, consistent, and copied without a slip."""

import csv
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from app.reference import tables

Source = dict[str, str]


def number(text: str) -> Decimal | None:
    return Decimal(text) if text else None


@pytest.fixture
def source(reference_folder: Path) -> Callable[[str], list[Source]]:
    def read(name: str) -> list[Source]:
        with (reference_folder / name).open(encoding="utf-8-sig", newline="") as handle:
            return list(csv.DictReader(handle))

    return read


@pytest.mark.parametrize("name", tables.FILES)
def test_every_file_reads_and_is_not_empty(name: str) -> None:
    assert tables.table(name)


def test_a_wrong_cell_is_named(tmp_path: Path) -> None:
    text = (tables.FOLDER / "units.csv").read_text(encoding="utf-8").replace("MWh,MWh,kWh,1000,", "MWh,MWh,kWh,lots,")
    (tmp_path / "units.csv").write_text(text, encoding="utf-8")
    with pytest.raises(
        tables.ReferenceError, match=r"units.csv line 4, column canonical_per_unit: 'lots' is not a number"
    ):
        tables.read("units.csv", tables.UnitOfMeasure, tmp_path)


def test_districts_are_as_in_the_source(source: Callable[[str], list[Source]]) -> None:
    ours = [(r.code, r.name_zh, r.name_en, r.parent_code or "", r.confidence) for r in tables.table("district")]
    rows = source("districts.csv")
    assert ours == [(r["code"], r["name_zh"], r["name_en"], r["parent_code"], r["confidence"]) for r in rows]
    assert len([r for r in rows if r["level"] == "district"]) == 16


def test_industries_are_as_in_the_source(source: Callable[[str], list[Source]]) -> None:
    ours = [(r.code, r.name_zh, r.two_high_label or "", r.confidence) for r in tables.table("industry")]
    rows = source("industries.csv")
    assert ours == [(r["code"], r["name_zh"], r["two_high_label"], r["confidence"]) for r in rows]


def test_standard_coal_is_as_in_the_source(source: Callable[[str], list[Source]]) -> None:
    ours = {r.factor_key: r for r in tables.table("standard_coal_factor")}
    for row in source("standard_coal.csv"):
        copy = ours.pop(row["carrier_key"])
        numbers = (copy.kgce_per_unit, copy.kgce_min, copy.kgce_max, copy.lhv, copy.lhv_min, copy.lhv_max)
        columns = ("kgce_per_unit", "kgce_min", "kgce_max", "lhv_value", "lhv_min", "lhv_max")
        assert numbers == tuple(number(row[c]) for c in columns), row["carrier_key"]
        assert (copy.unit, copy.confidence, copy.source) == (row["physical_unit"], row["confidence"], row["source"])
    # The one row of ours: the list value that the note of coke oven gas states, 6.143 tce per 10^4 m3.
    assert {key: row.kgce_per_unit for key, row in ours.items()} == {"coke_oven_gas_list": Decimal("0.6143")}


def test_emission_factors_are_as_in_the_source(source: Callable[[str], list[Source]]) -> None:
    names = ("lhv", "carbon_content_tc_per_gj", "oxidation_rate_pct", "factor_value")
    ours = [
        (
            r.factor_type,
            r.factor_key,
            r.factor_set,
            r.year,
            *(getattr(r, n) for n in names),
            r.factor_unit,
            r.confidence,
        )
        for r in tables.table("emission_factor")
    ]
    columns = ("lhv", "carbon_content_tC_per_GJ", "oxidation_rate_pct", "factor_value")
    assert ours == [
        (
            *(r["factor_type"], r["key"], r["set"], int(r["year"]) if r["year"] else None),
            *(number(r[c]) for c in columns),
            *(r["factor_unit"], r["confidence"]),
        )
        for r in source("emission_factors.csv")
    ]


def test_levels_are_as_in_the_source(source: Callable[[str], list[Source]]) -> None:
    variants = {r.variant_key: r for r in tables.table("catalogue_variant")}
    ours = [
        (variants[r.variant_key].product_zh, r.benchmark, r.baseline, r.edition, str(r.deadline_on or ""), r.confidence)
        for r in tables.table("efficiency_level")
    ]
    rows = [r for r in source("efficiency_levels.csv") if r["family"] == "NDRC723"]
    # Every row of the catalogue, with or without a value; PUE; cement by its quota; output value and value added.
    assert len(variants) == len(rows) + 4
    rows = [r for r in rows if r["benchmark_level"]]
    rows += [r for r in source("efficiency_levels.csv") if r["indicator_zh"] == "PUE 标杆/基准"]
    columns = ("edition_of_value", "deadline", "confidence")
    assert ours == [
        (
            r["product_or_process_zh"],
            number(r["benchmark_level"]),
            number(r["baseline_level"]),
            *(r[c] for c in columns),
        )
        for r in rows
    ]


def test_quota_limits_are_as_in_the_source(source: Callable[[str], list[Source]]) -> None:
    ours = [
        (r.standard, r.product_zh, r.level_1, r.level_2, r.level_3, r.confidence) for r in tables.table("quota_limit")
    ]
    assert ours == [
        (
            *(r["referenced_standard"], r["product_or_process_zh"]),
            *(number(r[c]) for c in ("level_1", "level_2", "level_3")),
            r["confidence"],
        )
        for r in source("efficiency_levels.csv")
        if r["level_1"] or r["level_2"] or r["level_3"]
    ]


def test_policy_targets_are_as_in_the_source(source: Callable[[str], list[Source]]) -> None:
    ours = {r.target_key: (r.operator, r.value, r.unit, r.confidence) for r in tables.table("policy_target")}
    for row in source("policy_targets.csv"):
        assert ours.pop(row["target_key"]) == (row["operator"], number(row["value"]), row["unit"], row["confidence"])
    # The rest are the thresholds that the source keeps among the levels.
    rows = [r for r in source("efficiency_levels.csv") if r["family"] in ("POLICY", "DATA_CENTRE") and not r["level_3"]]
    values = {(number(r["benchmark_level"] or r["baseline_level"]), r["confidence"]) for r in rows}
    assert {(value, confidence) for _, value, _, confidence in ours.values()} <= values


def test_valid_from_is_only_where_the_source_states_a_date() -> None:
    stated = {
        "standard_coal_factor": {"GB/T 2589-2020": "2021-04-01"},
        "warning_rule_set": {"2021Q1": "2021-03-31", "2021H1": "2021-06-30"},  # ends of the periods they graded
        "calendar_day": {"2025": "2024-11-12", "2026": "2025-11-04"},  # days of the announcements
        "level_correction": {"GB 21256-2025": "2026-07-01"},
        "quota_limit": {"GB 21256-2025": "2026-07-01", "GB 21341-2022": "2024-01-01", "GB 40879-2021": "2022-11-01"},
    }
    for name in tables.FILES:
        for row in tables.table(name):
            dated = getattr(row, "valid_from", None)
            names = ("factor_set", "standard", "key", "edition")
            standard = next((getattr(row, n) for n in names if hasattr(row, n)), None)
            assert str(dated or "") == stated.get(name, {}).get(standard, ""), row


def test_working_days_of_2025_and_2026_add_up() -> None:
    """What the announcements count, and the law's 13 days (全国年节及纪念日放假办法, 2024): the rest is worked back."""
    for year, off, worked in ((2025, 28, 5), (2026, 33, 6)):
        days = [row for row in tables.table("calendar_day") if row.day.year == year]
        holidays = [row.day for row in days if not row.is_workday]
        back = [row.day for row in days if row.is_workday]
        assert (len(holidays), len(back)) == (off, worked)
        assert all(day.weekday() >= 5 for day in back)
        assert sum(day.weekday() < 5 for day in holidays) - len(back) == 13


def test_every_carrier_has_its_factors() -> None:
    factors = {r.factor_key: r for r in tables.table("standard_coal_factor")}
    emissions = {(r.factor_type, r.factor_key) for r in tables.table("emission_factor")}
    for carrier in tables.table("carrier"):
        factor = factors[carrier.equivalent_factor_key]
        assert factor.kgce_per_unit is not None, carrier.carrier_key
        assert (factor.unit, factor.confidence) == (carrier.unit, carrier.confidence), carrier.carrier_key
        assert carrier.equal_factor_key is None or carrier.equal_factor_key in factors
        assert carrier.emission_key is None or (carrier.emission_type, carrier.emission_key) in emissions


def test_every_carrier_can_be_written_in_its_own_unit() -> None:
    units = {(r.written_as, r.canonical_unit, r.kind) for r in tables.table("unit_of_measure")}
    for carrier in tables.table("carrier"):
        assert (carrier.unit, carrier.unit, "amount") in units, carrier.carrier_key


def test_variant_keys_follow_from_the_catalogue() -> None:
    keys = [r.variant_key for r in tables.table("catalogue_variant")]
    assert len(set(keys)) == len(keys)
    assert {
        "ndrc723-15-cement-clinker", "ndrc723-19-blast-furnace-process", "ndrc723-20-converter-bof-process",
        "ndrc723-20-eaf-ge-50-t", "ndrc723-20-eaf-30-50-t", "ndrc723-2-stamp-charging-coke-oven",
        "ndrc723-2-top-charging-coke-oven", "ndrc723-16-capacity-gt-800-t-d", "ndrc723-9-naphtha-type-feedstock",
        "ndrc723-6-membrane-liquid-caustic-ge-30", "data-centre-pue",
    } <= set(keys)  # fmt: skip
    for row in tables.table("catalogue_variant"):
        others = ("data-centre-pue", "gb16780-cement", "unit-output-value", "unit-value-added")
        assert row.variant_key in others or re.match(rf"ndrc723-{row.domain_no}-[a-z0-9-]+$", row.variant_key)


def test_confirmed_and_recalled_levels_are_told_apart() -> None:
    levels = {r.variant_key: r for r in tables.table("efficiency_level")}
    clinker, pue = levels["ndrc723-15-cement-clinker"], levels["data-centre-pue"]
    assert (clinker.benchmark, clinker.baseline, clinker.confidence) == (100, 117, "confirmed")
    assert (pue.benchmark, pue.baseline, pue.confidence) == (Decimal("1.3"), Decimal("1.5"), "recalled")
    converter = levels["ndrc723-20-converter-bof-process"]
    assert (converter.benchmark, converter.baseline) == (-30, -10)
    assert "ndrc723-27-urea" not in levels  # its value was not found: status unknown

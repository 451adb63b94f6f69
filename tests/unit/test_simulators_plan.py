"""The registry of the simulated city is complete and plausible, and its figures fall where they are meant to."""

from collections import Counter
from datetime import date
from decimal import Decimal
from functools import cache

import pytest

from simulators.credit_code import check_character, fictional_code, is_valid
from simulators.plan import EnterprisePlan, LinePlan, load_plan, registry
from simulators.truth import City, day_start_s, number_of

CITY = City(seed=1)
PLAN = load_plan()
DISTRICTS = {f"1201{code:02d}" for code in (*range(1, 7), *range(10, 20))}

# GB/T 2589-2020 Annex A and B, kgce per unit, as in the tables of the service; written here once more on purpose.
KGCE = {
    "electricity": "0.1229", "raw_coal": "0.7143", "washed_coal": "0.9", "coke": "0.9714", "fuel_oil": "1.4286",
    "steam": "0.1286", "fresh_water": "0.2571", "natural_gas": "1.33", "oxygen": "0.4",
    "blast_furnace_gas": "0.1286", "converter_gas": "0.2714",
}  # fmt: skip


@pytest.mark.parametrize("code", ["91350100M000100Y43", "91110000600037341L"])
def test_published_credit_codes_pass_and_altered_ones_do_not(code: str) -> None:
    # The example of GB 32100-2015, and a listed company's code.
    assert is_valid(code)
    assert check_character(code[:17]) == code[17]
    assert not is_valid(code[:8] + ("1" if code[8] != "1" else "2") + code[9:])
    assert not is_valid(code.lower())
    assert not is_valid(code[:17])


def test_fictional_codes_are_valid_and_differ() -> None:
    codes = [fictional_code("120116", number) for number in range(1, 200)]
    assert all(is_valid(code) for code in codes)
    assert len(set(codes)) == len(codes)


def test_the_city_covers_the_districts_and_the_products() -> None:
    assert len(PLAN) >= 24
    assert {enterprise.district_code for enterprise in PLAN} == DISTRICTS
    assert len({line.variant_key for enterprise in PLAN for line in enterprise.lines}) >= 8
    assert all(is_valid(enterprise.uscc) for enterprise in PLAN)
    for names in zip(*((e.uscc, e.gateway, e.name_zh, e.name_en) for e in PLAN), strict=True):
        assert max(Counter(names).values()) == 1


@pytest.mark.parametrize("enterprise", PLAN, ids=lambda enterprise: str(enterprise.gateway))
def test_an_enterprise_is_complete(enterprise: EnterprisePlan) -> None:
    units = {unit["code"]: unit for unit in enterprise.process_units}
    assert [unit["scope"] for unit in enterprise.process_units].count(1) == 1
    assert all(unit.get("parent") in units for unit in enterprise.process_units if unit["scope"] > 1)
    assert 1 <= len(enterprise.lines) <= 2
    assert 3 <= len(enterprise.points) <= 8
    assert len({point.code for point in enterprise.points}) == len(enterprise.points)
    for point in enterprise.points:
        assert point.process_unit in units
        assert point.rated_load > 0
        assert point.digits + point.decimals <= 15


def test_every_kind_of_meter_occurs() -> None:
    points = [point for enterprise in PLAN for point in enterprise.points]
    assert {point.signal for point in points} == {"register", "interval", "gauge"}
    assert {point.flow for point in points} == {"in", "recovered", "feedstock"}
    assert any(point.multiplier >= 8000 for point in points)
    assert any(not point.in_boundary for point in points)
    assert {point.carrier for point in points} >= {"electricity", "natural_gas", "raw_coal", "steam", "fresh_water"}


def test_the_registry_file_says_what_the_contract_asks_for() -> None:
    enterprise = registry(PLAN)["enterprises"][0]
    point = next(p for p in enterprise["gateways"][0]["points"] if p["code"] == "E101")
    assert enterprise["gateways"][0]["code"] == "gw-clinker-01"
    assert set(point) == {
        "code", "name_zh", "name_en", "carrier_key", "signal", "unit", "installations", "assignments",
    }  # fmt: skip
    assert point["installations"][0]["multiplier"] == "16000"
    assert point["assignments"][0]["expected_interval_s"] == 900


@cache
def indicator(gateway: str, code: str, year: int, month: int) -> Decimal:
    """Return kgce (data centre: kWh) per unit of output of a line over a month, by these tests' own arithmetic."""
    enterprise = next(e for e in CITY.plan if e.gateway == gateway)
    line = next(line for line in enterprise.lines if line.code == code)
    first, after = number_of(date(year, month, 1)), number_of(date(year + month // 12, month % 12 + 1, 1))
    units = {u["code"] for u in enterprise.process_units if line.process_unit in (u["code"], u.get("parent"))}
    energy = Decimal(0)
    for point in enterprise.points:
        if point.process_unit in units and point.in_boundary and point.flow != "feedstock":
            usage = CITY.usage_between(gateway, point.code, day_start_s(first), day_start_s(after))
            factor = Decimal(1) if line.output_unit == "kWh" else Decimal(KGCE[point.carrier])
            energy += usage * factor * (-1 if point.flow == "recovered" else 1)
    return energy / sum(CITY.output_of(line, day) for day in range(first, after))


MONTHS = [(2026, month) for month in range(1, 13)]


@pytest.mark.parametrize(("year", "month"), MONTHS)
def test_the_poor_kiln_is_clearly_above_its_baseline_in_every_month(year: int, month: int) -> None:
    assert Decimal("119") < indicator("gw-clinker-01", "kiln-1", year, month) < Decimal("124")


@pytest.mark.parametrize(("year", "month"), MONTHS)
def test_only_meant_lines_are_above_a_confirmed_baseline(year: int, month: int) -> None:
    baselines = {
        "ndrc723-15-cement-clinker": 117, "ndrc723-19-blast-furnace-process": 435,
        "ndrc723-20-converter-bof-process": -10, "ndrc723-2-stamp-charging-coke-oven": 140,
    }  # fmt: skip
    above = [
        (line.gateway, line.code) for line in CITY.lines
        if line.variant_key in baselines
        and indicator(line.gateway, line.code, year, month) > baselines[line.variant_key]
    ]  # fmt: skip
    assert above == [("gw-clinker-01", "kiln-1")]


def lines_of(variant_key: str) -> list[LinePlan]:
    return [line for line in CITY.lines if line.variant_key == variant_key]


def test_lines_fall_into_all_statuses() -> None:
    def figures(variant_key: str) -> list[Decimal]:
        return [indicator(line.gateway, line.code, 2026, 10) for line in lines_of(variant_key)]

    clinker, converter = figures("ndrc723-15-cement-clinker"), figures("ndrc723-20-converter-bof-process")
    assert min(clinker) < 100
    assert any(100 < figure < 102 for figure in clinker)  # near the benchmark
    assert any(102 < figure < 117 for figure in clinker)
    assert min(converter) < -30 < max(converter) < -10  # more gas and steam recovered than energy put in
    assert max(figures("ndrc723-20-eaf-ge-50-t")) > 72  # a recalled level: opens no violation
    assert 1 < min(figures("data-centre-pue")) < Decimal("1.3")
    assert Decimal("1.5") < max(figures("data-centre-pue")) < 2

"""Sections 1, 2, 8 and 11 of the calculation rules, to the digit."""

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import accounting, benchmark, rounding
from app.domain.accounting import Carrier, CoalFactor, EmissionFactor, Flow
from app.domain.benchmark import EnergyAmount, Indicator

D = Decimal
SET = "GB/T 2589-2020"


def test_mixed_lots_of_example_1_1():
    lhv = accounting.weighted_lhv_kj([(D(1200), D(21000)), (D(800), D(22500))])
    assert lhv == 21600
    assert rounding.round_places(accounting.coefficient_from_lhv(lhv), 4) == D("0.7370")


@pytest.mark.parametrize(("lhv", "k"), [("38979", "1.3300"), ("20934", "0.7143"), ("41868", "1.4286")])
def test_coefficients_of_example_1_2(lhv, k):
    assert rounding.round_places(accounting.coefficient_from_lhv(D(lhv)), 4) == D(k)


def test_a_heating_value_must_be_positive_and_a_mean_needs_mass():
    with pytest.raises(ValueError, match="positive"):
        accounting.coefficient_from_lhv(D(0))
    with pytest.raises(ValueError, match="positive mass"):
        accounting.weighted_lhv_kj([(D(0), D(21000))])


# Every carrier in its equivalent value: comprehensive energy.
WHOLE = Indicator("equivalent", None, feedstock_counts=True, base_per_unit=D(1))


def amount(carrier_key: str, flow: Flow, quantity: Decimal, kgce_per_unit: str, factor_set: str = SET) -> EnergyAmount:
    return EnergyAmount(carrier_key, "", flow, quantity, quantity * D(kgce_per_unit), None, (factor_set,))


def month(water: str = "0.2571", water_set: str = SET) -> list[EnergyAmount]:
    return [
        amount("electricity", Flow.IN, D(5_200_000), "0.1229"),
        amount("natural_gas", Flow.IN, D(310_000), "1.3300"),
        amount("raw_coal", Flow.IN, D(1_250_000), "0.7143"),
        amount("heat", Flow.IN, D(4_200_000), "0.03412"),
        amount("fresh_water", Flow.IN, D(36_000), water, water_set),
        amount("steam", Flow.OUT, D(1_000_000), "0.1286"),
    ]


def energy_kgce(*amounts: EnergyAmount) -> Fraction:
    found = benchmark.indicator_energy(WHOLE, amounts)
    assert isinstance(found, Fraction)
    return found


def test_month_of_example_2_1():
    amounts = month()
    each = [D("639080.0"), D("412300.0"), D("892875.0"), D("143304.0"), D("9255.6")]
    assert [energy_kgce(one) for one in amounts[:5]] == each
    assert energy_kgce(*amounts[:5]) == Fraction("2096814.6")
    assert energy_kgce(*amounts) == Fraction("1968214.6")


def test_month_of_example_2_1_with_the_water_value_of_2008():
    """Rules, section 12, check 2."""
    old = energy_kgce(*month("0.0857"))
    assert old == Fraction("1962044.2")
    assert energy_kgce(*month()) - old == Fraction("6170.4")


def test_example_2_2():
    electricity = amount("electricity", Flow.IN, (D(15890) - D(14250)) * 80, "0.1229")
    steam = amount("steam", Flow.IN, D("145.30") * 1000, "0.1286")
    assert electricity.quantity == 131_200
    power = energy_kgce(electricity)
    assert power == Fraction("16124.48")
    assert rounding.round_places(power / 1000, 2) == D("16.12")
    heat = energy_kgce(steam)
    assert heat / 1000 == Fraction("18.68558")
    assert rounding.round_places(heat / 1000, 2) == D("18.69")


def test_steam_by_enthalpy_of_example_2_3():
    heat = CoalFactor("heat", SET, "GJ", D("34.12"), "equivalent", is_recalled=False)
    kgce_per_mj = accounting.kgce_per_canonical_unit(heat, "MJ", {"GJ": ("MJ", D(1000))})
    assert kgce_per_mj is not None
    assert rounding.round_places((D("2800.0") - D("83.9")) / 1000 * kgce_per_mj, 4) == D("0.0927")


def test_signs_of_the_flows():
    signs = {flow: accounting.flow_sign(flow, feedstock_counts=False) for flow in Flow}
    assert signs == {Flow.IN: 1, Flow.OUT: -1, Flow.RECOVERED: -1, Flow.FEEDSTOCK: 0}
    assert accounting.flow_sign("feedstock", feedstock_counts=True) == 1
    with pytest.raises(ValueError, match="sideways"):
        accounting.flow_sign("sideways", feedstock_counts=True)


def test_two_sets_for_one_carrier_are_refused():
    mixed = [*month(), *month("0.0857", "GB/T 2589-2008")]
    assert benchmark.indicator_energy(WHOLE, mixed) is benchmark.Reason.MIXED_FACTOR_SETS
    with pytest.raises(accounting.MixedFactorSets, match="fresh_water"):
        accounting.refuse_mixed((one.carrier_key, name) for one in mixed for name in one.factor_sets)


FUELS = {
    "natural_gas": EmissionFactor(
        "fuel_combustion", "natural_gas", "guideline_default", None, D("2.1622"), "kgCO2/Nm3", False,
        D("389.31"), "GJ/10^4 Nm3", D("0.0153"), D(99),
    ),
    "bituminous": EmissionFactor(
        "fuel_combustion", "bituminous", "guideline_default", None, D("2.0715"), "tCO2/t (= kgCO2/kg)", False,
        D("23.204"), "GJ/t", D("0.02618"), D(93),
    ),
}  # fmt: skip


def grid(year: int, value: str | None) -> EmissionFactor:
    exact = None if value is None else D(value)
    return EmissionFactor("grid_electricity", "CN-120000", "MEE/NBS average", year, exact, "kgCO2/kWh", False)


GRID = [grid(2021, "0.7355"), grid(2022, "0.7041"), grid(2023, "0.6796"), grid(2024, None)]
HEAT = EmissionFactor("heat", "heat_default", "guideline_default", None, D("0.11"), "tCO2/GJ", False)


def test_co2_of_example_8_1():
    gas = accounting.co2_kg_per_unit(FUELS["natural_gas"], "m3") * 310_000 / 1000
    coal = accounting.co2_kg_per_unit(FUELS["bituminous"], "kg") * 1_250_000 / 1000
    power = accounting.co2_kg_per_unit(GRID[2], "kWh") * 5_200_000 / 1000
    heat = accounting.co2_kg_per_unit(HEAT, "MJ") * 4_200_000 / 1000
    assert rounding.round_places(gas, 4) == D("670.2785")
    assert rounding.round_places(coal, 4) == D("2589.3866")
    assert (power, heat) == (D("3533.92"), D("462"))
    assert rounding.round_places(gas + coal + power + heat, 4) == D("7255.5851")


def test_a_factor_for_another_unit_is_not_used():
    assert accounting.co2_kg_per_unit(FUELS["natural_gas"], "kg") is None
    assert accounting.co2_kg_per_unit(HEAT, "kg") is None


@pytest.mark.parametrize(
    ("year", "value", "provisional"),
    [(2021, "0.7355", False), (2022, "0.7041", False), (2023, "0.6796", False), (2024, "0.6796", True)],
)
def test_grid_factor_of_the_data_year_or_the_latest_published(year, value, provisional):
    found = accounting.emission_factor_of_year(GRID, "grid_electricity", "CN-120000", "MEE/NBS average", year)
    assert found is not None
    assert (found[0].factor_value, found[1]) == (D(value), provisional)


def test_no_grid_factor_is_invented_for_a_year_before_the_first():
    assert accounting.emission_factor_of_year(
        GRID, "grid_electricity", "CN-120000", "MEE/NBS average", 2018
    ) is None  # fmt: skip


COAL = [
    CoalFactor("electricity_equivalent", SET, "kWh", D("0.1229"), "equivalent value 当量值", False),
    CoalFactor("electricity_equal", SET, "kWh", None, "equal value 等价值", True),
    CoalFactor("raw_coal", SET, "kg", D("0.7143"), "heat value", False, date(2021, 4, 1)),
    CoalFactor("raw_coal", "GB/T 2589-2008", "kg", D("0.7100"), "heat value", True, None, date(2021, 4, 1)),
    CoalFactor("heat_equivalent", SET, "GJ", D("34.12"), "equivalent value 当量值", False),
]
UNITS = {"GJ": ("MJ", D(1000)), "kg": ("kg", D(1))}


def convert(carrier: Carrier, day: date) -> accounting.Conversion:
    rows = [*FUELS.values(), *GRID, HEAT]
    tables = accounting.FactorTables(COAL, rows, UNITS, accounting.EMISSION_SETS)
    return accounting.conversion_on(carrier, tables, day)


def test_electricity_has_no_equal_value_until_one_is_loaded():
    electricity = Carrier(
        "electricity", "kWh", "electricity_equivalent", "electricity_equal", "grid_electricity", "CN-120000"
    )
    assert convert(electricity, date(2026, 3, 1)) == accounting.Conversion(
        D("0.1229"), None, SET, D("0.6796"), "MEE/NBS average", True, False
    )


def test_a_fuel_uses_one_coefficient_for_both_totals_and_its_edition_by_date():
    coal = Carrier("raw_coal", "kg", "raw_coal", None, "fuel_combustion", "bituminous")
    now, before = convert(coal, date(2021, 4, 1)), convert(coal, date(2021, 3, 31))
    assert (now.equivalent, now.equal, now.factor_set, now.has_recalled_factor) == (
        D("0.7143"), D("0.7143"), SET, False,
    )  # fmt: skip
    assert (before.equivalent, before.factor_set, before.has_recalled_factor) == (
        D("0.7100"), "GB/T 2589-2008", True,
    )  # fmt: skip
    assert not now.is_co2_provisional
    # An edition that ended and that no other follows is no longer in force from that day on.
    ended = accounting.FactorTables(COAL[3:4], [], UNITS, accounting.EMISSION_SETS)
    found = [accounting.conversion_on(coal, ended, day).factor_set for day in (date(2021, 3, 31), date(2021, 4, 1))]
    assert found == ["GB/T 2589-2008", accounting.NO_FACTOR_SET]


def test_a_measured_heating_value_goes_before_the_annex_in_its_month_alone():
    measured = {("raw_coal", date(2026, 3, 1)): Fraction(21600), ("natural_gas", date(2026, 3, 1)): Fraction(36000)}
    tables = accounting.FactorTables(COAL, [*FUELS.values()], UNITS, accounting.EMISSION_SETS, measured)
    coal = Carrier("raw_coal", "kg", "raw_coal", None, "fuel_combustion", "bituminous")
    march, april = (accounting.conversion_on(coal, tables, date(2026, month, 1)) for month in (3, 4))
    assert rounding.round_places(Fraction(march.equivalent), 4) == D("0.7370")  # example 1.1
    assert march.equal == march.equivalent
    assert march.factor_set == f"{SET}, measured LHV"
    assert rounding.round_places(Fraction(march.co2_kg), 6) == rounding.round_places(
        Fraction("21.6") * Fraction("0.02618") * Fraction("0.93") * 44 / 12, 6
    )
    assert (april.equivalent, april.factor_set, april.emission_set) == (D("0.7143"), SET, "guideline_default")
    # Gas by volume: GJ per 10^4 m3. The annex has no row for it here; the measured value stands alone.
    gas = Carrier("natural_gas", "m3", "natural_gas", None, "fuel_combustion", "natural_gas")
    found = accounting.conversion_on(gas, tables, date(2026, 3, 31))
    assert found.factor_set == "measured LHV"
    assert rounding.round_places(Fraction(found.equivalent), 4) == D("1.2284")
    assert rounding.round_places(Fraction(found.co2_kg), 6) == rounding.round_places(
        360 * Fraction("0.0153") * Fraction("0.99") * 44 / 12 / 10, 6
    )


def test_a_measured_value_is_no_second_set():
    accounting.refuse_mixed([("raw_coal", SET), ("raw_coal", f"{SET}{accounting.MEASURED}")])
    with pytest.raises(accounting.MixedFactorSets):
        accounting.refuse_mixed([("raw_coal", "GB/T 2589-2008"), ("raw_coal", f"{SET}{accounting.MEASURED}")])


def test_a_factor_in_another_unit_is_converted_and_a_missing_one_stays_empty():
    heat = Carrier("heat", "MJ", "heat_equivalent", None, "heat", "heat_default")
    assert convert(heat, date(2026, 1, 1)).equivalent == D("0.03412")
    assert convert(heat, date(2026, 1, 1)).equal is None
    unknown = Carrier("peat", "kg", "peat", None, None, None)
    assert convert(unknown, date(2026, 1, 1)) == accounting.Conversion(
        None, None, accounting.NO_FACTOR_SET, None, None, False, False
    )


@pytest.mark.parametrize(
    ("value", "interval", "expected"),
    [
        ("12.45", "0.1", "12.4"),
        ("12.35", "0.1", "12.4"),
        ("12.350001", "0.1", "12.4"),
        ("2.5", "1", "2"),
        ("3.5", "1", "4"),
        ("15.4546", "1", "15"),
        ("-355", "10", "-360"),
        ("-325", "10", "-320"),
        ("2.675", "0.01", "2.68"),
    ],
)
def test_rounding_of_section_11(value, interval, expected):
    assert rounding.round_to(D(value), D(interval)) == D(expected)


def test_rounding_refuses_binary_floats():
    with pytest.raises(TypeError, match="binary float"):
        rounding.round_to(2.675, D("0.01"))  # type: ignore[arg-type]


@given(st.fractions(), st.integers(0, 12))
def test_a_decimal_of_a_fraction_is_the_nearest(value, places):
    found = Fraction(accounting.to_decimal(value, places))
    assert abs(found - value) <= Fraction(1, 2 * 10**places)

"""Energy and output to ratios on the real database."""

from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

from app.domain import calendar
from app.pipeline import account, benchmark
from tests.integration import accounting_city as city

D = Decimal
OCT = date(2026, 10, 1)
OCT_FROM, OCT_TO = calendar.month_bounds(OCT)
HOURS = 744


@pytest.fixture
def plant(engine):
    city.load_reference(engine)
    with engine.begin() as connection:
        return city.add_plant(connection)


def ratio(engine, plant, month=OCT):
    with engine.connect() as connection:
        row = connection.execute(
            text("SELECT * FROM ratio WHERE line_id = :l AND grain = 'month' AND period = :m"),
            {"l": plant.line_id, "m": month},
        ).mappings().first()  # fmt: skip
    return None if row is None else dict(row)


def settle(engine, plant, now=city.NOVEMBER_5, from_at=OCT_FROM, to_at=OCT_TO):
    city.mark_account(engine, plant.kiln_id, from_at, to_at)
    city.settle(engine, now)


def marks(engine, stage):
    with engine.connect() as connection:
        return connection.execute(text("SELECT count(*) FROM stale WHERE stage = :s"), {"s": stage}).scalar_one()


def test_a_month_of_clinker_over_the_baseline(engine, plant):
    with engine.begin() as connection:
        coal = city.add_point(connection, plant, "C1", "raw_coal", "kg")
        city.use_month(connection, coal, OCT, "170")
        # Clinker by the indicator's own reading leaves feedstock out; steam sold is deducted.
        steam = city.add_point(connection, plant, "S1", "steam", "kg", flow="out")
        city.use_month(connection, steam, OCT, "10")
        city.report(connection, plant, OCT, str(HOURS))
    settle(engine, plant)
    row = ratio(engine, plant)
    actual = D("170") * D("0.7143") - D("10") * D("0.1286")
    assert row["actual"] == actual == D("120.145")
    assert (row["energy"], row["output"]) == (actual * HOURS, HOURS)
    assert (row["status"], row["ratio"]) == ("below_baseline", D("1.20145"))
    assert row["position"] == round((117 - actual) / 17, 12)
    assert (row["benchmark"], row["baseline"], row["level_confidence"]) == (100, 117, "confirmed")
    assert (row["is_provisional"], row["reason"], row["factor_set"]) == (False, None, "GB/T 2589-2020")
    assert (row["windows_expected"], row["windows_received"]) == (2 * HOURS, 2 * HOURS)
    assert marks(engine, "alert") == 1


def test_a_second_run_changes_nothing_and_wakes_nobody(engine, plant):
    city.over_baseline(engine, plant)
    before = ratio(engine, plant)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM stale"))
    settle(engine, plant, city.NOVEMBER_5 + timedelta(days=1))
    assert ratio(engine, plant) == before  # computed_at too
    assert marks(engine, "alert") == 0


def test_a_converter_recovers_more_than_it_takes(engine):
    city.load_reference(engine)
    with engine.begin() as connection:
        plant = city.add_plant(connection, variant_key="ndrc723-20-converter-bof-process")
        power = city.add_point(connection, plant, "E1")
        gas = city.add_point(connection, plant, "G1", "converter_gas", "m3", flow="recovered")
        city.use_month(connection, power, OCT, "100")
        city.use_month(connection, gas, OCT, "200")
        city.report(connection, plant, OCT, str(HOURS))
    settle(engine, plant)
    row = ratio(engine, plant)
    actual = D("12.29") - D("54.28")
    assert row["actual"] == actual == D("-41.99")
    assert row["status"] == "at_benchmark"
    assert row["ratio"] == round(D(30) / D("41.99"), 12)


def test_feedstock_stays_out_of_ethylene_and_its_unit_is_oil_equivalent(engine):
    city.load_reference(engine)
    with engine.begin() as connection:
        plant = city.add_plant(connection, variant_key="ndrc723-9-naphtha-type-feedstock")
        fuel = city.add_point(connection, plant, "F1", "fuel_oil", "kg")
        feed = city.add_point(connection, plant, "N1", "naphtha", "kg", flow="feedstock")
        city.use_month(connection, fuel, OCT, "600")
        city.use_month(connection, feed, OCT, "3000")
        city.report(connection, plant, OCT, str(HOURS))
    settle(engine, plant)
    row = ratio(engine, plant)
    assert (row["actual"], row["unit"], row["status"]) == (600, "kgoe/t", "between")  # 1 kg fuel oil is 1 kgoe
    assert row["windows_expected"] == HOURS  # the feedstock meter is no part of the figure


def test_pue_on_a_month_is_for_operation_only(engine):
    city.load_reference(engine)
    with engine.begin() as connection:
        plant = city.add_plant(connection, variant_key="data-centre-pue")
        power = city.add_point(connection, plant, "E1")
        water = city.add_point(connection, plant, "W1", "fresh_water", "t water")
        city.use_month(connection, power, OCT, "130")
        city.use_month(connection, water, OCT, "1")
        connection.execute(
            text(
                "INSERT INTO output (line_id, kind, grain, period, revision, value, unit, reported_by)"
                " VALUES (:l, 'it_electricity', 'month', :m, 1, 74.4, 'MWh', 'test')"
            ),
            {"l": plant.line_id, "m": OCT},
        )
    settle(engine, plant)
    row = ratio(engine, plant)
    assert (row["actual"], row["output"], row["status"]) == (D("1.3"), 74400, "at_benchmark")
    assert (row["reason"], row["is_provisional"]) == ("judged_on_year", True)


def test_energy_of_exactly_the_days_that_have_an_output(engine, plant):
    with engine.begin() as connection:
        coal = city.add_point(connection, plant, "C1", "raw_coal", "kg")
        city.use_month(connection, coal, OCT, "140")
        for day in range(1, 31):  # the 31st is missing
            city.report(connection, plant, date(2026, 10, day), "24", grain="day")
    settle(engine, plant)
    row = ratio(engine, plant)
    assert (row["actual"], row["output"]) == (140 * D("0.7143"), 720)
    assert (row["reason"], row["is_provisional"], row["windows_expected"]) == ("missing_output_days", True, 720)
    with engine.begin() as connection:
        city.report(connection, plant, date(2026, 10, 31), "24", grain="day")
    settle(engine, plant)
    row = ratio(engine, plant)
    assert (row["output"], row["reason"], row["is_provisional"], row["windows_expected"]) == (744, None, False, 744)
    with engine.begin() as connection:  # the month's own figure goes before the days'
        city.report(connection, plant, OCT, "800")
    settle(engine, plant)
    assert ratio(engine, plant)["output"] == 800


def test_no_output_no_value(engine, plant):
    with engine.begin() as connection:
        coal = city.add_point(connection, plant, "C1", "raw_coal", "kg")
        city.use_month(connection, coal, OCT, "140")
    settle(engine, plant)
    row = ratio(engine, plant)
    assert (row["actual"], row["status"], row["reason"]) == (None, "unknown", "no_output")
    assert row["energy"] == 140 * HOURS * D("0.7143")
    with engine.begin() as connection:
        city.report(connection, plant, OCT, "0")
    settle(engine, plant)
    assert (ratio(engine, plant)["actual"], ratio(engine, plant)["reason"]) == (None, "no_output")
    with engine.begin() as connection:
        city.report(connection, plant, OCT, "5", revision=2, unit="kWh")
    settle(engine, plant)
    assert ratio(engine, plant)["reason"] == "unknown_output_unit"
    with engine.begin() as connection:
        city.report(connection, plant, OCT, "744000", revision=3, unit="kg")
    settle(engine, plant)
    assert ratio(engine, plant)["output"] == 744


def test_silent_points_lower_the_completeness_and_no_reading_is_no_figure(engine, plant):
    with engine.begin() as connection:
        coal = city.add_point(connection, plant, "C1", "raw_coal", "kg")
        city.add_point(connection, plant, "C2", "raw_coal", "kg")
        city.report(connection, plant, OCT, "744")
    settle(engine, plant)
    row = ratio(engine, plant)
    assert (row["actual"], row["status"], row["reason"], row["windows_expected"]) == (
        None, "unknown", "no_readings", 2 * HOURS,
    )  # fmt: skip
    with engine.begin() as connection:
        city.use_month(connection, coal, OCT, "170")
    settle(engine, plant)
    row = ratio(engine, plant)
    assert (row["status"], row["reason"], row["is_provisional"]) == ("below_baseline", "incomplete_readings", True)
    assert (row["windows_received"], row["windows_expected"]) == (HOURS, 2 * HOURS)


def test_an_open_month_expects_windows_up_to_now_and_closes_by_the_clock(engine, plant):
    noon = OCT_FROM + timedelta(days=9, hours=12)
    with engine.begin() as connection:
        coal = city.add_point(connection, plant, "C1", "raw_coal", "kg")
        city.use_month(connection, coal, OCT, "140", hours=9 * 24 + 12)
        city.report(connection, plant, OCT, "744")
    settle(engine, plant, noon)
    row = ratio(engine, plant)
    assert (row["windows_expected"], row["windows_received"]) == (228, 228)
    assert (row["reason"], row["is_provisional"]) == ("open_month", True)
    assert benchmark.refresh(engine, noon) > 0  # September has closed without a figure
    city.settle(engine, noon)
    assert ratio(engine, plant, date(2026, 9, 1))["reason"] == "no_output"
    benchmark.refresh(engine, city.NOVEMBER_5)
    city.settle(engine, city.NOVEMBER_5)
    row = ratio(engine, plant)
    assert (row["windows_expected"], row["reason"]) == (HOURS, "incomplete_readings")


def test_energy_of_the_units_below_counts_and_of_the_unit_above_does_not(engine, plant):
    with engine.begin() as connection:
        fan = city.one(
            connection,
            "INSERT INTO process_unit (enterprise_id, parent_id, scope, code, name_zh)"
            " VALUES (:e, :p, 4, 'fan', 'fan') RETURNING id",
            e=plant.enterprise_id, p=plant.kiln_id,
        )  # fmt: skip
        below = city.add_point(connection, plant, "C1", "raw_coal", "kg", process_unit_id=fan)
        above = city.add_point(connection, plant, "C2", "raw_coal", "kg", process_unit_id=plant.plant_id)
        city.use_month(connection, below, OCT, "100")
        city.use_month(connection, above, OCT, "100")
        city.report(connection, plant, OCT, "744")
    for unit_id in (fan, plant.plant_id):
        city.mark_account(engine, unit_id, OCT_FROM, OCT_TO)
    city.settle(engine)
    assert ratio(engine, plant)["actual"] == D("71.43")


def test_a_second_edition_in_mid_year_leaves_the_months_before_it(engine, plant):
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO efficiency_level (variant_key, benchmark, baseline, recorded_at, source, edition,"
                " confidence, valid_from) VALUES (:v, 90, 110, now(), 'test', '2026', 'confirmed', '2026-09-15')"
            ),
            {"v": city.CLINKER},
        )
    city.over_baseline(engine, plant, "160", date(2026, 9, 1))  # 114.288 kgce/t
    city.over_baseline(engine, plant, "160", OCT)
    assert ratio(engine, plant, date(2026, 9, 1))["status"] == "between"
    assert ratio(engine, plant, OCT)["status"] == "below_baseline"
    assert ratio(engine, plant, OCT)["baseline"] == 110


def test_months_before_the_line_existed_have_no_ratio(engine, plant):
    city.over_baseline(engine, plant)
    with engine.begin() as connection:
        connection.execute(text("UPDATE production_line SET from_on = '2026-11-01'"))
    settle(engine, plant)
    assert ratio(engine, plant) is None


def test_an_idle_stage_says_so(engine):
    now = datetime.now(calendar.BUSINESS_ZONE)
    assert (account.run(engine, now), benchmark.run(engine, now)) == (0, 0)

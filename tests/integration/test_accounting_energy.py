"""Usage to energy on the real database: factors, flows, sums, assignments that change, two workers."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text

from app.db import stale
from app.db.figures.energy import Question, total
from app.db.scope import CITY
from app.domain import calendar
from app.pipeline import account
from tests.integration import accounting_city as city

D = Decimal
HOUR = timedelta(hours=1)
OCT_1 = calendar.day_start(date(2026, 10, 1))


@pytest.fixture
def plant(engine: Engine) -> city.Plant:
    city.load_reference(engine)
    with engine.begin() as connection:
        return city.add_plant(connection)


def rows(engine: Engine, table: str, unit_id: int) -> list:
    with engine.connect() as connection:
        return [
            dict(row)
            for row in connection.execute(
                text(f"SELECT * FROM {table} WHERE process_unit_id = :u ORDER BY 2, 3, 4"), {"u": unit_id}
            ).mappings()
        ]


def test_the_month_of_example_2_1_and_its_co2(engine, plant):
    """Rules, examples 2.1 and 8.1: one month's amounts, each in one hour."""
    amounts = [
        ("electricity", "kWh", "in", "5200000"), ("natural_gas", "m3", "in", "310000"),
        ("raw_coal", "kg", "in", "1250000"), ("heat", "MJ", "in", "4200000"), ("fresh_water", "t water", "in", "36000"),
        ("steam", "kg", "out", "1000000"),
    ]  # fmt: skip
    with engine.begin() as connection:
        for carrier_key, unit, flow, quantity in amounts:
            point_id = city.add_point(connection, plant, carrier_key, carrier_key, unit, flow=flow)
            city.use(connection, point_id, OCT_1, [quantity])
    city.mark_account(engine, plant.kiln_id, OCT_1, OCT_1 + HOUR)
    assert account.run(engine, city.NOVEMBER_5) == 1
    found = {row["carrier_key"]: row for row in rows(engine, "energy_month", plant.kiln_id)}
    assert {key: row["equivalent_kgce"] for key, row in found.items()} == {
        "electricity": D("639080"), "natural_gas": D("412300"), "raw_coal": D("892875"), "heat": D("143304"),
        "fresh_water": D("9255.6"), "steam": D("128600"),
    }  # fmt: skip
    signed = sum(row["equivalent_kgce"] * (-1 if row["flow"] == "out" else 1) for row in found.values())
    assert signed == D("1968214.6")
    # The equal value of electricity, heat and steam is not loaded: empty, not the equivalent one.
    assert [found[key]["equal_kgce"] for key in ("electricity", "heat", "steam")] == [None] * 3
    assert found["raw_coal"]["equal_kgce"] == D("892875")
    # 2026 is not published: the latest factor (2023), marked. Fuels by the formula of section 8.
    assert found["electricity"]["co2_kg"] == D("3533920")
    assert found["electricity"]["is_co2_provisional"] is True
    assert found["electricity"]["emission_set"] == "MEE/NBS average"
    assert round(found["natural_gas"]["co2_kg"] / 1000, 4) == D("670.2785")
    assert round(found["raw_coal"]["co2_kg"] / 1000, 4) == D("2589.3866")
    assert found["heat"]["co2_kg"] == D("462000")
    assert found["raw_coal"]["is_co2_provisional"] is False
    assert found["fresh_water"]["co2_kg"] is None
    assert found["electricity"]["factor_set"] == "GB/T 2589-2020"


def test_hours_sum_to_days_and_months_exactly_and_a_second_run_changes_nothing(engine, plant):
    start = OCT_1 - 2 * HOUR  # 22:00 of 30 September in Tianjin
    with engine.begin() as connection:
        point_id = city.add_point(connection, plant, "E1")
        city.use(connection, point_id, start, ["0.333333", "0.1", "7.000001", "2"])
    city.mark_account(engine, plant.kiln_id, start, start + 4 * HOUR)
    account.run(engine, city.NOVEMBER_5)
    days = {row["day"]: row["quantity"] for row in rows(engine, "energy_day", plant.kiln_id)}
    assert days == {date(2026, 9, 30): D("0.433333"), date(2026, 10, 1): D("9.000001")}
    months = {row["month"]: row["equivalent_kgce"] for row in rows(engine, "energy_month", plant.kiln_id)}
    assert months == {date(2026, 9, 1): D("0.433333") * D("0.1229"), date(2026, 10, 1): D("9.000001") * D("0.1229")}
    before = [rows(engine, f"energy_{grain}", plant.kiln_id) for grain in ("hour", "day", "month")]
    with engine.begin() as connection:
        at = connection.execute(text("SELECT max(xmin::text::bigint) FROM energy_day")).scalar_one()
    city.mark_account(engine, plant.kiln_id, start, start + 4 * HOUR)
    account.run(engine, city.NOVEMBER_5)
    assert before == [rows(engine, f"energy_{grain}", plant.kiln_id) for grain in ("hour", "day", "month")]
    with engine.begin() as connection:  # nothing was even rewritten
        assert connection.execute(text("SELECT max(xmin::text::bigint) FROM energy_day")).scalar_one() == at


def test_usage_that_is_taken_back_leaves_no_energy(engine, plant):
    with engine.begin() as connection:
        point_id = city.add_point(connection, plant, "E1")
        city.use(connection, point_id, OCT_1, ["5", "6"])
    city.mark_account(engine, plant.kiln_id, OCT_1, OCT_1 + 2 * HOUR)
    account.run(engine, city.NOVEMBER_5)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM usage_hour WHERE hour_at = :at"), {"at": OCT_1})
    city.mark_account(engine, plant.kiln_id, OCT_1, OCT_1 + HOUR)
    account.run(engine, city.NOVEMBER_5)
    assert [row["quantity"] for row in rows(engine, "energy_day", plant.kiln_id)] == [6]
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM usage_hour"))
    city.mark_account(engine, plant.kiln_id, OCT_1, OCT_1 + 2 * HOUR)
    account.run(engine, city.NOVEMBER_5)
    assert [rows(engine, f"energy_{grain}", plant.kiln_id) for grain in ("hour", "day", "month")] == [[], [], []]


def test_only_points_inside_the_boundary_count_and_unknown_hours_lower_the_windows(engine, plant):
    with engine.begin() as connection:
        counted = city.add_point(connection, plant, "E1")
        checking = city.add_point(connection, plant, "E2", in_boundary=False)
        city.use(connection, counted, OCT_1, ["5", None])
        city.use(connection, checking, OCT_1, ["9", "9"])
    city.mark_account(engine, plant.kiln_id, OCT_1, OCT_1 + 2 * HOUR)
    account.run(engine, city.NOVEMBER_5)
    hours = rows(engine, "energy_hour", plant.kiln_id)
    assert [(row["quantity"], row["windows_expected"], row["windows_received"]) for row in hours] == [
        (5, 1, 1),
        (0, 1, 0),
    ]
    (day,) = rows(engine, "energy_day", plant.kiln_id)
    assert (day["quantity"], day["windows_expected"], day["windows_received"]) == (5, 24, 1)


def test_a_point_that_moves_counts_once_in_every_hour(engine, plant):
    """A move at 02:30: the hour belongs to the unit it began in; a start in mid-hour keeps its first part."""
    with engine.begin() as connection:
        point_id = city.add_point(connection, plant, "E1", from_at=OCT_1 + HOUR / 2, to_at=OCT_1 + 2 * HOUR + HOUR / 2)
        city.assign(connection, point_id, plant.plant_id, from_at=OCT_1 + 2 * HOUR + HOUR / 2)
        city.use(connection, point_id, OCT_1, ["1", "2", "4", "8"])
    for unit_id in (plant.kiln_id, plant.plant_id):
        city.mark_account(engine, unit_id, OCT_1, OCT_1 + 4 * HOUR)
        account.run(engine, city.NOVEMBER_5)
    assert [row["quantity"] for row in rows(engine, "energy_hour", plant.kiln_id)] == [1, 2, 4]
    assert [row["quantity"] for row in rows(engine, "energy_hour", plant.plant_id)] == [8]


def test_what_is_made_and_used_inside_is_not_counted_twice(engine, plant):
    """Power from waste heat: the kiln's recovery is deducted, the plant's use of it counts: bought power remains."""
    with engine.begin() as connection:
        for code, unit_id, flow, inside, kwh in (
            ("BUY", plant.plant_id, "in", True, "1000"),  # at the gate
            ("WHP", plant.kiln_id, "recovered", True, "500"),
            ("USE", plant.plant_id, "in", True, "400"),  # of the kiln's own power; the rest is sold
            ("FAN", plant.kiln_id, "in", False, "300"),  # behind the gate's meter
        ):
            point_id = city.add_point(connection, plant, code, process_unit_id=unit_id, flow=flow, in_boundary=inside)
            city.use(connection, point_id, OCT_1, [kwh])
    for unit_id in (plant.kiln_id, plant.plant_id):
        city.mark_account(engine, unit_id, OCT_1, OCT_1 + HOUR)
        account.run(engine, city.NOVEMBER_5)
    question = Question("month", date(2026, 10, 1), date(2026, 11, 1), plant.enterprise_id)
    with engine.connect() as connection:
        found = total(connection, CITY, question)
    # 1,000 bought less 100 that left the works: sold energy is deducted, energy used inside counts once.
    assert D(found["equivalent_kgce"]) == (1000 + 400 - 500) * D("0.1229")
    assert D(found["co2_kg"]) == 900 * D("0.6796")


def test_feedstock_has_no_combustion_and_a_missing_factor_stays_empty(engine, plant):
    before_edition = datetime(2018, 5, 1, tzinfo=UTC)
    with engine.begin() as connection:
        feed = city.add_point(connection, plant, "N1", "naphtha", "kg", flow="feedstock")
        city.use(connection, feed, OCT_1, ["1000"])
        old = city.add_point(connection, plant, "E1", from_at=datetime(2018, 1, 1, tzinfo=UTC))
        city.use(connection, old, before_edition, ["10"])
    city.mark_account(engine, plant.kiln_id, before_edition, before_edition + HOUR)
    city.mark_account(engine, plant.kiln_id, OCT_1, OCT_1 + HOUR)
    account.run(engine, city.NOVEMBER_5)
    found = {row["carrier_key"]: row for row in rows(engine, "energy_month", plant.kiln_id)}
    assert (found["naphtha"]["equivalent_kgce"], found["naphtha"]["co2_kg"]) == (1500, None)
    assert found["naphtha"]["has_recalled_factor"] is True
    # GB/T 2589-2020 is in force from 2021-04-01; nothing older is loaded for electricity.
    assert (found["electricity"]["quantity"], found["electricity"]["equivalent_kgce"]) == (10, None)
    assert found["electricity"]["factor_set"] == "none"
    assert found["electricity"]["co2_kg"] is None


def test_lines_of_the_unit_and_of_units_above_are_marked_by_month(engine, plant):
    with engine.begin() as connection:
        above = city.one(
            connection,
            "INSERT INTO production_line (process_unit_id, code, name_zh, variant_key, from_on)"
            " VALUES (:u, 'all', '全厂', :v, '2020-01-01') RETURNING id",
            u=plant.plant_id, v=city.CLINKER,
        )  # fmt: skip
        city.add_plant(connection, 2)
    city.mark_account(engine, plant.kiln_id, OCT_1 - HOUR, OCT_1 + HOUR)
    account.run(engine, city.NOVEMBER_5)
    with engine.connect() as connection:
        marks = connection.execute(
            text("SELECT subject_id, from_at, to_at FROM stale WHERE stage = 'benchmark' ORDER BY 1, 2")
        ).all()
    months = [calendar.month_bounds(date(2026, 9, 1)), calendar.month_bounds(date(2026, 10, 1))]
    assert [tuple(mark) for mark in marks] == [
        (line, *bounds) for line in sorted((plant.line_id, above)) for bounds in months
    ]


def test_a_change_between_claim_and_write_is_not_lost(engine, plant):
    """What commits after the claim's marks were taken leaves its own mark, and the next run takes it in."""
    with engine.begin() as connection:
        point_id = city.add_point(connection, plant, "E1")
        city.use(connection, point_id, OCT_1, ["5"])
    city.mark_account(engine, plant.kiln_id, OCT_1, OCT_1 + HOUR)
    with engine.begin() as first:
        claim = stale.claim(first, "account")
        account.recompute(first, claim.subject_id, [(OCT_1, OCT_1 + HOUR)])
        with engine.begin() as late:
            city.use(late, point_id, OCT_1, ["7"])
        city.mark_account(engine, plant.kiln_id, OCT_1, OCT_1 + HOUR)
        assert account.run(engine, city.NOVEMBER_5) == 0  # the subject is locked: no second worker in it
    assert account.run(engine, city.NOVEMBER_5) == 1
    assert [row["quantity"] for row in rows(engine, "energy_hour", plant.kiln_id)] == [7]


def test_two_workers_share_units_and_lose_nothing(engine, plant):
    with engine.begin() as connection:
        plants = [plant, *(city.add_plant(connection, number) for number in range(2, 8))]
        points = [city.add_point(connection, each, "E1") for each in plants]
    for turn in range(1, 4):
        with engine.begin() as connection:
            for point_id in points:
                city.use(connection, point_id, OCT_1, [str(turn)] * 24)
        for each in plants:
            city.mark_account(engine, each.kiln_id, OCT_1, OCT_1 + 24 * HOUR)

        def work() -> int:
            done = 0
            while taken := account.run(engine, city.NOVEMBER_5):
                done += taken
            return done

        with ThreadPoolExecutor(2) as pool:
            taken = [future.result() for future in [pool.submit(work), pool.submit(work)]]
        account_left = account.run(engine, city.NOVEMBER_5)
        assert sum(taken) + account_left == len(plants)
        for each in plants:
            assert [row["quantity"] for row in rows(engine, "energy_month", each.kiln_id)] == [24 * turn]

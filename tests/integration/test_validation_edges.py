"""Where validation must not be fooled: parts of sums, units, values marked bad, findings that people closed."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.domain.calendar import day_start
from tests.integration import rollup_site as site
from tests.integration.validated_site import (
    DAY,
    NOVEMBER,
    OCTOBER,
    QUARTER,
    found,
    noon_after,
    one_finding,
    read_day,
    settle,
)

ONE_DAY = timedelta(days=1)


@pytest.fixture
def plant(engine: Engine) -> site.Site:
    with engine.begin() as connection:
        return site.add_site(connection)


def of(engine: Engine, reason: str) -> list[tuple[Any, ...]]:
    """The open findings of a reason."""
    return [row for row in found(engine) if row[1] == reason]


def judge_again(engine: Engine, plant: site.Site, now: datetime) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO stale (stage, subject_id, from_at, to_at) VALUES ('validate', :g, :f, :t)"),
            {"g": plant.gateway_id, "f": day_start(DAY), "t": day_start(DAY) + ONE_DAY},
        )
    settle(engine, now)


def test_a_monthly_value_is_compared_when_the_month_is_over(engine: Engine, plant: site.Site) -> None:
    """A plan entered early as the month's value is no deviation of the days that are still to come."""
    with engine.begin() as connection:
        daily = site.add_point(connection, plant, "E001", signal="interval", interval_s=86_400)
        monthly = site.add_point(connection, plant, "M001", signal="interval", interval_s=2_592_000)
        connection.execute(
            text("UPDATE point_assignment SET checks_point_id = :d WHERE point_id = :m"), {"d": daily, "m": monthly}
        )
        days = [NOVEMBER + n * ONE_DAY for n in range(3)]
        site.insert_readings(connection, daily, [(day_start(day), 1000.0, 0) for day in days])
        site.insert_readings(connection, monthly, [(day_start(NOVEMBER), 30_000.0, 0)])
        site.mark(connection, plant, (day_start(NOVEMBER), day_start(DAY) + ONE_DAY))
    settle(engine, noon_after(DAY))
    assert of(engine, "monthly_deviation") == []
    settle(engine, noon_after(DAY) + 28 * ONE_DAY)
    assert of(engine, "monthly_deviation") == [("E001", "monthly_deviation", "month", NOVEMBER)]


def test_a_monthly_value_counts_in_its_own_unit_and_multiplier(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        daily = site.add_point(connection, plant, "E001", signal="interval", interval_s=86_400)
        monthly = site.add_point(
            connection, plant, "M001", signal="interval", unit="Wh", interval_s=2_678_400,
            installations=[{"multiplier": 10}],
        )  # fmt: skip
        connection.execute(
            text("UPDATE point_assignment SET checks_point_id = :d WHERE point_id = :m"), {"d": daily, "m": monthly}
        )
        days = [OCTOBER + n * ONE_DAY for n in range(31)]
        site.insert_readings(connection, daily, [(day_start(day), 1000.0, 0) for day in days])
        site.insert_readings(connection, monthly, [(day_start(OCTOBER), 31_000 * 100.0, 0)])
        site.mark(connection, plant, (day_start(OCTOBER), day_start(NOVEMBER)))
    settle(engine, noon_after(DAY))
    assert of(engine, "monthly_deviation") == []


def feeder_with(engine: Engine, plant: site.Site, **rises: float) -> dict[str, int]:
    """A feeder E001 that rises by 100 a quarter, and its sub-meters."""
    with engine.begin() as connection:
        points = {code: site.add_point(connection, plant, code) for code in ("E001", *rises)}
        connection.execute(
            text("UPDATE point_assignment SET parent_point_id = :f WHERE point_id <> :f"), {"f": points["E001"]}
        )
        for code, point_id in points.items():
            read_day(connection, plant, point_id, DAY, rise=rises.get(code, 100))
    return points


def test_a_sub_meter_that_feeds_back_is_deducted(engine: Engine, plant: site.Site) -> None:
    points = feeder_with(engine, plant, E011=120, E012=20)
    with engine.begin() as connection:
        connection.execute(text("UPDATE point_assignment SET flow = 'out' WHERE point_id = :p"), {"p": points["E012"]})
    settle(engine, noon_after(DAY))
    assert of(engine, "feeder_deviation") == []


def test_a_sub_meter_of_another_carrier_is_no_part_of_the_sum(engine: Engine, plant: site.Site) -> None:
    points = feeder_with(engine, plant, E011=97, G001=500)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO carrier (carrier_key, name_zh, name_en, kind, unit, equivalent_factor_key, source,"
                " confidence) SELECT k, k, k, 'secondary', 'kWh', k, 'test', 'recalled'"
                " FROM unnest(ARRAY['electricity', 'natural_gas']) AS k"
            )
        )
        connection.execute(text("UPDATE point SET carrier_key = 'electricity'"))
        connection.execute(text("UPDATE point SET carrier_key = 'natural_gas' WHERE id = :p"), {"p": points["G001"]})
    settle(engine, noon_after(DAY))
    assert of(engine, "feeder_deviation") == []


def test_a_day_on_which_a_sub_meter_came_is_not_compared(engine: Engine, plant: site.Site) -> None:
    points = feeder_with(engine, plant, E011=97, E012=50)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE point_assignment SET from_at = :at WHERE point_id = :p"),
            {"at": day_start(DAY) + timedelta(hours=12), "p": points["E012"]},
        )
    settle(engine, noon_after(DAY))
    assert of(engine, "feeder_deviation") == []
    # The next day the same meters hang there all day, and it shows that one is counted twice.
    with engine.begin() as connection:
        for code, rise in (("E001", 100.0), ("E011", 97.0), ("E012", 50.0)):
            read_day(connection, plant, points[code], DAY + ONE_DAY, first=96 * rise, rise=rise)
    settle(engine, noon_after(DAY + ONE_DAY))
    assert of(engine, "feeder_deviation") == [("E001", "feeder_deviation", "month", NOVEMBER)]
    assert one_finding(engine, "feeder_deviation")["detail"]["days"] == 1


def test_a_register_marked_bad_does_not_start_a_day(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
        start = day_start(DAY)
        rows = [(start + i * QUARTER, float(i), 2 if i == 0 else 0) for i in range(-1, 98)]
        site.insert_readings(connection, point_id, rows)
        site.mark(connection, plant, (start - timedelta(hours=1), start + ONE_DAY + timedelta(hours=1)))
    settle(engine, noon_after(DAY))
    assert of(engine, "no_day_start") == [("E001", "no_day_start", "day", DAY)]


def test_a_finding_that_a_person_closed_stays_closed_when_it_is_judged_again(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        site.add_point(connection, plant, "E001")
    settle(engine, noon_after(DAY))
    with engine.begin() as connection:
        connection.execute(text("UPDATE finding SET closed_at = now(), closed_by = 'li', note = 'works idle'"))
    closed = one_finding(engine, "incomplete")
    judge_again(engine, plant, noon_after(DAY) + timedelta(hours=1))
    assert one_finding(engine, "incomplete") == closed


def test_a_finding_that_gets_worse_keeps_its_clock(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
        read_day(connection, plant, point_id, DAY, count=80)
    settle(engine, noon_after(DAY))
    before = one_finding(engine, "incomplete")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM reading WHERE ts >= :at"), {"at": day_start(DAY) + 60 * QUARTER})
        site.mark(connection, plant, (day_start(DAY), day_start(DAY) + ONE_DAY))
    settle(engine, noon_after(DAY) + timedelta(hours=3))
    after = one_finding(engine, "incomplete")
    assert (before["detail"]["received"], after["detail"]["received"]) == (79, 59)
    assert [after[name] for name in ("id", "found_at", "due_on")] == [
        before[name] for name in ("id", "found_at", "due_on")
    ]
    assert after["detail"]["calendar"] == "weekends only"

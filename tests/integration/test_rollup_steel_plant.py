"""A year of a steel plant's readings gives the plant's energy to the last digit, in every form and order."""

import csv
import random
from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.domain.calendar import BUSINESS_ZONE, hour_floor, month_of
from tests.integration import rollup_site as site

QUARTER = timedelta(minutes=15)
YEAR_KWH = Decimal("959636.71")


@pytest.fixture(scope="module")
def intervals() -> list[tuple[datetime, Decimal]]:
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / "steel_plant_2018_15min.csv"
    if not path.is_file():
        pytest.skip("the steel plant's readings are not beside this checkout")
    with path.open() as file:
        return [
            (datetime.fromisoformat(row["interval_start"]).replace(tzinfo=BUSINESS_ZONE), Decimal(row["usage_kwh"]))
            for row in csv.DictReader(file)
        ]


def registers(intervals: list[tuple[datetime, Decimal]]) -> list[tuple[datetime, float, int]]:
    total = Decimal("1000000.00")
    rows = [(intervals[0][0], float(total), 0)]
    for at, kwh in intervals:
        total += kwh
        rows.append((at + QUARTER, float(total), 0))
    return rows


def months_of(intervals: list[tuple[datetime, Decimal]]) -> dict[date, Decimal]:
    months: dict[date, Decimal] = defaultdict(Decimal)
    for at, kwh in intervals:
        months[month_of(at.date())] += kwh
    assert sum(months.values()) == YEAR_KWH
    return months


def check(engine: Engine, point_id: int, intervals: list[tuple[datetime, Decimal]]) -> None:
    with engine.connect() as connection:
        months = site.table(connection, "usage_month", point_id)
        days = site.table(connection, "usage_day", point_id)
        hours = site.table(connection, "usage_hour", point_id)
        assert site.findings(connection, point_id) == set()
    assert {month: row[0] for month, row in months.items()} == months_of(intervals)
    assert sum(row[0] for row in days.values()) == sum(row[0] for row in hours.values()) == YEAR_KWH
    assert len(hours) == 8760
    assert {row[1:] for row in hours.values()} == {(4, 4, 0)}
    assert {row[1:] for row in days.values()} == {(96, 96, 0)}


def hour_marks(rows: list[tuple[datetime, float, int]]) -> list[tuple[datetime, datetime]]:
    hours = sorted({hour_floor(at) for at, _, _ in rows})
    return [(hour, hour + timedelta(hours=1)) for hour in hours]


@pytest.mark.parametrize("rated_load", [None, 800], ids=["unrated", "rated"])
def test_cumulative_register(engine: Engine, intervals: list[tuple[datetime, Decimal]], rated_load: int | None) -> None:
    rows = registers(intervals)
    with engine.begin() as connection:
        plant = site.add_site(connection)
        point_id = site.add_point(connection, plant, "E001", installations=[{"rated_load": rated_load}])
        site.insert_readings(connection, point_id, rows)
        site.mark(connection, plant, *hour_marks(rows))
    site.roll_up(engine)
    check(engine, point_id, intervals)


def test_shuffled_in_several_claims(engine: Engine, intervals: list[tuple[datetime, Decimal]]) -> None:
    rows = registers(intervals)
    random.Random(2018).shuffle(rows)
    with engine.begin() as connection:
        plant = site.add_site(connection)
        point_id = site.add_point(connection, plant, "E001")
    for part in range(4):
        with engine.begin() as connection:
            site.insert_readings(connection, point_id, rows[part::4])
            site.mark(connection, plant, *hour_marks(rows[part::4]))
        site.roll_up(engine)
    check(engine, point_id, intervals)


def test_interval_signal(engine: Engine, intervals: list[tuple[datetime, Decimal]]) -> None:
    rows = [(at, float(kwh), 0) for at, kwh in intervals]
    with engine.begin() as connection:
        plant = site.add_site(connection)
        point_id = site.add_point(connection, plant, "E001", signal="interval")
        site.insert_readings(connection, point_id, rows)
        site.mark(connection, plant, *hour_marks(rows))
    site.roll_up(engine)
    check(engine, point_id, intervals)

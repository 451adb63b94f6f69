"""A meter exchanged inside an interval is read as often as any other: no window more is expected, none is missing."""

from datetime import date, timedelta

import pytest
from sqlalchemy import Engine, text

from app.db import gaps
from app.db import metering as metering_db
from app.domain import calendar
from app.domain.metering import windows_in_service
from app.pipeline import account, benchmark
from tests.integration import accounting_city as city

OCT = date(2026, 10, 1)
DAY = calendar.day_bounds(OCT)
HOURS = 744


@pytest.fixture
def plant(engine: Engine) -> city.Plant:
    """A kiln whose one meter, read every hour, was exchanged on 1 October at half past ten."""
    city.load_reference(engine)
    exchanged_at = DAY[0] + timedelta(hours=10, minutes=30)
    with engine.begin() as connection:
        made = city.add_plant(connection)
        point_id = city.add_point(connection, made, "COAL", "raw_coal", "kg")
        connection.execute(text("UPDATE meter_installation SET to_at = :at"), {"at": exchanged_at})
        connection.execute(
            text("INSERT INTO meter_installation (point_id, from_at, serial) VALUES (:p, :at, 'S2')"),
            {"p": point_id, "at": exchanged_at},
        )
        city.report(connection, made, OCT, str(city.use_month(connection, point_id, OCT, "150")))
    city.mark_account(engine, made.kiln_id, *calendar.month_bounds(OCT))
    return made


def test_every_count_of_windows_is_that_of_one_meter(engine: Engine, plant: city.Plant) -> None:
    while account.run(engine, city.NOVEMBER_5) or benchmark.run(engine, city.NOVEMBER_5):
        pass
    with engine.connect() as connection:
        (meter,) = metering_db.meters(connection, [1]).values()
        ledger = gaps.ledger(connection, plant.gateway_id, OCT, OCT + timedelta(days=1), city.NOVEMBER_5)
        energy = "SELECT windows_expected FROM energy_{0} ORDER BY {0} LIMIT 1"
        assert windows_in_service(meter, *DAY) == 24
        assert [row["windows_expected"] for row in ledger] == [24]
        assert connection.execute(text(energy.format("day"))).scalar_one() == 24
        assert connection.execute(text(energy.format("month"))).scalar_one() == HOURS
        ratio = "SELECT windows_expected FROM ratio WHERE grain = 'month' AND period = :m"
        assert connection.execute(text(ratio), {"m": OCT}).scalar_one() == HOURS

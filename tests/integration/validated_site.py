"""Days of a gateway's points and what validation says of them, for its tests."""

from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from app.domain.calendar import day_start
from app.pipeline import rollup, validate
from tests.integration import rollup_site as site

QUARTER = timedelta(minutes=15)
DAY = date(2026, 11, 3)  # a Tuesday
OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)


def noon_after(day: date) -> datetime:
    """Return when a day is published and judged."""
    return day_start(day) + timedelta(hours=36)


def read_day(
    connection: Connection, plant: site.Site, point_id: int, day: date, *, first: float = 0, rise: float = 1,
    count: int = 97, start: int = 0,
) -> None:  # fmt: skip
    """Registers of a day, a quarter apart; the last is the next day's first. What is there already stays."""
    start_at = day_start(day)
    rows = [(start_at + i * QUARTER, first + rise * i, 0) for i in range(start, count)]
    known = set(connection.execute(text("SELECT ts FROM reading WHERE point_id = :p"), {"p": point_id}).scalars())
    site.insert_readings(connection, point_id, [row for row in rows if row[0] not in known])
    site.mark(connection, plant, (start_at, start_at + timedelta(days=1, hours=1)))


def settle(engine: Engine, now: datetime) -> None:
    """Roll up and validate until there is nothing to do at an instant."""
    while rollup.run(engine, now) or validate.watch(engine, now) or validate.run(engine, now):
        pass


def found(engine: Engine, *, is_open: bool = True) -> list[tuple[Any, ...]]:
    """Return (point, reason, grain, day) of findings."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT p.code, f.reason, f.grain, (f.from_at AT TIME ZONE 'Asia/Shanghai')::date FROM finding f"
                " LEFT JOIN point p ON p.id = f.point_id WHERE (f.closed_at IS NULL) = :o ORDER BY 4, 2, 1"
            ),
            {"o": is_open},
        )
        return [tuple(row) for row in rows]


def one_finding(engine: Engine, reason: str) -> dict[str, Any]:
    """Return the only finding of a reason."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM finding WHERE reason = :r"), {"r": reason}).mappings().all()
    assert len(rows) == 1, rows
    return dict(rows[0])

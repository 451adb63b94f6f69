"""A reading that comes six months late.

A register's inside a gap changes the split, not the total and nothing else; an interval's changes its own hour, day and
every period around them, and nothing else.
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from app.db import revisions, stale
from app.db.figures import energy as energy_figures
from app.db.figures import usage as usage_figures
from app.db.figures.energy import Question
from app.db.scope import CITY
from app.domain import calendar
from app.pipeline import benchmark
from tests.integration import explained_city as day
from tests.integration.explained_city import DAY, MONTH, Explained

NEXT_MONTH = calendar.next_month(MONTH)
SAME_EVENING = calendar.day_bounds(DAY)[1] + timedelta(hours=1)
CLOSED = datetime(2026, 11, 2, tzinfo=UTC)
LATE = datetime(2027, 4, 9, tzinfo=UTC)
BEFORE = LATE - timedelta(days=1)
QUARTER = timedelta(minutes=15)
TABLES = ("usage_hour", "usage_day", "usage_month", "energy_hour", "energy_day", "energy_month", "ratio")


@pytest.fixture
def made(engine: Engine) -> Explained:
    """The day came in time, and the month was closed before it was published."""
    plant = day.build(engine, SAME_EVENING)
    benchmark.refresh(engine, CLOSED)
    day.settle(engine, CLOSED)
    return plant


def _all(connection: Connection) -> dict[tuple[str, str], dict[str, Any]]:
    keys = {"usage": "point_id", "energy": "process_unit_id, carrier_key, flow", "ratio": "line_id, grain"}
    found = {}
    for table in TABLES:
        kind = table.split("_", maxsplit=1)[0]
        period = {"hour": "hour_at", "day": "day", "month": "month"}.get(table.removeprefix(f"{kind}_"), "period")
        statement = f"SELECT concat_ws(':', {keys[kind]}, {period}) AS key, t.* FROM {table} t"
        for row in connection.execute(text(statement)).mappings():
            found[table, row["key"]] = {k: v for k, v in row.items() if k != "computed_at"}
    return found


def _deliver(engine: Engine, made: Explained, rows: list[tuple[datetime, float]]) -> None:
    with engine.begin() as connection:
        for at, value in rows:
            connection.execute(
                text("INSERT INTO reading (ts, point_id, value, quality, receipt_id) VALUES (:at, :p, :v, 0, 1)"),
                {"at": at, "p": made.power_id, "v": value},
            )
        stale.mark(connection, "rollup", made.plant.gateway_id, *day.GAP, cause="reading")
    day.settle(engine, LATE)


def test_one_reading_changes_only_the_split_inside_the_gap(engine: Engine, made: Explained) -> None:
    with engine.connect() as connection:
        before = _all(connection)
        assert connection.execute(text("SELECT count(*) FROM figure_revision")).scalar_one() == 0
    _deliver(engine, made, [(day.at("09:00"), 134)])  # of 132 to 144: it ran slower before nine than after
    with engine.connect() as connection:
        after = _all(connection)
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        # Two long steps instead of one: no more is measured than before, so no day and no month is another one.
        assert {table for table, _ in changed} == {"usage_hour", "energy_hour"}
        quantities = {after[key]["hour_at"]: after[key]["quantity"] for key in changed if key[0] == "usage_hour"}
        assert quantities == {day.at("08:00"): 160, day.at("09:00"): 400, day.at("10:00"): 400}
        assert connection.execute(text("SELECT count(*) FROM figure_revision")).scalar_one() == 0
        _sums_hold(connection, made)


def test_the_whole_gap_delivered_leaves_revisions_whose_quantity_is_the_same(engine: Engine, made: Explained) -> None:
    with engine.connect() as connection:
        before = _all(connection)
    _deliver(engine, made, [(at, 132 + n) for n in range(1, 12) if (at := day.at("08:00") + n * QUARTER)])
    with engine.connect() as connection:
        after = _all(connection)
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert {after[key]["hour_at"] for key in changed if key[0] == "usage_hour"} == {
            day.at("08:00"), day.at("09:00"), day.at("10:00"),
        }  # fmt: skip
        assert all(before[key].get("quantity") == after[key].get("quantity") for key in changed)
        assert all(
            str(made.plant.plant_id) != key[1].split(":", maxsplit=1)[0] for key in changed if "energy" in key[0]
        )
        _sums_hold(connection, made)
        for grain, start in (("day", DAY), ("month", MONTH)):
            kept = revisions.of_figure(connection, "usage", grain, str(made.power_id), start)
            told = [(row["revision"], row["value"]["windows_received"], row["cause"]) for row in kept]
            received = before[f"usage_{grain}", f"{made.power_id}:{start}"]["windows_received"]
            assert told == [(0, received, "published"), (1, received + 12, "reading")]
            assert kept[1]["recorded_at"] == LATE
        asked = (connection, [made.power_id], "month", MONTH, NEXT_MONTH)
        (step, now) = (usage_figures.series(*asked, at)[made.power_id].steps[MONTH] for at in (BEFORE, LATE))
        assert (now.windows_estimated, step.windows_estimated) == (4, 16)  # of a disputed and of a manual value
        kinds = connection.execute(
            text("SELECT payload::jsonb->'data'->'kinds'->>0 FROM event WHERE kind = 'figure.revised' ORDER BY 1")
        ).scalars()
        assert list(kinds) == ["energy", "ratio", "usage"]


def test_an_interval_changes_its_hour_and_the_periods_that_contain_it_and_nothing_else(engine: Engine) -> None:
    late_at, late_kg = day.at("10:00"), Decimal("180.5")
    made = day.build(engine, SAME_EVENING)
    with engine.begin() as connection:  # it has not come yet
        connection.execute(
            text("DELETE FROM reading WHERE point_id = :p AND ts = :at"), {"p": made.coal_id, "at": late_at}
        )
        stale.mark(connection, "rollup", made.plant.gateway_id, late_at, late_at + timedelta(hours=1), cause="reading")
    day.settle(engine, SAME_EVENING)
    benchmark.refresh(engine, CLOSED)
    day.settle(engine, CLOSED)
    with engine.connect() as connection:
        before = _all(connection)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO reading (ts, point_id, value, quality, receipt_id) VALUES (:at, :p, :v, 0, 1)"),
            {"at": late_at, "p": made.coal_id, "v": late_kg},
        )
        stale.mark(connection, "rollup", made.plant.gateway_id, late_at, late_at + timedelta(hours=1), cause="reading")
    day.settle(engine, LATE)
    with engine.connect() as connection:
        after = _all(connection)
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        coal, kiln, line = str(made.coal_id), f"{made.plant.kiln_id}:raw_coal:in", str(made.plant.line_id)
        hour_at, quarter, year = str(late_at.strftime("%F %T")), date(2026, 10, 1), date(2026, 1, 1)
        periods = [(hour_at, "hour"), (str(DAY), "day"), (str(MONTH), "month")]
        wanted = {(f"{kind}_{grain}", f"{key}:{start}") for kind, key in (("usage", coal), ("energy", kiln))
                  for start, grain in periods}  # fmt: skip
        wanted |= {("ratio", f"{line}:{grain}:{period}") for grain, period in
                   (("month", MONTH), ("quarter", quarter), ("year", year))}  # fmt: skip
        assert {(table, key.replace("+00", "")) for table, key in changed} == wanted
        added = {
            key: after[key]["quantity"] - (before[key]["quantity"] if key in before else 0)
            for key in changed
            if key[0].startswith(("usage", "energy"))
        }
        assert set(added.values()) == {late_kg}
        for grain, start in (("day", DAY), ("month", MONTH)):
            for kind, key in (("usage", coal), ("energy", kiln)):
                kept = revisions.of_figure(connection, kind, grain, key, start)
                assert [(row["revision"], row["cause"]) for row in kept] == [(0, "published"), (1, "reading")]
                assert kept[1]["value"]["quantity"] - kept[0]["value"]["quantity"] == late_kg
        ratios = connection.execute(
            text("SELECT revision, cause FROM figure_revision WHERE kind = 'ratio' ORDER BY revision")
        )
        assert [tuple(row) for row in ratios] == [(0, "published"), (1, "reading")]
        assert connection.execute(text("SELECT count(*) FROM figure_revision")).scalar_one() == 10
        for question in (Question("day", DAY, DAY + timedelta(days=1)), Question("month", MONTH, NEXT_MONTH)):
            then = energy_figures.total(connection, CITY, replace(question, as_of=BEFORE))
            now = energy_figures.total(connection, CITY, question)
            difference = Decimal(now["equivalent_kgce"]) - Decimal(then["equivalent_kgce"])
            assert difference == late_kg * Decimal("0.7143")
            assert energy_figures.total(connection, CITY, replace(question, as_of=LATE)) == now


def _sums_hold(connection: Connection, made: Explained) -> None:
    for table in ("usage_hour", "usage_day", "usage_month"):
        total = connection.execute(
            text(f"SELECT sum(quantity) FROM {table} WHERE point_id = :p"), {"p": made.power_id}
        ).scalar_one()
        assert total == Decimal("48.5") * 80 + 48 * 120
    city, enterprise = (
        energy_figures.total(connection, CITY, Question("month", MONTH, NEXT_MONTH, enterprise_id))
        for enterprise_id in (None, made.plant.enterprise_id)
    )
    assert city == enterprise

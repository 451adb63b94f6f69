"""Whatever runs write to a published figure: the last revision is the table, `as_of` is what stood then."""

import itertools
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from app.db import engine as engine_module
from app.db import revisions
from app.db.figures import usage
from app.domain.calendar import day_published_at
from deploy.local.postgres import Postgres
from tests.conftest import TEMPLATE

DAY = date(2026, 10, 10)
PUBLISHED_AT = day_published_at(DAY)
POINTS = itertools.count(1)
Run = tuple[int, list[int | None]]
# Hours from 3 before to 6 after the publication, each with what one run writes, one after another; None deletes.
RUNS = st.lists(
    st.tuples(st.integers(-3, 6), st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=1, max_size=3)),
    max_size=6,
).map(lambda runs: sorted(runs, key=lambda run: run[0]))


@pytest.fixture(scope="module")
def shared(postgres: Postgres) -> Iterator[Engine]:
    postgres.clone_database(TEMPLATE, "revisions_property")
    engine = engine_module.create(postgres.dsn("revisions_property"))
    yield engine
    engine.dispose()
    postgres.drop_database("revisions_property")


def _at(hour: int) -> datetime:
    return PUBLISHED_AT + timedelta(hours=hour)


def _write(connection: Connection, point_id: int, value: int | None) -> None:
    statement = (
        "DELETE FROM usage_day WHERE point_id = :p"
        if value is None
        else "INSERT INTO usage_day (point_id, day, quantity, windows_expected, windows_received, windows_estimated)"
        " VALUES (:p, :day, :q, 96, 96, 0) ON CONFLICT (point_id, day) DO UPDATE SET quantity = excluded.quantity"
    )
    connection.execute(text(statement), {"p": point_id, "day": DAY, "q": value})


def _shown(connection: Connection, point_id: int, as_of: datetime | None) -> Decimal | None:
    found = usage.series(connection, [point_id], "day", DAY, DAY + timedelta(days=1), as_of)
    return Decimal(str(found[point_id].steps[DAY].quantity)) if found else None


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=RUNS)
def test_as_of_is_what_stood_then_and_the_last_revision_is_the_table(shared: Engine, runs: list[Run]) -> None:
    point_id = next(POINTS)
    for hour, values in runs:
        with shared.begin() as connection:
            revisions.begin_run(connection, _at(hour), "reading")
            for value in values:
                _write(connection, point_id, value)
    with shared.connect() as connection:
        for hour in range(7):
            stood = [values[-1] for at, values in runs if at <= hour]
            assert _shown(connection, point_id, _at(hour)) == (stood[-1] if stood else None)
        kept = revisions.of_figure(connection, "usage", "day", str(point_id), DAY)
        now = _shown(connection, point_id, None)
    after = [values for hour, values in runs if hour >= 0]
    assert len([row for row in kept if row["revision"] > 0]) <= len(after), "one revision for a figure and run"
    assert [row["recorded_at"] for row in kept] == sorted(row["recorded_at"] for row in kept)
    assert not kept or kept[0]["revision"] == (1 if kept[0]["was_known"] is False else 0)
    if kept:
        last = kept[-1]["value"]
        assert (last and last["quantity"]) == now
    else:
        before = [values[-1] for hour, values in runs if hour < 0]
        assert now == (before[-1] if before else None)

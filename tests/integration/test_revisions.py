"""A published figure never changes silently: revisions, what was known then, and who is told."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api import access
from app.db import stale
from app.db.access import create_key
from app.db.figures.as_of import PUBLISHED
from app.domain import calendar
from app.main import create_app
from app.pipeline import account, benchmark, rollup
from app.settings import Settings
from tests.integration import accounting_city as city

OCTOBER = date(2026, 10, 1)
LATE_HOUR = datetime(2026, 10, 10, 0, tzinfo=UTC)  # 08:00 in Shanghai
LATE_DAY = date(2026, 10, 10)
FIRST = datetime(2026, 11, 3, tzinfo=UTC)  # the days are published then, the month is not
SIX_MONTHS_LATE = datetime(2027, 4, 20, tzinfo=UTC)
HOURS = 31 * 24


def _settle(engine: Engine, now: datetime) -> None:
    while rollup.run(engine, now) or account.run(engine, now) or benchmark.run(engine, now):
        pass


def _read(engine: Engine, plant: city.Plant, point_id: int, rows: list[tuple[datetime, float]], now: datetime) -> None:
    with engine.begin() as connection:
        for at, value in rows:
            connection.execute(
                text("INSERT INTO reading (ts, point_id, value, quality, receipt_id) VALUES (:at, :p, :v, 0, 1)"),
                {"at": at, "p": point_id, "v": value},
            )
            stale.mark(connection, "rollup", plant.gateway_id, at, at + timedelta(hours=1), cause="reading")
    _settle(engine, now)


@pytest.fixture
def plant(engine: Engine) -> tuple[city.Plant, int]:
    """A kiln whose October came on 3 November but for one hour."""
    city.load_reference(engine)
    from_at, _ = calendar.month_bounds(OCTOBER)
    with engine.begin() as connection:
        made = city.add_plant(connection)
        point_id = city.add_point(connection, made, "COAL", "raw_coal", "kg", from_at=from_at)
        city.report(connection, made, OCTOBER, str(HOURS))
        connection.execute(
            text("INSERT INTO endpoint (name, url, secret, kinds) VALUES ('d', 'https://d', 's', '{*}')")
        )
    hours = [from_at + timedelta(hours=n) for n in range(HOURS)]
    _read(engine, made, point_id, [(at, 200.0) for at in hours if at != LATE_HOUR], FIRST)
    return made, point_id


def _revisions(engine: Engine, kind: str, grain: str, period: date) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT revision, value->>:name AS value, recorded_at, was_known, cause FROM figure_revision"
                " WHERE kind = :kind AND grain = :grain AND period = :period ORDER BY revision"
            ),
            {"kind": kind, "grain": grain, "period": period, "name": "actual" if kind == "ratio" else "quantity"},
        )
        return [tuple(row) for row in rows]


def test_a_reading_six_months_late_leaves_revisions_of_published_grains(
    engine: Engine, plant: tuple[city.Plant, int]
) -> None:
    made, point_id = plant
    published = calendar.month_published_at(OCTOBER)
    assert _revisions(engine, "usage", "month", OCTOBER) == []
    assert [row[:2] for row in _revisions(engine, "usage", "day", LATE_DAY)] == [(1, "4600.000000")]
    with engine.connect() as connection:
        before = connection.execute(text("SELECT count(*) FROM figure_revision")).scalar_one()
        assert connection.execute(text("SELECT count(*) FROM event")).scalar_one() == 0
    _read(engine, made, point_id, [(LATE_HOUR, 200.0)], SIX_MONTHS_LATE)
    assert _revisions(engine, "usage", "month", OCTOBER) == [
        (0, "148600.000000", published, True, "published"),
        (1, "148800.000000", SIX_MONTHS_LATE, True, "reading"),
    ]
    assert [row[:2] for row in _revisions(engine, "usage", "day", LATE_DAY)] == [(1, "4600.000000"), (2, "4800.000000")]
    assert [row[:3] for row in _revisions(engine, "energy", "month", OCTOBER)] == [
        (0, "148600.000000", published),
        (1, "148800.000000", SIX_MONTHS_LATE),
    ]
    ratios = _revisions(engine, "ratio", "month", OCTOBER)
    assert [row[0] for row in ratios] == [0, 1]
    assert Decimal(ratios[1][1]) > Decimal(ratios[0][1])
    with engine.connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM figure_revision")).scalar_one()
        # usage day 1, usage month 2, energy day 1, energy month 2, ratio 2: nothing else changed
        assert count - before == 8


def test_the_event_is_one_for_each_enterprise_and_run(engine: Engine, plant: tuple[city.Plant, int]) -> None:
    made, point_id = plant
    _read(engine, made, point_id, [(LATE_HOUR, 200.0)], SIX_MONTHS_LATE)
    with engine.connect() as connection:
        events = connection.execute(
            text("SELECT kind, enterprise_id, district_code, payload FROM event ORDER BY occurred_at, id")
        ).all()
        deliveries = connection.execute(text("SELECT count(*) FROM delivery")).scalar_one()
    assert {(e.kind, e.enterprise_id, e.district_code) for e in events} == {
        ("figure.revised", made.enterprise_id, "120110")
    }
    told = [json.loads(event.payload)["data"] for event in events]
    assert sorted((tuple(t["kinds"]), t["figures"]) for t in told) == [
        (("energy",), 2), (("ratio",), 1), (("usage",), 2)
    ]  # fmt: skip
    assert deliveries == len(events) == 3


def test_a_history_that_comes_in_parts_is_no_event_until_it_is_told(engine: Engine) -> None:
    city.load_reference(engine)
    from_at, _ = calendar.month_bounds(OCTOBER)
    with engine.begin() as connection:
        made = city.add_plant(connection)
        point_id = city.add_point(connection, made, "COAL", "raw_coal", "kg", from_at=from_at)
    hours = [LATE_HOUR + timedelta(hours=n) for n in range(3)]
    for number, at in enumerate(hours[:2]):
        _read(engine, made, point_id, [(at, 200.0)], FIRST + timedelta(minutes=number))
    assert [row[:4] for row in _revisions(engine, "usage", "day", LATE_DAY)] == [
        (1, "200.000000", FIRST, False),
        (2, "400.000000", FIRST + timedelta(minutes=1), True),
    ]

    def told() -> list[dict[str, Any]]:
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT payload FROM event ORDER BY occurred_at, id")).scalars()
            return [json.loads(payload)["data"] for payload in rows]

    assert told() == []
    noon_after = calendar.day_published_at(calendar.business_day(FIRST))
    _read(engine, made, point_id, [(hours[2], 200.0)], noon_after)
    # The month is not published yet: its day and nothing else was told otherwise.
    assert sorted((t["kinds"], t["grains"], t["figures"], t["causes"]) for t in told()) == [
        (["energy"], ["day"], 1, ["reading"]),
        (["usage"], ["day"], 1, ["reading"]),
    ]


def test_changes_of_one_run_are_one_revision_and_unpublished_ones_none(
    engine: Engine, plant: tuple[city.Plant, int]
) -> None:
    with engine.begin() as connection:
        connection.execute(text("SELECT set_config('nenghao.now', :now, true)"), {"now": SIX_MONTHS_LATE.isoformat()})
        for quantity in (1, 2, 3):
            connection.execute(text("UPDATE usage_month SET quantity = :q"), {"q": quantity})
    assert [row[:2] for row in _revisions(engine, "usage", "month", OCTOBER)] == [(0, "148600.000000"), (1, "3.000000")]
    with engine.begin() as connection:
        connection.execute(text("SELECT set_config('nenghao.now', :now, true)"), {"now": FIRST.isoformat()})
        connection.execute(text("UPDATE usage_month SET quantity = 9"))
        connection.execute(text("UPDATE energy_month SET quantity = 9"))
    assert len(_revisions(engine, "usage", "month", OCTOBER)) == 2
    assert _revisions(engine, "energy", "month", OCTOBER) == []


def test_a_figure_that_vanishes_is_a_revision_too(engine: Engine, plant: tuple[city.Plant, int]) -> None:
    with engine.begin() as connection:
        connection.execute(text("SELECT set_config('nenghao.now', :now, true)"), {"now": SIX_MONTHS_LATE.isoformat()})
        connection.execute(text("DELETE FROM usage_month"))
    assert [row[:2] for row in _revisions(engine, "usage", "month", OCTOBER)] == [(0, "148600.000000"), (1, None)]


@pytest.fixture
def client(engine: Engine, database_url: str) -> TestClient:
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    app.dependency_overrides[access.now] = lambda: SIX_MONTHS_LATE + timedelta(days=1)
    with engine.begin() as connection:
        key = create_key(connection, "regulator", "regulator")
    return TestClient(app, headers={"Authorization": f"Bearer {key}", "Accept-Language": "en"})


BEFORE, AFTER = "2027-01-01T00:00:00+08:00", "2027-04-21T00:00:00+08:00"


def test_as_of_answers_with_what_was_known(engine: Engine, client: TestClient, plant: tuple[city.Plant, int]) -> None:
    made, point_id = plant
    _read(engine, made, point_id, [(LATE_HOUR, 200.0)], SIX_MONTHS_LATE)
    months = {"grain": "month", "from": "2026-10", "to": "2026-11"}
    days = {"grain": "day", "from": "2026-10-09", "to": "2026-10-12"}

    def usage(question: dict[str, str], as_of: str | None) -> list[str | None]:
        asked = {"point_id": point_id, **question, **({"as_of": as_of} if as_of else {})}
        answer = client.get("/api/v1/usage", params=asked).json()["series"][0]
        return [answer["total"], *(step["quantity"] for step in answer["steps"])]

    assert usage(months, None) == usage(months, AFTER) == ["148800", "148800"]
    assert usage(months, BEFORE) == ["148600", "148600"]
    assert usage(days, BEFORE) == ["14200", "4800", "4600", "4800"]
    assert usage(days, AFTER) == ["14400", "4800", "4800", "4800"]
    assert usage(days, "2026-11-01T00:00:00+08:00") == [None, None, None, None]
    energy = {"enterprise_id": made.enterprise_id, **months}
    totals = [
        client.get("/api/v1/energy", params={**energy, "as_of": at}).json()["total"]["equivalent_kgce"]
        for at in (BEFORE, AFTER)
    ]
    assert totals == [str(Decimal(148600) * Decimal("0.7143")).rstrip("0"), "106287.84"]
    ratios = [
        client.get("/api/v1/ratios", params={"to_month": "2026-10", "as_of": at}).json()["items"][0]["actual"]
        for at in (BEFORE, AFTER)
    ]
    assert Decimal(ratios[0]) < Decimal(ratios[1]) == Decimal("142.86")


@pytest.mark.parametrize(
    ("path", "question"),
    [
        (
            "usage",
            {"point_id": "1", "grain": "month", "from": "2026-10", "to": "2026-11", "as_of": "2026-11-04T00:00:00Z"},
        ),
        ("usage", {"point_id": "1", "grain": "hour", "as_of": AFTER}),
        ("energy", {"grain": "day", "from": "2026-10-09", "to": "2026-10-11", "as_of": "2026-10-11T00:00:00+08:00"}),
        ("ratios", {"as_of": AFTER}),
        ("ratios", {"to_month": "2026-10", "as_of": "2026-11-04T00:00:00Z"}),
    ],
)
def test_as_of_refuses_what_was_not_published(
    client: TestClient, plant: tuple[city.Plant, int], path: str, question: dict[str, str]
) -> None:
    answer = client.get(f"/api/v1/{path}", params=question)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid")


def test_the_last_revision_equals_the_table(engine: Engine, plant: tuple[city.Plant, int]) -> None:
    made, point_id = plant
    _read(engine, made, point_id, [(LATE_HOUR, 150.0)], SIX_MONTHS_LATE)
    with engine.begin() as connection:
        connection.execute(text("UPDATE reading SET value = 175 WHERE ts = :at"), {"at": LATE_HOUR})
        stale.mark(connection, "rollup", made.gateway_id, LATE_HOUR, LATE_HOUR + timedelta(hours=1), cause="edit")
    _settle(engine, SIX_MONTHS_LATE + timedelta(days=3))
    for table, (kind, grain, period, keys) in PUBLISHED.items():
        key = " || ':' || ".join(f"t.{name}::text" for name in keys)
        names = ", ".join(f"'{name}'" for name in (period, *keys, "grain", "computed_at"))
        with engine.connect() as connection:
            unequal = connection.execute(
                text(
                    f"SELECT count(*), count(*) FILTER (WHERE f.value IS DISTINCT FROM to_jsonb(t) - ARRAY[{names}])"
                    f" FROM {table} t JOIN LATERAL (SELECT value FROM figure_revision WHERE kind = '{kind}'"
                    f" AND grain = '{grain}' AND key = {key} AND period = t.{period} ORDER BY revision DESC LIMIT 1) f"
                    " ON true WHERE coalesce(to_jsonb(t) ->> 'grain', 'month') = 'month'"  # quarters are not published
                )
            ).one()
        assert unequal[0] > 0, table
        assert unequal[1] == 0, table
    assert [row[4] for row in _revisions(engine, "usage", "month", OCTOBER)] == ["published", "reading", "edit"]

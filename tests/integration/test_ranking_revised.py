"""A ranking of 2025 after what came later: an edition, a late reading, another list; as known then, the same."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api.access import now as api_now
from app.db.access import create_key
from app.domain import calendar
from app.intake import levels
from app.main import create_app
from app.settings import Settings
from tests.integration import accounting_city as city

MONTHS = [date(2025, month, 1) for month in range(1, 13)]
KNOWN, LATER = datetime(2026, 1, 20, tzinfo=UTC), datetime(2027, 6, 1, tzinfo=UTC)
BEGUN = datetime(2024, 12, 31, 16, tzinfo=UTC)
SECOND = (
    "variant_key,benchmark,baseline,referenced_standard,deadline_on,note,source,edition,confidence,valid_from,valid_to"
    f"\n{city.CLINKER},60,70,GB 16780,,,document of 2026,second,confirmed,2026-01-01,\n"
)
QUESTIONS: list[dict[str, Any]] = [
    {"year": 2025}, {"quarter": "2025-Q2"}, {"month": "2025-05"}, {"year": 2025, "key_units": True},
    {"year": 2025, "district": "120110"}, {"year": 2025, "industry": "301"},
]  # fmt: skip


@pytest.fixture
def kilns(engine: Engine) -> list[city.Plant]:
    """Three kilns through 2025 at 92.859, 100.002 and 107.145 kgce/t; the first two are on the list of 2025."""
    city.load_reference(engine)
    plants = []
    for number, per_hour in ((1, "130"), (2, "140"), (3, "150")):
        with engine.begin() as connection:
            plant = city.add_plant(connection, number, registered_at=BEGUN)
            coal = city.add_point(connection, plant, "COAL", "raw_coal", "kg", from_at=BEGUN)
            for month in MONTHS:
                city.report(connection, plant, month, str(city.use_month(connection, coal, month, per_hour)))
            if number < 3:
                connection.execute(
                    text(
                        "INSERT INTO key_unit_list (year, enterprise_id, tier, two_high, source, recorded_by)"
                        " VALUES (2025, :e, '10000_tce', false, 'list 2025', 't')"
                    ),
                    {"e": plant.enterprise_id},
                )
        city.mark_account(
            engine, plant.kiln_id, calendar.month_bounds(MONTHS[0])[0], calendar.month_bounds(MONTHS[-1])[1]
        )
        plants.append(plant)
    city.settle(engine, KNOWN)
    return plants


class Asked:
    """Rankings of domain 15 by the API at an instant."""

    def __init__(self, engine: Engine, database_url: str) -> None:
        self.at = KNOWN
        app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
        app.dependency_overrides[api_now] = lambda: self.at
        with engine.begin() as connection:
            key = create_key(connection, "regulator", "regulator")
        self.client = TestClient(app, headers={"Authorization": f"Bearer {key}"})

    def all(self, **more: str) -> list[dict[str, Any]]:
        return [self.one({**question, **more}) for question in QUESTIONS]

    def one(self, question: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.get("/api/v1/ranking", params={"domain": 15, **question})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        for row in (*found["ranked"], *found["left_out"]):
            row.pop("computed_at")
        return dict(found)


def test_a_ranking_of_2025_in_2027(engine: Engine, database_url: str, kilns: list[city.Plant]) -> None:
    asked = Asked(engine, database_url)
    then = asked.all()
    assert [[row["line_id"] for row in one["ranked"]] for one in then] == [
        [plant.line_id for plant in (kilns[:2] if "key_units" in question else kilns)] for question in QUESTIONS
    ]
    assert [row["status"] for row in then[0]["ranked"]] == ["at_benchmark", "between", "between"]

    # A new edition, another district, industry and list change nothing of 2025.
    with engine.begin() as connection:
        levels.bring_in(connection, SECOND, actor="admin", now=LATER, is_dry_run=False)
        for statement in (
            "UPDATE enterprise_assignment SET to_on = '2026-01-01' WHERE enterprise_id = :e",
            "INSERT INTO enterprise_assignment (enterprise_id, from_on, district_code, industry_code)"
            " VALUES (:e, '2026-01-01', '120119', '3110')",
            "INSERT INTO key_unit_list (year, enterprise_id, tier, two_high, source, recorded_by)"
            " VALUES (2026, :e, '500000_tce', true, 'list 2026', 't')",
        ):
            connection.execute(text(statement), {"e": kilns[2].enterprise_id})
    city.settle(engine, LATER)
    asked.at = LATER
    assert asked.all() == then

    # A reading of May 2025 comes in two years late: the ranking follows it, and as known then it is as it was.
    with engine.begin() as connection:
        coal = connection.execute(
            text("SELECT id FROM point WHERE gateway_id = :g"), {"g": kilns[0].gateway_id}
        ).scalar_one()
        city.use(connection, coal, calendar.month_bounds(date(2025, 5, 1))[0], ["99999999"])
    city.mark_account(engine, kilns[0].kiln_id, *calendar.month_bounds(date(2025, 5, 1)))
    city.settle(engine, LATER)
    now = asked.all()
    assert [row["line_id"] for row in now[0]["ranked"]] == [plant.line_id for plant in (*kilns[1:], kilns[0])]
    assert all(new != old for new, old in zip(now, then, strict=True))
    assert asked.all(as_of=KNOWN.isoformat()) == then


def test_a_period_that_was_not_published_then_is_refused(
    engine: Engine, database_url: str, kilns: list[city.Plant]
) -> None:
    asked = Asked(engine, database_url)
    early = {"domain": 15, "year": 2025, "as_of": "2026-01-04T00:00:00+08:00"}
    answer = asked.client.get("/api/v1/ranking", params=early)
    assert (answer.status_code, answer.json()["errors"][0]["location"]) == (422, ["query", "as_of"])

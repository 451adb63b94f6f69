"""A level of which no public copy was read is said to be recalled in every figure that rests on it."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api.access import now as api_now
from app.db.access import create_key
from app.main import create_app
from app.settings import Settings
from tests.integration import accounting_city as city

NOW = datetime(2026, 11, 20, tzinfo=UTC)
PERIOD = {"grain": "month", "month": "2026-10"}


@pytest.fixture(params=["recalled", "confirmed"])
def confidence(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def plant(engine: Engine, confidence: str) -> city.Plant:
    """A kiln at 107.145 kgce/t, between the levels, with a capacity; its level is of the confidence in question."""
    city.load_reference(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE efficiency_level SET confidence = :c"), {"c": confidence})
        made = city.add_plant(connection)
        connection.execute(text("UPDATE production_line SET capacity = 5000, capacity_unit = 't/d'"))
    city.over_baseline(engine, made, "150")
    return made


@pytest.fixture
def client(engine: Engine, database_url: str) -> TestClient:
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    app.dependency_overrides[api_now] = lambda: NOW
    with engine.begin() as connection:
        key = create_key(connection, "regulator", "regulator")
    return TestClient(app, headers={"Authorization": f"Bearer {key}"})


def test_every_figure_by_a_level_says_how_sure_the_level_is(
    client: TestClient, plant: city.Plant, confidence: str
) -> None:
    def get(path: str, **query: Any) -> Any:
        answer = client.get(f"/api/v1{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    ranking = get("/ranking", month="2026-10", domain=15)
    (share,) = get("/capacity-share", **PERIOD)["items"]
    (index,) = get(f"/enterprises/{plant.enterprise_id}/index", **PERIOD)["indexes"]
    shown = [
        *get("/ratios", to_month="2026-10", from_month="2026-10")["items"],
        *get("/ratios/period", **PERIOD)["items"],
        *get("/ratios/period", grain="rolling_12_months", month="2026-10")["items"],
        *get(f"/enterprises/{plant.enterprise_id}")["lines"],
        *ranking["ranked"], *ranking["peers"], *share["movers"],
    ]  # fmt: skip
    assert [row["level_confidence"] for row in shown] == [confidence] * 7
    assert share["lines_with_recalled_level"] == (1 if confidence == "recalled" else 0)
    assert index["has_recalled_level"] is (confidence == "recalled")
    cited = (index["level_editions"], index["factor_sets"], index["measured_share"])
    assert cited == (["2021/2023"], ["GB/T 2589-2020"], "1.0000")
    explained = get("/explain/ratio", line_id=plant.line_id, period="2026-10")
    assert explained["level"]["confidence"] == confidence


def test_measured_estimated_and_missing_make_the_whole(engine: Engine, client: TestClient, plant: city.Plant) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE ratio SET windows_expected = 744, windows_received = 700, windows_estimated = 30"
                " WHERE period = :m AND grain = 'month'"
            ),
            {"m": date(2026, 10, 1)},
        )
    for path, query in (("/ratios", {"to_month": "2026-10"}), ("/ratios/period", PERIOD)):
        (row,) = client.get(f"/api/v1{path}", params=query).json()["items"]
        shares = [row[f"{name}_share"] for name in ("measured", "estimated", "missing")]
        assert shares == ["0.9409", "0.0403", "0.0188"], path

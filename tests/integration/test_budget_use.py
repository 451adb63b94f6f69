"""Energy budgets: entered by figure or by method, used against time, projected with the method's name."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.integration.region_site import DONGLI, JIZHOU, Region, Works, add_energy, add_works, build


@pytest.fixture
def region(engine: Engine, database_url: str) -> Region:
    found = build(engine, database_url)
    found.at = datetime(2026, 7, 1, 4, tzinfo=UTC)
    return found


def budget(works: Works, **more: Any) -> dict[str, Any]:
    return {"uscc": works.uscc, "year": 2026, "method": "historical", "source": "区发改委核定", **more}


def enter(region: Region, *budgets: dict[str, Any], status: int = 200, **more: Any) -> dict[str, Any]:
    return region.post("/budgets", {"budgets": list(budgets), **more}, status=status)


def use(region: Region, who: str = "operator", **query: Any) -> list[dict[str, Any]]:
    rows = region.get("/budgets", who=who, **query)
    assert isinstance(rows, list)
    return rows


def spend(region: Region, works: Works, days: int, kgce_a_day: str, **more: Any) -> None:
    for number in range(days):
        add_energy(region, works, "day", date(2026, 1, 1) + timedelta(days=number), kgce_a_day, **more)


def test_example_7_1(region: Region) -> None:
    works = add_works(region, 1)
    enter(region, budget(works, budget_tce="25000"))
    spend(region, works, 180, "74000")
    add_energy(region, works, "day", date(2026, 6, 30), "80000")
    add_energy(region, works, "day", date(2026, 7, 1), "99999")  # today is not over
    (row,) = use(region)
    assert (row["through"], row["days_over"], row["days_in_year"]) == ("2026-06-30", 181, 365)
    assert (row["used_tce"], row["used_pct"]) == ("13400", "53.6")
    assert row["time_pct"].startswith("49.58904")
    assert row["ahead_points"].startswith("4.01095")
    assert (row["projection_method"], row["projected_tce"][:10]) == ("linear_by_days", "27022.0994")
    assert (row["is_provisional"], row["reason"]) == (False, None)
    assert row["factor_sets"] == ["set"]


def test_a_day_that_is_not_over_is_no_day_to_count_through(region: Region) -> None:
    enter(region, budget(add_works(region, 1), budget_tce="25000"))
    assert len(use(region, through="2026-06-30")) == 1
    assert "not over yet" in str(region.refused("/budgets", through="2026-07-01")["detail"])


def test_feedstock_and_new_renewables_do_not_use_a_budget_up(region: Region) -> None:
    works = add_works(region, 1)
    enter(region, budget(works, budget_tce="25000"))
    spend(region, works, 181, "50000")
    spend(region, works, 181, "20000", carrier="naphtha", flow="feedstock")
    spend(region, works, 181, "1000", carrier="steam", flow="out")
    region.post(
        "/entered-figures",
        {"figures": [{"uscc": works.uscc, "kind": "new_renewable_energy", "year": 2026, "value": "69", "unit": "tce",
                      "source": "绿证"}]},
    )  # fmt: skip
    (row,) = use(region)
    assert (row["feedstock_tce"], row["new_renewables_tce"], row["used_tce"]) == ("3620", "69", "8800")


def test_budgets_by_their_methods(region: Region) -> None:
    first, second = add_works(region, 1), add_works(region, 2)
    looked = enter(region, budget(first, past_tce=["26000", "24000"], factor="0.98"), dry_run=True)
    assert looked["changes"] == [f"+ budget 2026 of {first.uscc}: 24500 tce"]
    assert use(region) == []
    enter(
        region, budget(first, past_tce=["26000", "24000"], factor="0.98"),
        budget(second, method="baseline", outputs=["985000"], unit_kgce=["102"], conversion="equal"),
    )  # fmt: skip
    rows = {row["uscc"]: row for row in use(region)}
    assert (rows[first.uscc]["budget_tce"], rows[first.uscc]["basis"]["factor"]) == ("24500", "0.98")
    assert (rows[second.uscc]["budget_tce"], rows[second.uscc]["conversion"]) == ("100470", "equal")
    assert (rows[first.uscc]["used_tce"], rows[first.uscc]["reason"]) == (None, "no_readings")
    enter(region, budget(first, budget_tce="24000"))
    assert [(row["revision"], row["budget_tce"]) for row in use(region) if row["uscc"] == first.uscc] == [(2, "24000")]


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"budget_tce": "0"}, {"past_tce": ["10"], "budget_tce": "11"}, {"outputs": ["1"], "unit_kgce": ["1"]},
        {"method": "baseline", "outputs": ["1"]}, {"method": "baseline", "past_tce": ["1"]}, {"past_tce": ["0"]},
    ],
)  # fmt: skip
def test_a_budget_that_does_not_add_up_is_refused(region: Region, wrong: dict[str, Any]) -> None:
    enter(region, budget(add_works(region, 1), **wrong), status=422)


def test_a_hole_in_the_year_makes_the_use_provisional(region: Region) -> None:
    works, broken = add_works(region, 1), add_works(region, 2)
    enter(region, *(budget(one, budget_tce="25000") for one in (works, broken)))
    spend(region, works, 100, "74000")
    spend(region, broken, 181, "74000", windows=(100, 80))
    assert {row["uscc"]: row["reason"] for row in use(region)} == {
        works.uscc: "missing_days", broken.uscc: "incomplete_readings",
    }  # fmt: skip
    assert all(row["is_provisional"] for row in use(region))


def test_scope_of_budgets(region: Region) -> None:
    mine, other = add_works(region, 1), add_works(region, 2, district_code=JIZHOU)
    enter(region, *(budget(one, budget_tce="25000") for one in (mine, other)))
    region.key("official", "official", district_code=DONGLI)
    region.key("works", "enterprise", enterprise_id=other.id)
    assert [row["uscc"] for row in use(region, "official")] == [mine.uscc]
    assert [row["uscc"] for row in use(region, "works")] == [other.uscc]
    assert use(region, "official", enterprise_id=other.id) == []
    assert len(region.csv("/budgets")) == 3


def test_a_year_without_a_day_over_is_refused(region: Region) -> None:
    headers = {"Authorization": f"Bearer {region.keys['operator']}"}
    assert region.client.get("/api/v1/budgets", params={"year": 2027}, headers=headers).status_code == 422
    assert use(region, year=2025) == []

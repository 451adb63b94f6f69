"""The yearly key-unit list, tiers proposed by measured energy, and the energy-manager post."""

from datetime import date
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.domain.credit_code import with_check_digit
from app.errors import Invalid
from app.intake import rows
from app.intake.key_units import KeyUnitEntry
from tests.integration.region_site import DONGLI, JIZHOU, Region, Works, add_energy, add_works, add_year, build, move

STRANGER = with_check_digit("91120000MA9999999")


@pytest.fixture
def region(engine: Engine, database_url: str) -> Region:
    return build(engine, database_url)


def unit(works: Works, tier: str = "10000_tce", year: int = 2025, **more: Any) -> dict[str, Any]:
    return {"year": year, "uscc": works.uscc, "tier": tier, "source": "津发改 2025 名单", **more}


def bring(region: Region, *units: dict[str, Any], dry_run: bool = False, status: int = 200) -> dict[str, Any]:
    return region.post("/key-units", {"key_units": list(units), "dry_run": dry_run}, status=status)


def of_year(region: Region, year: int) -> list[tuple[str, str, bool]]:
    rows = region.get("/key-units", year=year)
    assert isinstance(rows, list)
    return [(row["uscc"], row["tier"], row["is_two_high"]) for row in rows]


def test_a_list_is_brought_in_whole_after_a_look(region: Region) -> None:
    first, second = add_works(region, 1), add_works(region, 2)
    bring(region, unit(first, year=2024))
    looked = bring(region, unit(first), unit(second, "5000_tce", two_high=True), dry_run=True)
    assert (looked["is_dry_run"], looked["added"], of_year(region, 2025)) == (True, 2, [])
    assert looked["changes"][1] == f"+ 2025 {second.uscc} 5000_tce, two-high"
    assert bring(region, unit(first), unit(second, "5000_tce", two_high=True))["added"] == 2
    again = bring(region, unit(first), unit(second, "5000_tce", two_high=True))
    assert (again["added"], again["changed"], again["removed"], again["unchanged"]) == (0, 0, 0, 2)
    # What the new list of 2025 does not name leaves it; 2024 stays as it was.
    done = bring(region, unit(second, "500000_tce", two_high=True))
    assert done["changes"] == [
        f"~ 2025 {second.uscc} 500000_tce, two-high (was 5000_tce, two-high)", f"- 2025 {first.uscc} 10000_tce",
    ]  # fmt: skip
    assert of_year(region, 2025) == [(second.uscc, "500000_tce", True)]
    assert of_year(region, 2024) == [(first.uscc, "10000_tce", False)]
    with region.engine.connect() as connection:
        actions = connection.execute(text("SELECT count(*) FROM audit WHERE action = 'key_units.list'")).scalar()
    assert actions == 3  # looking and repeating left no entry


def test_every_bad_row_is_named_and_nothing_is_written(region: Region) -> None:
    works = add_works(region, 1)
    refused = bring(
        region, unit(works), unit(works), unit(works, "20000_tce", year=2026), {**unit(works), "uscc": STRANGER},
        status=422,
    )  # fmt: skip
    places = {error["location"] for error in refused["errors"]}
    assert places == {"key_units[1]", "key_units[2].tier", "key_units[3].uscc"}
    assert of_year(region, 2025) == []


def test_rows_of_a_csv_are_named_by_their_line() -> None:
    text = "year,uscc,tier,two_high,source\n2025,91,5000_tce,true,x\n1900,91120000MA0000001Q,5000_tce,perhaps,\n"
    with pytest.raises(Invalid) as caught:
        rows.parse_csv(text, "key_units", KeyUnitEntry)
    places = {error["location"] for error in caught.value.extra["errors"]}
    assert places == {"line 2, uscc", "line 3, year", "line 3, two_high", "line 3, source"}
    with pytest.raises(Invalid, match="has no column tier and has unknown columns class"):
        rows.parse_csv("year,uscc,class,source\n", "key_units", KeyUnitEntry)
    good, _ = rows.parse_csv("year,uscc,tier,source\n2025,91120000MA0000001Q,5000_tce,x\n", "key_units", KeyUnitEntry)
    assert (good[0].year, good[0].two_high) == (2025, False)


def test_the_list_shows_the_district_and_industry_of_its_year(region: Region) -> None:
    works = add_works(region, 1)
    bring(region, unit(works))
    bring(region, unit(works, year=2026))
    move(region, works, date(2026, 3, 1), JIZHOU, "3110")
    shown = {year: region.get("/key-units", year=year)[0] for year in (2025, 2026)}  # type: ignore[index]
    assert [(shown[year]["district_code"], shown[year]["industry_code"]) for year in (2025, 2026)] == [
        (DONGLI, "3011"), (JIZHOU, "3110"),
    ]  # fmt: skip


def test_measured_energy_proposes_a_tier(region: Region) -> None:
    small, at_edge, large, partial = (add_works(region, n) for n in (1, 2, 3, 4))
    add_year(region, small, 2025, "416666.583")  # 4,999.998996 tce
    add_year(region, at_edge, 2025, "900000")
    add_year(region, at_edge, 2025, "66666", carrier="steam", flow="out")  # sold: 10,000.008 tce remain
    add_year(region, large, 2025, "42000000")
    add_energy(region, partial, "month", date(2025, 7, 1), "6000000", windows=(100, 80))
    bring(region, unit(at_edge, "5000_tce"), unit(large, "500000_tce"))
    found = region.get("/key-units/proposal", year=2025)
    assert isinstance(found, dict)
    shown = {row["uscc"]: row for row in found["items"]}
    assert [shown[w.uscc]["equivalent_tce"] for w in (small, at_edge, large, partial)] == [
        "4999.998996", "10000.008", "504000", "6000",
    ]  # fmt: skip
    assert [(shown[w.uscc]["proposed_tier"], shown[w.uscc]["is_different"]) for w in (small, at_edge, large)] == [
        (None, False), ("10000_tce", True), ("500000_tce", False),
    ]  # fmt: skip
    assert (shown[partial.uscc]["is_whole_year"], shown[partial.uscc]["measured_share"]) == (False, "0.8")
    assert shown[large.uscc]["is_whole_year"] is True
    assert shown[large.uscc]["factor_sets"] == ["set"]
    assert [tier["at_least_tce"] for tier in found["tiers"]] == ["5000", "10000", "500000"]
    assert all(tier["source"] and tier["confidence"] == "confirmed" for tier in found["tiers"])


def test_posts_that_are_empty_or_expired_stand_first(region: Region) -> None:
    held, expired, empty = (add_works(region, n) for n in (1, 2, 3))
    bring(region, *(unit(works, year=2026) for works in (held, expired, empty)))
    region.key("works", "enterprise", enterprise_id=held.id)
    term = {"uscc": held.uscc, "holder": "李某", "title": "工程师", "appointed_on": "2026-01-01"}
    old = {"uscc": expired.uscc, "holder": "王某", "appointed_on": "2023-01-01", "expires_on": "2025-12-31"}
    region.post("/energy-managers", {"energy_managers": [term]}, who="works")
    region.post("/energy-managers", {"energy_managers": [old]}, who="works", status=422)
    region.post("/energy-managers", {"energy_managers": [old]})
    found = region.get("/compliance/energy-managers")
    assert isinstance(found, dict)
    assert (found["on"], found["not_held"]) == ("2026-10-15", 2)
    assert [(row["uscc"], row["post"], row["holder"]) for row in found["items"]] == [
        (expired.uscc, "expired", "王某"), (empty.uscc, "empty", None), (held.uscc, "held", "李某"),
    ]  # fmt: skip
    # The same appointment with an end: changed, not added; from the day after it the post is expired.
    ended = {**term, "expires_on": "2026-10-14"}
    assert region.post("/energy-managers", {"energy_managers": [ended]})["changed"] == 1
    assert [row["post"] for row in region.get("/compliance/energy-managers")["items"]].count("held") == 0  # type: ignore[index]
    on_last_day = region.get("/compliance/energy-managers", on="2026-10-14")
    assert on_last_day["not_held"] == 2  # type: ignore[index]
    assert len(region.csv("/compliance/energy-managers")) == 4

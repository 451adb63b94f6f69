"""Rankings and peers: by position, with distances in tce, and with the lists and districts of the ranked period."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.integration.region_site import DONGLI, JIZHOU, Region, Works, add_ratio, add_works, build, move

YEAR, MONTH = date(2025, 1, 1), date(2025, 11, 1)
CONVERTER, PUE = "ndrc723-20-converter-bof-process", "data-centre-pue"


@pytest.fixture
def region(engine: Engine, database_url: str) -> Region:
    return build(engine, database_url)


def listed(region: Region, year: int, *units: tuple[Works, str, bool]) -> None:
    rows = [{"year": year, "uscc": w.uscc, "tier": t, "two_high": h, "source": f"list {year}"} for w, t, h in units]
    region.post("/key-units", {"key_units": rows})


def ranking(region: Region, **query: Any) -> Any:
    return region.get("/ranking", **{"domain": 15, "year": 2025, **query})


def test_the_ranking_of_2025_is_the_same_in_2027(region: Region) -> None:
    first, second, third = (add_works(region, n) for n in (1, 2, 3))
    for works, actual in ((first, "117.4"), (second, "98.477"), (third, "107")):
        for grain, period in (("year", YEAR), ("month", MONTH)):
            add_ratio(region, works, period, actual, grain=grain, output="150000")
    listed(region, 2025, (first, "10000_tce", True), (second, "5000_tce", False))
    questions: list[dict[str, Any]] = [
        {}, {"district": DONGLI}, {"district": DONGLI, "key_units": True}, {"two_high": True}, {"tier": "5000_tce"},
        {"industry": "301", "key_units": False}, {"year": None, "month": "2025-11", "district": DONGLI},
    ]  # fmt: skip
    then = [ranking(region, **question) for question in questions]
    assert [row["uscc"] for row in then[0]["ranked"]] == [second.uscc, third.uscc, first.uscc]
    assert [len(answer["ranked"]) for answer in then] == [3, 3, 2, 1, 1, 1, 3]

    move(region, first, date(2026, 1, 1), JIZHOU, "3110")
    move(region, second, date(2026, 7, 1), JIZHOU, "3120")
    listed(region, 2026, (third, "500000_tce", True))
    listed(region, 2027, (second, "10000_tce", True))
    region.at = datetime(2027, 6, 1, tzinfo=UTC)
    assert [ranking(region, **question) for question in questions] == then
    # ... while the ranking of a later period goes by the later district, industry and list.
    add_ratio(region, first, date(2026, 1, 1), "117.4", grain="year")
    later = ranking(region, year=2026)["ranked"][0]
    assert (later["district_code"], later["industry_code"], later["key_unit_tier"]) == (JIZHOU, "3110", None)


def test_old_periods_keep_their_district_in_the_list_of_ratios_too(region: Region) -> None:
    works = add_works(region, 1)
    for period in (MONTH, date(2026, 2, 1)):
        add_ratio(region, works, period, "107")
    move(region, works, date(2026, 2, 10), JIZHOU, "3011")
    rows = region.get("/ratios")["items"]  # type: ignore[index]
    assert [(row["period"], row["district_code"]) for row in rows] == [
        ("2026-02-01", JIZHOU), ("2025-11-01", DONGLI),
    ]  # fmt: skip
    assert [row["period"] for row in region.get("/ratios", district=DONGLI)["items"]] == ["2025-11-01"]  # type: ignore[index]


def test_peers_and_ranked_lines_say_when_their_level_is_recalled(region: Region) -> None:
    confirmed, recalled = add_works(region, 1), add_works(region, 2, industry_code="6450", variant=PUE)
    add_ratio(region, confirmed, YEAR, "107", grain="year")
    add_ratio(region, recalled, YEAR, "1.58", grain="year", variant=PUE)
    for asked, confidence in (({"domain": 15}, "confirmed"), ({"domain": None, "variant": PUE}, "recalled")):
        found = ranking(region, **asked)
        assert [row["level_confidence"] for row in (*found["ranked"], *found["peers"])] == [confidence] * 2


def test_distance_to_the_benchmark_and_peers(region: Region) -> None:
    for number, actual, output in ((1, "117.4", "150000"), (2, "98.477", "98500"), (3, "107", "1500")):
        add_ratio(region, add_works(region, number), MONTH, actual, output=output)
    add_ratio(region, add_works(region, 4), MONTH, "90", reason="incomplete_readings")
    found = ranking(region, year=None, month="2025-11")
    assert [(row["rank"], row["gap"], row["distance_tce"]) for row in found["ranked"]] == [
        (1, "-1.523", "0"), (2, "7", "10.5"), (3, "17.4", "2610"),
    ]  # fmt: skip
    assert [row["left_out_because"] for row in found["left_out"]] == ["incomplete_readings"]
    (peers,) = found["peers"]
    # (117.4 x 150,000 + 98.477 x 98,500 + 107 x 1,500) / 250,000
    assert peers["mean"] == "109.881938"
    assert (peers["lines"], peers["lines_at_benchmark"], peers["distance_tce"]) == (3, 1, "2620.5")
    assert (peers["best"], peers["median"], peers["worst"]) == ("98.477", "107", "117.4")
    table = region.csv("/ranking", domain=15, month="2025-11")
    assert len(table) == 5
    assert {"rank", "distance_tce", "key_unit_tier", "left_out_because"} <= set(table[0].split(","))
    assert "corrections" not in table[0]  # a list is no cell


def test_negative_levels_rank_rightly(region: Region) -> None:
    for number, actual in ((1, "16"), (2, "-31"), (3, "-20"), (4, "-20")):
        works = add_works(region, number, industry_code="3120", variant=CONVERTER)
        add_ratio(region, works, MONTH, actual, output="1000", variant=CONVERTER)
    found = ranking(region, year=None, month="2025-11", domain=20)["ranked"]
    assert [(row["rank"], row["actual"], row["status"], row["distance_tce"]) for row in found] == [
        (1, "-31", "at_benchmark", "0"),
        (2, "-20", "between", "10"),
        (2, "-20", "between", "10"),
        (4, "16", "below_baseline", "46"),
    ]


def test_electricity_saved_is_standard_coal_by_its_equivalent_value(region: Region) -> None:
    works = add_works(region, 1, industry_code="6450", variant=PUE)
    add_ratio(region, works, YEAR, "1.58", grain="year", output="10000000", variant=PUE)
    (row,) = ranking(region, domain=None, variant=PUE)["ranked"]
    assert row["benchmark"] == "1.3"
    assert row["distance_tce"] == "344.12"  # 0.28 x 10,000,000 kWh x 0.1229 kgce/kWh


def test_an_official_compares_the_own_district_only(region: Region) -> None:
    mine, other = add_works(region, 1), add_works(region, 2, district_code=JIZHOU)
    for works in (mine, other):
        add_ratio(region, works, MONTH, "107")
    region.key("official", "official", district_code=DONGLI)
    found = region.get("/ranking", who="official", domain=15, month="2025-11")
    assert isinstance(found, dict)
    assert [row["uscc"] for row in found["ranked"]] == [mine.uscc]
    assert found["peers"][0]["lines"] == 1


@pytest.mark.parametrize("query", [{}, {"month": "2025-11", "year": 2025}, {"quarter": "2025-Q5"}])
def test_one_period_is_named(region: Region, query: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {region.keys['operator']}"}
    answer = region.client.get("/api/v1/ranking", params={"domain": 15, **query}, headers=headers)
    assert answer.status_code == 422


def test_quarters_begin_and_end_where_they_should(region: Region) -> None:
    works = add_works(region, 1)
    add_ratio(region, works, date(2025, 10, 1), "107", grain="quarter")
    move(region, works, date(2026, 1, 1), JIZHOU, "3011")
    found = region.get("/ranking", domain=15, quarter="2025-Q4")
    assert isinstance(found, dict)
    assert [(row["period"], row["district_code"]) for row in found["ranked"]] == [("2025-10-01", DONGLI)]

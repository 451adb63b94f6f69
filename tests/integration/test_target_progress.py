"""Entered figures, targets and the progress of regions; coal and non-fossil share; energy saved."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.integration.region_site import (
    CITY_CODE,
    DONGLI,
    JIZHOU,
    Region,
    Works,
    add_energy,
    add_ratio,
    add_works,
    add_year,
    build,
    move,
)


@pytest.fixture
def region(engine: Engine, database_url: str) -> Region:
    found = build(engine, database_url)
    found.at = datetime(2027, 3, 1, tzinfo=UTC)
    return found


def figure(kind: str, year: int, value: str, district_code: str = DONGLI, **more: Any) -> dict[str, Any]:
    is_money = kind in ("gdp", "value_added")
    unit = "10^4 yuan" if is_money else "t" if kind == "coal" else "tce"
    prices = {"price_base_year": 2020} if is_money else {}
    return {"district_code": district_code, "kind": kind, "year": year, "value": value, "unit": unit,
            "source": f"统计公报 {year}", **prices, **more}  # fmt: skip


def enter(region: Region, *figures: dict[str, Any], status: int = 200) -> dict[str, Any]:
    return region.post("/entered-figures", {"figures": list(figures)}, status=status)


def aim(region: Region, reduction_pct: str, district_code: str = DONGLI) -> None:
    row = {"district_code": district_code, "base_year": 2020, "target_year": 2025, "reduction_pct": reduction_pct,
           "source": "区目标文件"}  # fmt: skip
    region.post("/targets", {"targets": [row]})


def progress(region: Region, code: str = DONGLI, who: str = "operator", **query: Any) -> dict[str, Any]:
    rows = region.get("/targets/progress", who=who, **query)
    assert isinstance(rows, list)
    return {row["code"]: row for row in rows}[code]


def test_progress_of_a_district_with_its_citations(region: Region) -> None:
    aim(region, "14.5")
    # 500 - 40 - 10 over 1,000 in 2020; 434 - 14 - 6 over 1,000 in 2023: 0.45 to 0.414, down by 8 %.
    enter(
        region, figure("gdp", 2020, "1000"), figure("energy", 2020, "500"), figure("feedstock_energy", 2020, "40"),
        figure("new_renewable_energy", 2020, "10"), figure("gdp", 2023, "1000"), figure("energy", 2023, "434"),
        figure("feedstock_energy", 2023, "14"), figure("new_renewable_energy", 2023, "6"),
    )  # fmt: skip
    row = progress(region, year=2023)
    assert (row["base"]["counted_tce"], row["base"]["intensity"]) == ("450", "0.45")
    assert (row["now"]["counted_tce"], row["now"]["intensity"]) == ("414", "0.414")
    assert (row["reduction_pct"], row["reason"]) == ("8", None)
    assert row["required_pct"].startswith("8.97102")
    assert row["yearly_rate_pct"].startswith("3.08450")
    by_method = {one["method"]: one for one in row["progress"]}
    assert by_method["logarithmic"]["done_pct"].startswith("53.226671547")
    assert by_method["linear"]["done_pct"].startswith("55.172413793")
    assert by_method["logarithmic"]["of_schedule_pct"].startswith("88.7")
    assert (row["rule_set"]["key"], row["warning_level"]) == ("2021H1", 2)
    assert row["rule_set"]["source"].startswith("发改办环资〔2021〕629号")
    # The gap is (8.971 - 8) / 8.971 = 10.8 % of what was required: level 1 by the other rule set.
    assert progress(region, year=2023, rule_set="2021Q1")["warning_level"] == 1
    assert {one["kind"] for one in row["base"]["sources"]} == {
        "gdp", "energy", "feedstock_energy", "new_renewable_energy",
    }  # fmt: skip
    assert row["target"]["source"] == "区目标文件"


def test_the_city_is_held_to_the_plan_itself(region: Region) -> None:
    enter(
        region, figure("gdp", 2020, "1000", CITY_CODE), figure("energy", 2020, "450", CITY_CODE),
        figure("gdp", 2021, "1000", CITY_CODE), figure("energy", 2021, "451.8", CITY_CODE),
    )  # fmt: skip
    row = progress(region, CITY_CODE, year=2021)
    assert (row["target"]["reduction_pct"], row["target"]["revision"]) == ("14.5", None)
    assert row["target"]["source"].startswith("天津市“十四五”节能减排工作实施方案")
    assert (row["reduction_pct"], row["warning_level"], row["required_pct"][:7]) == ("-0.4", 1, "3.08450")
    assert row["gap_pct"].startswith("112.96804")


def test_a_deduction_known_of_one_year_alone_gives_no_figure(region: Region) -> None:
    aim(region, "14.5")
    enter(
        region, figure("gdp", 2020, "1000"), figure("energy", 2020, "500"), figure("gdp", 2023, "1000"),
        figure("energy", 2023, "434"), figure("feedstock_energy", 2023, "14"),
    )  # fmt: skip
    row = progress(region, year=2023)
    assert (row["reduction_pct"], row["reason"], row["warning_level"]) == (None, "missing_deduction", None)
    enter(region, figure("feedstock_energy", 2020, "0"))
    assert progress(region, year=2023)["reduction_pct"] == "16"


def test_statistics_and_meters_are_never_compared_with_each_other(region: Region) -> None:
    works = add_works(region, 1)
    add_year(region, works, 2023, "36000", equal="36000")
    enter(region, figure("gdp", 2020, "1000"), figure("energy", 2020, "500"), figure("gdp", 2023, "1000"))
    row = progress(region, year=2023)
    assert (row["base"]["basis"], row["now"]["basis"], row["reason"]) == ("entered", "entered", "no_energy")


def test_measured_years_belong_to_the_district_of_each_month(region: Region) -> None:
    works, moved = add_works(region, 1), add_works(region, 2)
    move(region, moved, date(2025, 7, 1), JIZHOU, "3011")
    for year, kgce in ((2024, "40000"), (2025, "36000")):
        for one in (works, moved):
            add_year(region, one, year, kgce)
            add_year(region, one, year, "4000", carrier="naphtha", flow="feedstock")
        enter(region, figure("gdp", year, "1000"), figure("gdp", year, "2000", CITY_CODE))
    row = {"district_code": DONGLI, "base_year": 2024, "target_year": 2026, "reduction_pct": "5", "source": "x"}
    region.post("/targets", {"targets": [row]})
    found = progress(region, year=2025, conversion="equivalent")
    # 2024: 2 x 12 x 40 tce; 2025: 12 x 36 of the one and six months of the other. Feedstock left out of both.
    assert (found["base"]["counted_tce"], found["now"]["counted_tce"]) == ("960", "648")
    assert (found["base"]["feedstock_tce"], found["now"]["feedstock_tce"]) == ("96", "72")
    assert found["reduction_pct"] == "32.5"
    assert found["now"]["factor_sets"] == found["base"]["factor_sets"] == ["set"]
    assert progress(region, year=2025)["reason"] == "no_factor"  # no equal value was loaded for these carriers
    whole = progress(region, CITY_CODE, year=2025, conversion="equivalent")
    assert whole["now"]["counted_tce"] == "864"
    assert progress(region, JIZHOU, year=2025, conversion="equivalent")["now"]["counted_tce"] is None


def test_an_incomplete_year_is_none(region: Region) -> None:
    works = add_works(region, 1)
    add_year(region, works, 2024, "40000")
    add_energy(region, works, "month", date(2025, 1, 1), "40000")
    enter(region, figure("gdp", 2024, "1000"), figure("gdp", 2025, "1000"))
    aim(region, "14.5")
    assert progress(region, year=2025, conversion="equivalent")["now"]["intensity"] is None


def test_corrections_are_revisions(region: Region) -> None:
    assert enter(region, figure("gdp", 2023, "1000"))["added"] == 1
    assert enter(region, figure("gdp", 2023, "1000.00"))["unchanged"] == 1
    corrected = enter(region, figure("gdp", 2023, "1010", source="统计年鉴 2024"))
    assert corrected["changes"] == [f"~ gdp 2023 of {DONGLI}: 1010 10^4 yuan (was 1000)"]
    found = region.get("/entered-figures", year=2023, kind="gdp", history=True)
    assert isinstance(found, dict)
    assert [(row["revision"], row["value"], row["source"]) for row in found["items"]] == [
        (2, "1010", "统计年鉴 2024"), (1, "1000", "统计公报 2023"),
    ]  # fmt: skip


def test_bad_figures_are_all_named_and_none_is_written(region: Region) -> None:
    refused = enter(
        region, figure("gdp", 2023, "1"), figure("gdp", 2023, "2"), figure("energy", 2028, "1"),
        figure("energy", 2023, "1", "999999"), status=422,
    )  # fmt: skip
    assert {error["location"] for error in refused["errors"]} == {
        "figures[1]", "figures[2].year", "figures[3].district_code",
    }  # fmt: skip
    for wrong in ({"unit": "tce"}, {"price_base_year": None}, {"uscc": "91120000MA0000001Q"}):
        enter(region, {**figure("gdp", 2023, "1"), **wrong}, status=422)
    with region.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM entered_figure")).scalar() == 0


def test_an_official_sees_the_own_district_and_an_enterprise_no_region(region: Region) -> None:
    works = add_works(region, 1)
    region.key("official", "official", district_code=JIZHOU)
    region.key("works", "enterprise", enterprise_id=works.id)
    enter(region, figure("gdp", 2023, "1000"), figure("gdp", 2023, "7", JIZHOU))
    rows = region.get("/targets/progress", who="official", year=2023)
    assert [row["code"] for row in rows] == [JIZHOU]  # type: ignore[union-attr, index]
    figures = {who: region.get("/entered-figures", who=who)["items"] for who in ("official", "works", "operator")}  # type: ignore[index]
    assert [len(figures[who]) for who in ("official", "works", "operator")] == [1, 0, 2]
    headers = {"Authorization": f"Bearer {region.keys['works']}"}
    assert region.client.get("/api/v1/targets/progress", headers=headers).status_code == 403
    assert len(region.csv("/targets/progress", year=2023)) == 18


def test_coal_and_non_fossil_share_from_carriers(region: Region) -> None:
    works = add_works(region, 1)
    for year, coal_kgce, biofuel in ((2020, "71430", "5000"), (2025, "64287", "9000")):
        month = date(year, 6, 1)
        add_energy(region, works, "month", month, coal_kgce, quantity=str(int(coal_kgce) * 1000 // 714.3).split(".")[0])
        add_energy(region, works, "month", month, "971.4", carrier="coke", quantity="1000")
        add_energy(region, works, "month", month, biofuel, carrier="biofuel", quantity="1")
    # One month of 2025 beside one of 2020 is no year beside a year.
    rows = region.get("/structure", base_year=2020, year=2025, conversion="equivalent")
    found = {row["code"]: row for row in rows}[DONGLI]  # type: ignore[union-attr, index]
    assert (found["coal_t"], found["coal_reduction_pct"], found["reason"]) == ("90", None, "incomplete_year")
    assert found["non_fossil_rise_points"] is None
    for year in (2020, 2025):
        for month in (date(year, number, 1) for number in range(1, 13) if number != 6):
            add_energy(region, works, "month", month, "0")
    rows = region.get("/structure", base_year=2020, year=2025, conversion="equivalent")
    assert isinstance(rows, list)
    found = {row["code"]: row for row in rows}[DONGLI]
    assert (found["coal_base_t"], found["coal_t"], found["coal_reduction_pct"]) == ("100", "90", "10")  # coke apart
    assert (found["reason"], found["non_fossil_rise_points"][:4]) == (None, "5.66")
    assert found["non_fossil_base_share_pct"].startswith("6.459831")  # 5,000 of 77,401.4
    assert found["non_fossil_share_pct"].startswith("12.119")
    city = {row["code"]: row for row in rows}[CITY_CODE]
    assert {one["target_key"]: one["value"] for one in city["targets"]} == {
        "coal_consumption": "10", "non_fossil_share": "4",
    }  # fmt: skip
    # Statistics, where they are entered, stand for both years.
    enter(region, figure("coal", 2020, "100000"), figure("coal", 2025, "91000"))
    again = region.get("/structure", base_year=2020, year=2025, conversion="equivalent")
    stated = {row["code"]: row for row in again}[DONGLI]  # type: ignore[union-attr, index]
    assert (stated["coal_basis"], stated["coal_reduction_pct"]) == ("entered", "9")


def test_energy_saved_of_example_5_3(region: Region) -> None:
    works: Works = add_works(region, 1)
    add_ratio(region, works, date(2025, 1, 1), "102", grain="year", output="900000")
    add_ratio(region, works, date(2026, 1, 1), "98.5", grain="year", output="985000")
    without_base = add_works(region, 2)
    add_ratio(region, without_base, date(2026, 1, 1), "98.5", grain="year", output="985000")
    rows = region.get("/energy-saved", base_year=2025, year=2026)
    assert [(row["uscc"], row["saved_tce"], row["method"]) for row in rows] == [  # type: ignore[union-attr, index]
        (works.uscc, "3447.5", "product"), (without_base.uscc, None, "product"),
    ]  # fmt: skip
    assert rows[1]["lines"][0]["left_out_because"] == "no_base_year"  # type: ignore[index]
    assert len(region.csv("/energy-saved", base_year=2025, year=2026)) == 3

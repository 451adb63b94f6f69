"""New editions of levels, limits and corrections: brought in as a whole, and what becomes of old periods."""

import time
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api.access import now as api_now
from app.db.access import create_key
from app.domain import calendar
from app.errors import Invalid
from app.intake import levels, reference_load
from app.main import create_app
from app.pipeline import account, benchmark
from app.reference import tables
from app.settings import Settings
from tests.integration import accounting_city as city

D = Decimal
MAY, JUNE, JULY, AUGUST = (date(2026, month, 1) for month in (5, 6, 7, 8))
KNOWN = datetime(2026, 9, 20, tzinfo=UTC)  # all four months are published
LATER = datetime(2026, 11, 20, tzinfo=UTC)
HEADER = (
    "variant_key,benchmark,baseline,referenced_standard,deadline_on,note,source,edition,confidence,valid_from,valid_to"
)
SECOND = f"{HEADER}\n{city.CLINKER},90,105,GB 16780,,,document of 2026,second,confirmed,2026-06-15,\n"


@pytest.fixture
def plant(engine: Engine) -> city.Plant:
    """A kiln at 107.145 kgce/t from May to August: between the levels of the first edition."""
    city.load_reference(engine)
    with engine.begin() as connection:
        made = city.add_plant(connection)
    for month in (MAY, JUNE, JULY, AUGUST):
        with engine.begin() as connection:
            found = connection.execute(text("SELECT id FROM point WHERE code = 'COAL'")).scalar()
            point_id = found or city.add_point(connection, made, "COAL", "raw_coal", "kg")
            city.report(connection, made, month, str(city.use_month(connection, point_id, month, "150")))
        city.mark_account(engine, made.kiln_id, *calendar.month_bounds(month))
    city.settle(engine, KNOWN)
    return made


@pytest.fixture
def client(engine: Engine, database_url: str) -> TestClient:
    """The API as an operator sees it."""
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    app.dependency_overrides[api_now] = lambda: LATER
    with engine.begin() as connection:
        key = create_key(connection, "operator", "operator")
    return TestClient(app, headers={"Authorization": f"Bearer {key}", "Accept-Language": "en"})


def bring_in(engine: Engine, content: str, *, now: datetime = LATER, is_dry_run: bool = False) -> levels.EditionReport:
    with engine.begin() as connection:
        return levels.bring_in(connection, content, actor="admin", now=now, is_dry_run=is_dry_run)


def judged(engine: Engine, grain: str = "month") -> dict[date, tuple[str, Decimal, Decimal]]:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT period, status, benchmark, baseline FROM ratio WHERE grain = :g ORDER BY period"), {"g": grain}
        ).all()
    return {row.period: (row.status, row.benchmark, row.baseline) for row in rows}


def counts(engine: Engine) -> tuple[int, ...]:
    with engine.connect() as connection:
        statement = (
            "SELECT {} FROM efficiency_level, (SELECT count(*) AS n FROM stale) s, (SELECT count(*) AS a FROM audit) t"
        )
        return tuple(
            connection.execute(
                text(statement.format("count(*), count(superseded_at), min(s.n), min(t.a), max(efficiency_level.id)"))
            ).one()
        )


def test_a_second_edition_in_mid_year_leaves_the_periods_before_it(engine: Engine, plant: city.Plant) -> None:
    before = counts(engine)
    shown = bring_in(engine, SECOND, is_dry_run=True)
    assert counts(engine) == before  # a dry run writes nothing
    assert (shown.table, shown.inserted, shown.superseded, shown.lines, shown.months) == (
        "efficiency_level",
        1,
        0,
        1,
        2,
    )
    (change,) = shown.changes
    assert change.before == "benchmark 100, baseline 117 (2021/2023, confirmed)"
    assert change.after == "benchmark 90, baseline 105 from 2026-06-15 (second, confirmed)"
    assert change.statuses == {"between → below_baseline": 2}
    done = bring_in(engine, SECOND)
    assert (done.changes, done.is_dry_run) == (shown.changes, False)
    with engine.connect() as connection:
        marks = connection.execute(
            text("SELECT subject_id, from_at, to_at, cause FROM stale WHERE stage = 'benchmark'")
        ).all()
    bounds = (calendar.month_bounds(JULY)[0], calendar.month_bounds(AUGUST)[1])
    assert [tuple(mark) for mark in marks] == [(plant.line_id, *bounds, "edition")]
    city.settle(engine, LATER)
    old, new = ("between", 100, 117), ("below_baseline", 90, 105)
    assert judged(engine) == {MAY: old, JUNE: old, JULY: new, AUGUST: new}
    assert judged(engine, "quarter") == {date(2026, 4, 1): old, JULY: new}
    assert judged(engine, "year") == {date(2026, 1, 1): old}


def test_as_of_and_citations_tell_the_editions_apart(engine: Engine, plant: city.Plant, client: TestClient) -> None:
    bring_in(engine, SECOND)
    city.settle(engine, LATER)
    question = {"line_id": plant.line_id, "to_month": "2026-08"}
    now = client.get("/api/v1/ratios", params=question).json()["items"]
    assert [(row["period"], row["level_edition"], row["status"]) for row in now] == [
        ("2026-08-01", "second", "below_baseline"), ("2026-07-01", "second", "below_baseline"),
        ("2026-06-01", "2021/2023", "between"), ("2026-05-01", "2021/2023", "between"),
    ]  # fmt: skip
    then = client.get("/api/v1/ratios", params={**question, "as_of": KNOWN.isoformat()}).json()["items"]
    assert {(row["level_edition"], row["benchmark"], row["status"]) for row in then} == {
        ("2021/2023", "100", "between")
    }
    # A period over both editions keeps that of its first month; one that begins under the second is judged by it.
    spans = {
        (grain, month): client.get("/api/v1/ratios/period", params={"grain": grain, "month": month}).json()["items"][0]
        for grain, month in (
            ("year_to_date", "2026-08"), ("year", "2026-08"), ("rolling_12_months", "2026-08"),
            ("rolling_12_months", "2027-06"), ("quarter", "2026-06"), ("quarter", "2026-08"),
        )
    }  # fmt: skip
    assert [(row["level_edition"], row["benchmark"], row["level_valid_from"]) for row in spans.values()] == [
        *[("2021/2023", "100", None)] * 3, ("second", "90", "2026-06-15"), ("2021/2023", "100", None),
        ("second", "90", "2026-06-15"),
    ]  # fmt: skip
    explained = client.get("/api/v1/explain/ratio", params={"line_id": plant.line_id, "period": "2026-07"}).json()
    assert explained["level"]["edition"] == "second"
    levels_at = [
        client.get("/api/v1/reference/levels", params={"domain": 15, **more}).json()
        for more in ({"on": "2026-06-14"}, {"on": "2026-06-15"}, {"on": "2026-07-01", "as_of": KNOWN.isoformat()}, {})
    ]
    assert [[level["edition"] for level in found] for found in levels_at] == [
        ["2021/2023"], ["second"], ["2021/2023"], ["2021/2023", "second"],
    ]  # fmt: skip
    assert levels_at[1][0]["recorded_by"] == "admin"
    assert levels_at[1][0]["recorded_at"] == "2026-11-20T08:00:00+08:00"


def test_the_same_file_again_changes_nothing(engine: Engine, plant: city.Plant) -> None:
    bring_in(engine, SECOND)
    city.settle(engine, LATER)
    before, figures = counts(engine), judged(engine)
    again = bring_in(engine, SECOND, now=LATER + timedelta(days=1))
    assert (again.inserted, again.superseded, again.unchanged, again.months, again.changes) == (0, 0, 1, 0, [])
    assert counts(engine) == before
    for table in levels.levels.TABLES:
        content = (tables.FOLDER / tables.FILES[table][0]).read_text(encoding="utf-8")
        assert bring_in(engine, content).changes == [], table
    with engine.begin() as connection:
        reference_load.load(connection, LATER + timedelta(days=2))
    city.settle(engine, LATER + timedelta(days=2))
    assert (counts(engine), judged(engine)) == (before, figures)


def test_a_row_put_right_supersedes_its_first_version(engine: Engine, plant: city.Plant, client: TestClient) -> None:
    bring_in(engine, SECOND)
    city.settle(engine, LATER)
    later = LATER + timedelta(days=9)
    report = bring_in(engine, SECOND.replace(",90,105,", ",90,108,"), now=later)
    assert (report.inserted, report.superseded, report.months) == (0, 1, 2)
    city.settle(engine, later)
    assert judged(engine)[JULY] == ("between", 90, 108)
    asked = {"line_id": plant.line_id, "to_month": "2026-07", "from_month": "2026-07"}
    then = client.get("/api/v1/ratios", params={**asked, "as_of": (LATER + timedelta(days=1)).isoformat()}).json()
    assert [(row["baseline"], row["level_edition"]) for row in then["items"]] == [("105", "second")]
    first = client.get(
        "/api/v1/reference/levels", params={"domain": 15, "on": "2026-07-01", "as_of": LATER.isoformat()}
    ).json()
    assert [(level["baseline"], level["superseded_at"]) for level in first] == [("105", "2026-11-29T08:00:00+08:00")]
    # What an administrator brought in goes before what comes with the project.
    own = f"{HEADER}\n{city.CLINKER},99,116,GB 16780,2025-12-31,,own reading,2021/2023,recalled,,\n"
    assert bring_in(engine, own, now=later).superseded == 1
    with engine.begin() as connection:
        assert not any(r.inserted or r.updated for r in reference_load.load(connection, later))


BAD = f"""{HEADER}
{city.CLINKER},90,105,GB 16780,,,document,third,confirmed,2026-06-15,
no-such-product,1,2,,,,document,third,confirmed,2026-06-15,
ndrc723-1-refinery,nine,8.5,,,,document,third,confirmed,2026-06-15,
ndrc723-5-syngas-route,1400,1350,,,,document,third,certain,2026-06-15,
ndrc723-8-calcium-carbide,900,800,,,,,,confirmed,2026-06-15,2026-06-01
ndrc723-10-para-xylene,NaN,550,,,,document,third,confirmed,2026-13-15,
ndrc723-30-pta,,,,,,document,third,confirmed,,
ndrc723-20-converter-bof-process,-10,-30,,,,document,third,confirmed,2026-06-15,
{city.CLINKER},91,105,GB 16780,,,document,third,confirmed,2026-06-15,
"""


def test_a_bad_row_changes_nothing_and_all_bad_rows_are_listed(
    engine: Engine, plant: city.Plant, client: TestClient
) -> None:
    before = counts(engine)
    with pytest.raises(Invalid) as refused:
        bring_in(engine, BAD)
    found = {(e["location"], e["message"].split(":")[0]) for e in refused.value.extra["errors"]}
    lines = {location.split(",")[0] for location, _ in found}
    assert lines == {f"line {n}" for n in (3, 4, 5, 6, 7, 8, 9, 10)}
    assert ("line 4, benchmark", "'nine' is not a number such as 100 or -30.5, or empty") in found
    assert ("line 6, source", "say where the figures come from") in found
    assert ("line 6, edition", "say which edition this is") in found
    assert ("line 6, valid_to", "2026-06-01 is not after valid_from 2026-06-15") in found
    assert ("line 9, baseline", "baseline -30 is stricter than benchmark -10") in found
    assert ("line 10", "the same variant_key, edition, valid_from as rows[0]") in found
    assert counts(engine) == before
    answer = client.post("/api/v1/reference/levels/import", content=BAD, headers={"Content-Type": "text/csv"})
    assert (answer.status_code, len(answer.json()["errors"])) == (422, len(found))
    assert counts(engine) == before


def test_two_editions_from_one_day_are_refused(engine: Engine, plant: city.Plant) -> None:
    undated = f"{HEADER}\n{city.CLINKER},90,105,GB 16780,,,document,second,confirmed,,\n"
    with pytest.raises(Invalid) as refused:
        bring_in(engine, undated)
    (error,) = refused.value.extra["errors"]
    assert error["location"] == "line 2, valid_from"
    assert error["message"] == "edition '2021/2023' holds without a date too: say from when this one holds"


@pytest.mark.parametrize("content", ["", HEADER, "a,b\n1,2\n", f"{HEADER},more\n"])
def test_a_file_that_is_none_is_refused(engine: Engine, content: str) -> None:
    with pytest.raises(Invalid):
        bring_in(engine, content)


def test_columns_that_lack_and_columns_too_many_are_told_apart(engine: Engine) -> None:
    odd = HEADER.replace("valid_to", "until")
    with pytest.raises(Invalid, match=r"efficiency_levels\.csv of app/reference there are missing: .*; unknown: until"):
        bring_in(engine, f"{odd}\n")


def test_limits_grade_a_line_and_a_new_edition_grades_it_anew(engine: Engine, plant: city.Plant) -> None:
    def grades() -> list[tuple[str | None, Decimal]]:
        with engine.connect() as connection:
            rows = connection.execute(
                text("SELECT quota_grade, quota_level_3 FROM ratio WHERE grain = 'month' ORDER BY period")
            ).all()
        return [tuple(row) for row in rows]

    assert grades() == [("3", 117)] * 4  # 107.145: over level 2 of GB 16780-2021
    columns = ",".join(f.name for f in tables.fields(tables.QuotaLimit))
    row = dict.fromkeys(columns.split(","), "")
    row |= {
        "family": "GB_QUOTA", "domain_zh": "水泥", "domain_en": "cement", "product_zh": "水泥熟料",
        "product_en": "clinker", "indicator_zh": "单位产品综合能耗", "unit": "kgce/t", "level_1": "95",
        "level_2": "100", "level_3": "107", "direction": "lower_is_better",
        "standard": "GB 16780-2026", "variant_key": city.CLINKER,
        "source": "test", "edition": "GB 16780-2026", "confidence": "confirmed", "valid_from": "2026-08-01",
    }  # fmt: skip
    content = f"{columns}\n{','.join(row.values())}\n"
    report = bring_in(engine, content)
    assert (report.table, report.inserted, report.months) == ("quota_limit", 1, 1)
    city.settle(engine, LATER)
    assert grades() == [("3", 117)] * 3 + [("none", 107)]
    with pytest.raises(Invalid) as refused:
        bring_in(engine, content.replace("kgce/t", "kWh/t").replace(",95,", ",105,"))
    assert [e["location"] for e in refused.value.extra["errors"]] == ["line 2, level_2", "line 2, unit"]


def test_conditions_of_a_line_correct_its_limits_from_their_month_on(
    engine: Engine, client: TestClient, database_url: str
) -> None:
    city.load_reference(engine)
    with engine.begin() as connection:
        plant = city.add_plant(connection, variant_key="gb16780-cement")
    for month in (MAY, JUNE, JULY):
        city.over_baseline(engine, plant, "132", month)  # 94.2876 kgce/t, over level 3: 94

    def grades() -> list[tuple[str | None, Decimal, str]]:
        with engine.connect() as connection:
            rows = connection.execute(
                text(
                    "SELECT quota_grade, quota_level_3, status FROM ratio WHERE grain = 'month'"
                    " AND period <= '2026-07-01' ORDER BY period"
                )
            ).all()
        return [tuple(row) for row in rows]

    assert grades() == [("none", 94, "unknown")] * 3  # a product without a level is never at the benchmark
    item = {"line_id": plant.line_id, "input_key": "clinker_share", "from_month": "2026-06", "value": "78",
            "evidence": "mill log"}  # fmt: skip
    assert client.post("/api/v1/correction-inputs", json={"inputs": [item]}).json() == {"accepted": 1, "unchanged": 0}
    assert client.post("/api/v1/correction-inputs", json={"inputs": [item]}).json() == {"accepted": 0, "unchanged": 1}
    city.settle(engine, LATER)
    assert grades() == [("none", 94, "unknown"), ("3", D("97.6"), "unknown"), ("3", D("97.6"), "unknown")]
    row = client.get("/api/v1/ratios", params={"from_month": "2026-07", "to_month": "2026-07"}).json()["items"][0]
    assert row["corrections"][2] == {
        "input_key": "clinker_share", "level": "3", "value": "78", "points": "3", "added": "3.60",
    }  # fmt: skip
    back = {**item, "from_month": "2026-07", "value": "75"}
    client.post("/api/v1/correction-inputs", json={"inputs": [back]})
    city.settle(engine, LATER)
    assert [level for _, level, _ in grades()] == [94, D("97.6"), 94]
    quarter = client.get("/api/v1/ratios/period", params={"grain": "quarter", "month": "2026-06"}).json()["items"][0]
    assert D("94") < D(quarter["quota_level_3"]) < D("97.6")  # May as printed, June corrected
    withdrawn = {key: value for key, value in item.items() if key != "value"}
    client.post("/api/v1/correction-inputs", json={"inputs": [withdrawn]})
    city.settle(engine, LATER)
    assert [level for _, level, _ in grades()] == [94, 94, 94]
    bad = client.post(
        "/api/v1/correction-inputs",
        json={
            "inputs": [{**item, "input_key": "ore_grade"}, {**item, "line_id": 999}, {**item, "from_month": "2027-01"}]
        },
    )
    assert [e["location"] for e in bad.json()["errors"]] == [
        "inputs[0].input_key", "inputs[1].line", "inputs[2].from_month",
    ]  # fmt: skip


def test_a_month_that_is_judged_while_an_edition_comes_in_is_judged_by_it(engine: Engine, plant: city.Plant) -> None:
    september = date(2026, 9, 1)
    with engine.begin() as connection:
        point_id = connection.execute(text("SELECT id FROM point WHERE code = 'COAL'")).scalar_one()
        city.report(connection, plant, september, str(city.use_month(connection, point_id, september, "150")))
    city.mark_account(engine, plant.kiln_id, *calendar.month_bounds(september))
    while account.run(engine, LATER):
        pass
    with ThreadPoolExecutor(2) as pool, engine.connect() as blocker:
        blocker.execute(text("LOCK TABLE ratio IN SHARE MODE"))  # levels can be read, figures not be written
        judging = pool.submit(benchmark.run, engine, LATER)
        wait_for_lock(engine)
        importing = pool.submit(bring_in, engine, SECOND)
        wait([importing], timeout=1)
        blocker.rollback()
        assert (judging.result(10), importing.result(10).inserted) == (1, 1)
    city.settle(engine, LATER)
    assert judged(engine)[september] == ("below_baseline", 90, 105)


def wait_for_lock(engine: Engine) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    deadline = time.monotonic() + 10
    with engine.connect() as connection:
        while connection.execute(waiting).scalar_one() == 0:
            assert time.monotonic() < deadline
            connection.rollback()
            time.sleep(0.02)

"""The fault clock of findings, the calendar it runs by, and the list of findings over HTTP."""

from datetime import UTC, date, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api import access
from app.db.access import create_key
from app.domain.calendar import day_start
from app.errors import Invalid
from app.intake import working_days
from app.intake.rows import parse_csv
from app.intake.working_days import CalendarEntry
from app.main import create_app
from app.settings import Settings
from tests.integration import rollup_site as site
from tests.integration.validated_site import DAY, noon_after, one_finding, read_day, settle


@pytest.fixture
def plant(engine: Engine) -> site.Site:
    with engine.begin() as connection:
        return site.add_site(connection)


def test_the_clock_runs_by_the_official_calendar_once_it_is_loaded(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        site.add_point(connection, plant, "E001")
    settle(engine, noon_after(DAY))
    assert one_finding(engine, "incomplete")["due_on"] == date(2026, 11, 9)
    content = "day,is_workday,name_zh,source\n2026-11-05,false,测试假日,test notice\n2026-11-07,true,调休,test notice\n"
    entries, places = parse_csv(content, "calendar", CalendarEntry)
    with engine.begin() as connection:
        shown = working_days.report(connection, entries, actor="t", places=places, is_dry_run=True)
        assert (shown.added, connection.execute(text("SELECT count(*) FROM calendar_day")).scalar_one()) == (2, 0)
        assert working_days.report(connection, entries, actor="t", places=places).added == 2
        assert working_days.report(connection, entries, actor="t", places=places).unchanged == 2
    settle(engine, noon_after(DAY) + timedelta(minutes=5))
    finding = one_finding(engine, "incomplete")
    # Found on Wednesday the 4th: Thursday is a holiday, Friday 1, Saturday made up 2, Monday 3.
    assert (finding["due_on"], "calendar" in finding["detail"]) == (date(2026, 11, 9), False)
    moved = "day,is_workday,source\n2026-11-07,false,amended notice\n"
    entries, places = parse_csv(moved, "calendar", CalendarEntry)
    with engine.begin() as connection:
        changes = working_days.report(connection, entries, actor="t", places=places).changes
    assert changes == ["~ 2026-11-07 holiday (was workday)"]
    settle(engine, noon_after(DAY) + timedelta(minutes=10))
    assert one_finding(engine, "incomplete")["due_on"] == date(2026, 11, 10)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM audit WHERE action = 'calendar.import'")).scalar() == 2


def test_a_calendar_with_bad_rows_is_refused_whole(engine: Engine) -> None:
    twice = "day,is_workday,source\n2026-11-07,true,a\n2026-11-07,false,a\n"
    entries, places = parse_csv(twice, "calendar", CalendarEntry)
    with pytest.raises(Invalid) as refused, engine.begin() as connection:
        working_days.report(connection, entries, actor="t", places=places)
    assert refused.value.extra["errors"][0]["location"] == "line 3"
    with pytest.raises(Invalid):
        parse_csv("day,is_workday,source\n2026-13-07,perhaps,\n", "calendar", CalendarEntry)


def test_findings_of_metering_get_a_clock_and_keep_it(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
        read_day(connection, plant, point_id, DAY, first=5000.0)
        connection.execute(
            text("UPDATE reading SET value = value - 4900 WHERE ts > :at"), {"at": day_start(DAY) + timedelta(hours=12)}
        )
    settle(engine, noon_after(DAY))
    before = one_finding(engine, "reset")
    assert before["due_on"] is not None
    assert before["detail"]["calendar"] == "weekends only"
    with engine.begin() as connection:
        site.mark(connection, plant, (day_start(DAY), day_start(DAY) + timedelta(days=1)))
    settle(engine, noon_after(DAY) + timedelta(minutes=5))
    assert one_finding(engine, "reset") == before


def test_a_rollover_is_noted_and_has_no_clock(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001", installations=[{"digits": 5}])
        read_day(connection, plant, point_id, DAY, first=99_950.0)
        connection.execute(text("UPDATE reading SET value = value - 100000 WHERE value >= 100000"))
    settle(engine, noon_after(DAY))
    finding = one_finding(engine, "rollover")
    assert (finding["due_on"], finding["closed_at"], "calendar" in finding["detail"]) == (None, None, False)
    with engine.connect() as connection:
        assert site.table(connection, "usage_day", point_id)[DAY][0] == 96  # it is counted


@pytest.fixture
def client(engine: Engine, database_url: str, plant: site.Site) -> TestClient:
    with engine.begin() as connection:
        site.add_point(connection, plant, "E001")
        key = create_key(connection, "duty", "regulator")
    for day in (DAY, DAY + timedelta(days=1)):
        settle(engine, noon_after(day))
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    app.dependency_overrides[access.now] = lambda: datetime(2026, 11, 11, tzinfo=UTC)
    return TestClient(app, headers={"Authorization": f"Bearer {key}", "Accept-Language": "en"})


def test_the_list_pages_filters_and_flags_what_is_overdue(client: TestClient, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE finding SET due_on = '2026-11-11' WHERE from_at = :at"), {"at": day_start(DAY)})
        connection.execute(text("UPDATE finding SET due_on = '2026-11-10' WHERE from_at > :at"), {"at": day_start(DAY)})
    answer = client.get("/api/v1/findings?limit=1")
    assert answer.status_code == 200, answer.text
    first = answer.json()
    second = client.get("/api/v1/findings", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    rows = first["items"] + second["items"]
    assert (second["next_cursor"], [row["is_overdue"] for row in rows]) == (None, [True, False])
    assert (rows[0]["title_zh"], rows[0]["grain"], rows[0]["point"]) == ("完整率低于90%", "day", "E001")
    for query, count in (
        ("overdue=true", 1), ("overdue=false", 1), ("open=true", 2), ("open=false", 0), ("reason=incomplete", 2),
        ("reason=frozen", 0), ("point=E001&gateway=gw-001", 2), ("point=E002", 0), ("enterprise_id=99", 0),
    ):  # fmt: skip
        assert len(client.get(f"/api/v1/findings?{query}").json()["items"]) == count, query


def test_a_finding_is_closed_by_hand_once(client: TestClient, engine: Engine) -> None:
    finding_id = client.get("/api/v1/findings").json()["items"][0]["id"]
    assert client.post(f"/api/v1/findings/{finding_id}/close", json={"note": " "}).status_code == 422
    done = client.post(f"/api/v1/findings/{finding_id}/close", json={"note": "works were idle"}).json()
    assert (done["closed_by"], done["note"], done["is_overdue"]) == ("duty", "works were idle", False)
    again = client.post(f"/api/v1/findings/{finding_id}/close", json={"note": "once more"})
    assert (again.status_code, again.json()["type"]) == (409, "/problems/conflict")
    assert client.post("/api/v1/findings/4711/close", json={"note": "x"}).status_code == 404
    with engine.connect() as connection:
        audited = connection.execute(text("SELECT actor, subject FROM audit WHERE action = 'finding.close'")).all()
    assert [tuple(row) for row in audited] == [("duty", str(finding_id))]

"""Outputs, heating values and conditions of a closed year: an operator's, with a reason; equal rows are nobody's."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api.access import now as api_now
from app.db.access import create_key
from app.intake import registry
from app.intake.registry import Report
from app.intake.registry_file import check_shape
from app.main import create_app
from app.settings import Settings
from deploy.local.processes import wait_until
from simulators.outputs import OutputReporter
from simulators.plan import registry as registry_of
from simulators.truth import City, number_of
from tests.integration import accounting_city as city
from tests.integration.served_site import served

CLOSED = datetime(2027, 4, 5, 4, 0, tzinfo=UTC)  # 2026 is closed since the 1st
WHY = "court order 2027-7"
Client = Callable[..., TestClient]
OUTPUTS, LOTS, CONDITIONS = "/api/v1/outputs", "/api/v1/heating-values", "/api/v1/correction-inputs"
# path -> (table, what its audit rows are called, where the period of a row is)
REPORTS = {
    OUTPUTS: ("output", "outputs.report", "outputs[{}].period"),
    LOTS: ("measured_lhv", "heating_values.report", "lots[{}].month"),
    CONDITIONS: ("correction_input", "corrections.report", "inputs[{}].from_month"),
}


@pytest.fixture
def plant(engine: Engine) -> city.Plant:
    city.load_reference(engine)
    with engine.begin() as connection:
        return city.add_plant(connection, variant_key="gb16780-cement")


@pytest.fixture
def client(engine: Engine, database_url: str, plant: city.Plant) -> Client:
    """Make a client of a role, the enterprise's own key among them, at an instant."""
    with engine.begin() as connection:
        keys = {
            "operator": create_key(connection, "operator", "operator"),
            "enterprise": create_key(connection, "works", "enterprise", enterprise_id=plant.enterprise_id),
        }

    def make(role: str, *, now: datetime = CLOSED, language: str = "en") -> TestClient:
        app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
        app.dependency_overrides[api_now] = lambda: now
        return TestClient(app, headers={"Authorization": f"Bearer {keys[role]}", "Accept-Language": language})

    return make


def body(plant: city.Plant, path: str, *rows: tuple[str, str], reason: str | None = None) -> dict[str, Any]:
    """A report of rows given as (month, value)."""
    if path == OUTPUTS:
        given = [
            {"line_id": plant.line_id, "grain": "month", "period": month, "value": value, "unit": "t"}
            for month, value in rows
        ]
    elif path == LOTS:
        named = {"process_unit_id": plant.kiln_id, "carrier": "raw_coal", "lot": "A", "unit": "t", "evidence": "report"}
        given = [{**named, "month": month, "mass": "1200", "lhv_kj": value} for month, value in rows]
    else:
        named = {"line_id": plant.line_id, "input_key": "clinker_share", "evidence": "mill log"}
        given = [{**named, "from_month": month, "value": value} for month, value in rows]
    name = {OUTPUTS: "outputs", LOTS: "lots", CONDITIONS: "inputs"}[path]
    return {name: given} | ({} if reason is None else {"closed_year_reason": reason})


def counted(engine: Engine, *tables: str) -> list[int]:
    with engine.connect() as connection:
        return [int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()) for table in tables]


def details(engine: Engine, action: str) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        asked = text("SELECT detail FROM audit WHERE action = :action ORDER BY id")
        return list(connection.execute(asked, {"action": action}).scalars())


@pytest.mark.parametrize("path", REPORTS)
def test_a_closed_year_takes_an_operator_and_a_reason(
    engine: Engine, client: Client, plant: city.Plant, path: str
) -> None:
    table, action, location = REPORTS[path]
    both = (
        (("2027-01", "20000"), ("2026-12", "21000")) if path != CONDITIONS else (("2027-01", "78"), ("2026-12", "77"))
    )
    untouched = counted(engine, table, "stale", "audit")
    for role, reason in (("enterprise", None), ("enterprise", WHY), ("operator", None), ("operator", " ")):
        answer = client(role).post(path, json=body(plant, path, *both, reason=reason))
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden"), answer.text
        assert answer.json()["errors"] == [{"location": location.format(1), "message": "year 2026 is closed"}]
        said = "only an operator" if role == "enterprise" else "say in closed_year_reason"
        assert said in answer.json()["detail"]
        assert counted(engine, table, "stale", "audit") == untouched
    chinese = client("enterprise", language="zh").post(path, json=body(plant, path, *both))
    assert "2026 年度已关账：仅运维人员" in chinese.json()["detail"]
    done = client("operator").post(path, json=body(plant, path, *both, reason=WHY))
    assert (done.status_code, done.json()) == (200, {"accepted": 2, "unchanged": 0})
    assert details(engine, action)[-1]["closed_years"] == {"2026": WHY}
    # What is there already is nobody's change, and the open year is the enterprise's own.
    again = client("enterprise").post(path, json=body(plant, path, *both))
    assert again.json() == {"accepted": 0, "unchanged": 2}
    open_year = body(plant, path, (both[0][0], both[1][1]), both[1])
    assert client("enterprise").post(path, json=open_year).json() == {"accepted": 1, "unchanged": 1}
    assert ["closed_years" in detail for detail in details(engine, action)] == [True, False, False]


@pytest.mark.parametrize("path", [LOTS, CONDITIONS])
def test_withdrawing_from_a_closed_year_is_a_change_of_it(client: Client, plant: city.Plant, path: str) -> None:
    row = ("2026-12", "21000" if path == LOTS else "77")
    before = datetime(2027, 3, 31, 15, 59, tzinfo=UTC)  # the last minute of 31 March in Tianjin
    report = body(plant, path, row)
    assert client("enterprise", now=before).post(path, json=report).json() == {"accepted": 1, "unchanged": 0}
    (entry,) = next(iter(report.values()))
    for name in ("mass", "unit", "lhv_kj", "value"):
        entry.pop(name, None)
    assert client("enterprise").post(path, json=report).status_code == 403
    assert client("operator").post(path, json=report | {"closed_year_reason": WHY}).json()["accepted"] == 1


@pytest.mark.parametrize(
    ("grain", "period", "now_zh", "is_closed"),
    [
        ("day", "2026-12-31", "2027-04-01T00:00:00", True),
        ("day", "2026-12-31", "2027-03-31T23:59:59", False),
        ("day", "2027-01-01", "2027-04-05T12:00:00", False),  # its midnight is the last register of 2026
        ("day", "2026-01-01", "2027-03-31T12:00:00", False),
        ("month", "2027-01", "2027-04-05T12:00:00", False),
        ("month", "2026-12", "2027-04-05T12:00:00", True),
        ("year", "2027", "2027-04-05T12:00:00", False),
        ("year", "2026", "2027-04-05T12:00:00", True),
        ("year", "2026", "2027-03-31T12:00:00", False),
    ],
)
def test_a_period_belongs_to_its_calendar_year(
    client: Client, plant: city.Plant, grain: str, period: str, now_zh: str, is_closed: bool
) -> None:
    own = client("enterprise", now=datetime.fromisoformat(f"{now_zh}+08:00"))
    for kind, unit in (("production", "t"), ("capacity", "t/d"), ("value_added", "10^4 yuan")):
        row = {"line_id": plant.line_id, "kind": kind, "grain": grain, "period": period, "value": "5", "unit": unit}
        answer = own.post(OUTPUTS, json={"outputs": [row]})
        assert answer.status_code == (403 if is_closed else 200), answer.text


def test_a_csv_says_why_in_its_query(engine: Engine, client: Client, plant: city.Plant) -> None:
    head = "uscc,process_unit,line,kind,grain,period,value,unit\n"
    content = head + "".join(
        f"911200000000000001,kiln,kiln-1,production,month,{month},90000,t\n" for month in ("2027-01", "2026-11")
    )
    asked: dict[str, Any] = {"content": content, "headers": {"Content-Type": "text/csv"}}
    for role, query in (("enterprise", {"closed_year_reason": WHY}), ("operator", {})):
        refused = client(role).post(f"{OUTPUTS}/csv", params=query, **asked)
        assert (refused.status_code, refused.json()["errors"]) == (
            403, [{"location": "line 3, period", "message": "year 2026 is closed"}],
        )  # fmt: skip
    assert counted(engine, "output") == [0]
    done = client("operator").post(f"{OUTPUTS}/csv", params={"closed_year_reason": WHY}, **asked)
    assert done.json() == {"accepted": 2, "unchanged": 0}
    assert details(engine, "outputs.report")[-1]["closed_years"] == {"2026": WHY}
    assert client("enterprise").post(f"{OUTPUTS}/csv", **asked).json() == {"accepted": 0, "unchanged": 2}


def test_the_simulated_city_reports_a_history_that_begins_in_a_closed_year(engine: Engine, database_url: str) -> None:
    """On 5 April, with a history from the end of December on, by the operator's key as `make run` gives it."""
    simulated, settings = City(seed=7), Settings(database_url=database_url)  # type: ignore[arg-type]
    city.load_reference(engine)
    with engine.begin() as connection:
        file = check_shape(registry_of(simulated.plan))
        registry.write(connection, file, Report(is_dry_run=False), actor="t", now=CLOSED, settings=settings)
        key = create_key(connection, "make-run", "operator")
    app = create_app(settings, engine)
    app.dependency_overrides[api_now] = lambda: CLOSED
    first, end = number_of(date(2026, 12, 30)), number_of(date(2027, 1, 3))
    with served(app) as url:
        reporter = OutputReporter(simulated, url, key)
        reporter.ask_once(first, end)
        assert wait_until(lambda: reporter.reported_through == end, 20), reporter.problem
        reporter.stop()
    with engine.connect() as connection:
        years = connection.execute(text("SELECT extract(year FROM period)::int, count(*) FROM output GROUP BY 1"))
        assert dict(years.all()) == dict.fromkeys((2026, 2027), 2 * len(simulated.lines))

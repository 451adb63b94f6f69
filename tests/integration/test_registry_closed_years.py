"""Registry changes that reach into a closed year take a reason, as edits and events do; all others are free."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api import access
from app.db.access import create_key
from app.domain.credit_code import with_check_digit
from app.errors import Forbidden
from app.intake import reference_load, registry
from app.intake.registry import Report
from app.intake.registry_file import check_shape
from app.main import create_app
from app.settings import Settings
from deploy.local.broker import Broker
from tests.integration.registry_site import START, USCC, enterprise, point

REGISTERED = datetime(2026, 2, 1, tzinfo=UTC)
CLOSED = datetime(2027, 5, 3, tzinfo=UTC)  # 2026 is closed, 2027 is not
BEGUN_2027 = "2027-01-01T00:00:00+08:00"
ROW = "enterprises[0].gateways[0].points[0]"
DATED = (
    "SELECT (SELECT array_agg((multiplier, serial, from_at, to_at, final_register)::text ORDER BY from_at)"
    " FROM meter_installation), (SELECT array_agg((process_unit_id, flow, from_at, to_at)::text ORDER BY from_at)"
    " FROM point_assignment), (SELECT array_agg((district_code, from_on)::text ORDER BY from_on)"
    " FROM enterprise_assignment), (SELECT array_agg((code, variant_key, from_on)::text) FROM production_line),"
    " (SELECT array_agg((signal, unit)::text) FROM point), (SELECT count(*) FROM audit), (SELECT count(*) FROM stale)"
)


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url)  # type: ignore[arg-type]


@pytest.fixture
def works(engine: Engine, settings: Settings) -> Engine:
    """An enterprise registered since 2026 with a point that was read from March 2026 to April 2027."""
    with engine.begin() as connection:
        reference_load.load(connection, REGISTERED)
    write(engine, settings, enterprise(), now=REGISTERED)
    read(engine, "2026-03-01", "2027-04-01")
    return engine


def read(engine: Engine, *days: str) -> None:
    with engine.begin() as connection:
        for day in days:
            connection.execute(text("INSERT INTO reading SELECT CAST(:d AS date), id, 1, 0, 0 FROM point"), {"d": day})


def write(
    engine: Engine, settings: Settings, *enterprises: dict[str, Any], now: datetime = CLOSED, reason: str | None = None
) -> Report:
    report = Report(is_dry_run=False)
    with engine.begin() as connection:
        registry.write(
            connection, check_shape({"enterprises": list(enterprises)}), report, actor="test", now=now,
            settings=settings, closed_year_reason=reason,
        )  # fmt: skip
    return report


def state(engine: Engine) -> tuple[Any, ...]:
    with engine.connect() as connection:
        return tuple(connection.execute(text(DATED)).one())


def of_point(**changes: Any) -> dict[str, Any]:
    return {"uscc": USCC, "gateways": [{"code": "gw-1-a", "points": [{"code": "E001", **changes}]}]}


REACHING: dict[str, tuple[dict[str, Any], list[str]]] = {
    "another multiplier": (
        of_point(installations=[{"from_at": START, "multiplier": "100"}]), [f"{ROW}.installations[0]"]
    ),
    "an earlier end": (
        of_point(installations=[{"from_at": START, "to_at": "2026-10-01T00:00:00+08:00"}]), [f"{ROW}.installations[0]"]
    ),
    "an exchange": (
        of_point(
            installations=[
                {"from_at": START, "to_at": "2026-10-01T00:00:00+08:00"},
                {"from_at": "2026-10-01T00:00:00+08:00", "serial": "S2"},
            ]
        ),
        [f"{ROW}.installations[1]", f"{ROW}.installations[0]"],
    ),
    "an exchange as the year turns": (
        of_point(
            installations=[
                {"from_at": START, "to_at": BEGUN_2027, "final_register": "9"},
                {"from_at": BEGUN_2027, "serial": "S2"},
            ]
        ),
        [f"{ROW}.installations[1]", f"{ROW}.installations[0]"],
    ),
    "another process unit": (
        of_point(assignments=[{"from_at": START, "process_unit": "plant"}]), [f"{ROW}.assignments[0]"]
    ),
    "another carrier": (of_point(carrier_key="raw_coal", unit="t"), [ROW]),
    "another district": (
        {"uscc": USCC, "from_on": "2026-01-01", "district_code": "120101", "industry_code": "3011"}, ["enterprises[0]"]
    ),
    "another variant": (
        {"uscc": USCC, "lines": [{"code": "kiln-1", "process_unit": "kiln",
                                  "variant_key": "ndrc723-18-sanitary-ware"}]},
        ["enterprises[0].lines[0]"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", REACHING)
def test_what_reaches_into_a_closed_year_takes_a_reason(works: Engine, settings: Settings, change: str) -> None:
    content, places = REACHING[change]
    before = state(works)
    with pytest.raises(Forbidden) as refused:
        write(works, settings, content)
    assert [error["location"] for error in refused.value.extra["errors"]] == places
    assert {error["message"] for error in refused.value.extra["errors"]} == {"year 2026 is closed"}
    assert "closed_year_reason" in refused.value.detail
    assert "已关账" in refused.value.extra["detail_zh"]
    assert state(works) == before
    write(works, settings, content, reason="court order 7")
    with works.connect() as connection:
        detail = connection.execute(text("SELECT detail FROM audit ORDER BY id DESC LIMIT 1")).scalar_one()
    assert detail["closed_years"] == {"2026": "court order 7"}
    assert write(works, settings, content).changes == []  # what is there already changes nothing and takes no reason


FREE: dict[str, dict[str, Any]] = {
    "a serial number": of_point(installations=[{"from_at": START, "serial": "S1-a"}]),
    "names": of_point(name_zh="窑尾", name_en="kiln tail"),
    "limits of values": of_point(value_min="0", value_max="900"),
    "an end in the open year": of_point(installations=[{"from_at": START, "to_at": "2027-03-01T00:00:00+08:00"}]),
    "another process unit as the year turns": of_point(
        assignments=[
            {"from_at": START, "to_at": BEGUN_2027},
            {"from_at": BEGUN_2027, "process_unit": "plant", "flow": "in"},
        ]
    ),
    "another district from the open year on": {
        "uscc": USCC,
        "assignments": [
            {"from_on": "2026-01-01", "to_on": "2027-01-01"},
            {"from_on": "2027-01-01", "district_code": "120101", "industry_code": "3011"},
        ],
    },
    "a new point": {"uscc": USCC, "gateways": [{"code": "gw-1-a", "points": [point("E002")]}]},
    "another enterprise": enterprise(with_check_digit("91120000MA0000002"), "gw-2-a"),
}


@pytest.mark.parametrize("change", FREE)
def test_what_does_not_is_free(works: Engine, settings: Settings, change: str) -> None:
    assert write(works, settings, FREE[change]).changes


def test_a_year_before_anything_was_measured_is_free(engine: Engine, settings: Settings) -> None:
    with engine.begin() as connection:
        reference_load.load(connection, REGISTERED)
    write(engine, settings, enterprise(), now=REGISTERED)
    read(engine, "2027-04-01")
    write(engine, settings, of_point(installations=[{"from_at": START, "multiplier": "100"}]))
    # A register of its own is a measurement: with it, figures of the closed year come about.
    with pytest.raises(Forbidden):
        write(engine, settings, of_point(installations=[{"from_at": START, "initial_register": "5"}]))


def test_the_year_is_open_up_to_the_end_of_march(works: Engine, settings: Settings) -> None:
    change = of_point(installations=[{"from_at": START, "multiplier": "100"}])
    last = datetime(2027, 3, 31, 15, 59, tzinfo=UTC)
    with pytest.raises(Forbidden):
        write(works, settings, change, now=last + timedelta(minutes=1))
    write(works, settings, change, now=last)


def test_the_routes_say_so_and_take_the_reason(engine: Engine, database_url: str, broker: Broker) -> None:
    user, password = broker.admin_credentials
    settings = Settings(
        database_url=database_url, broker_host="127.0.0.1", broker_port=broker.port,
        broker_admin_user=user, broker_admin_password=password,
    )  # type: ignore[arg-type]  # fmt: skip
    app = create_app(settings, engine)
    now = [REGISTERED]
    app.dependency_overrides[access.now] = lambda: now[0]
    with engine.begin() as connection:
        reference_load.load(connection, REGISTERED)
        key = create_key(connection, "operator", "operator")
    client = TestClient(app, headers={"Authorization": f"Bearer {key}", "Accept-Language": "en"})
    gateway = f"gw-closed-{secrets.token_hex(4)}"
    assert client.post("/api/v1/enterprises", json=enterprise(gateway=gateway)).status_code == 200
    read(engine, "2026-03-01")
    now[0] = CLOSED
    base = f"/api/v1/gateways/{gateway}/points/E001"
    whole = enterprise(gateway=gateway)
    whole["gateways"][0]["points"][0]["installations"][0]["multiplier"] = "120"
    for path, body, place in (
        (f"{base}/installations", {"from_at": START, "multiplier": "100"}, "body, installations[0]"),
        (f"{base}/assignments", {"from_at": START, "flow": "out"}, "body, assignments[0]"),
        (f"/api/v1/gateways/{gateway}/points", {"code": "E001", "carrier_key": "raw_coal", "unit": "t"}, "body"),
        (f"/api/v1/enterprises/{USCC}/lines", {"code": "kiln-1", "process_unit": "kiln", "from_on": "2026-02-01"},
         "body"),
        ("/api/v1/registry/import", {"enterprises": [whole]}, f"{ROW}.installations[0]"),
    ):  # fmt: skip
        before = state(engine)
        refused = client.post(path, json=body)
        assert refused.status_code == 403, refused.text
        problem = refused.json()
        assert problem["type"].endswith("forbidden")
        assert "year 2026 is closed: say in closed_year_reason" in problem["detail"]
        assert place in [error["location"] for error in problem["errors"]]
        chinese = client.post(path, json=body, headers={"Accept-Language": "zh"}).json()
        assert "2026 年度已关账" in chinese["detail"]
        assert state(engine) == before
        allowed = client.post(path, json={**body, "closed_year_reason": "court order 7"})
        assert allowed.status_code == 200, allowed.text
        assert allowed.json()["updated"], path
    with engine.connect() as connection:
        details = connection.execute(text("SELECT detail->'closed_years' FROM audit WHERE action = 'registry.import'"))
        assert [one for one in details.scalars() if one] == [{"2026": "court order 7"}] * 5

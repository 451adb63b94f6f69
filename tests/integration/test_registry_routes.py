"""Writing the registry and outputs over HTTP, with a real broker behind it."""

import secrets
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db.access import create_key
from app.domain.credit_code import with_check_digit
from app.intake import reference_load
from app.main import create_app
from app.settings import Settings
from deploy.local.broker import Broker
from tests.integration.registry_site import NOW, USCC, enterprise, point, session

BASE = "/api/v1"


@pytest.fixture
def settings(database_url: str, broker: Broker) -> Settings:
    user, password = broker.admin_credentials
    return Settings(
        database_url=database_url, broker_host="127.0.0.1", broker_port=broker.port,
        broker_admin_user=user, broker_admin_password=password,
    )  # fmt: skip


@pytest.fixture
def client(engine: Engine, settings: Settings) -> TestClient:
    with engine.begin() as connection:
        reference_load.load(connection, NOW)
        key = create_key(connection, "operator", "operator")
    headers = {"Authorization": f"Bearer {key}", "Accept-Language": "en"}
    return TestClient(create_app(settings, engine), headers=headers)


@pytest.fixture
def gateway() -> str:
    return f"gw-api-{secrets.token_hex(4)}"


def post(client: TestClient, path: str, body: Any, status: int = 200) -> dict[str, Any]:
    answer = client.post(BASE + path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else {}


def test_step_by_step_to_a_gateway_that_connects(client: TestClient, settings: Settings, gateway: str) -> None:
    whole = enterprise(gateway=gateway)
    bare = {key: whole[key] for key in ("uscc", "name_zh", "from_on", "district_code", "industry_code")}
    assert post(client, "/enterprises", bare)["inserted"] == {"enterprise": 1, "enterprise_assignment": 1}
    for unit in reversed(whole["process_units"]):
        post(client, f"/enterprises/{USCC}/process-units", unit)
    post(client, f"/enterprises/{USCC}/lines", whole["lines"][0])
    made = post(client, f"/enterprises/{USCC}/gateways", {"code": gateway})
    (account,) = made["gateways"]
    with session(settings, account["code"], account["password"]) as connected:
        assert connected.is_connected
    new = {key: value for key, value in point().items() if key not in ("installations", "assignments")}
    post(client, f"/gateways/{gateway}/points", new)
    post(client, f"/gateways/{gateway}/points/E001/installations", point()["installations"][0])
    post(client, f"/gateways/{gateway}/points/E001/assignments", point()["assignments"][0])
    history = client.get(f"{BASE}/gateways/{gateway}/points/E001").json()
    assert (history["installations"][0]["multiplier"], history["assignments"][0]["process_unit"]) == ("80", "kiln")
    assert {row["from_at"] for row in (*history["installations"], *history["assignments"])} == {
        "2026-01-01T00:00:00+08:00"
    }
    assert [g["code"] for g in client.get(f"{BASE}/enterprises/{USCC}/gateways").json()] == [gateway]
    again = post(client, "/registry/import", {"enterprises": [whole], "dry_run": True})
    assert (again["inserted"], again["updated"], again["gateways"]) == ({}, {"enterprise": 1}, [])  # its English name


def test_what_is_wrong_is_named_within_the_body(client: TestClient, gateway: str) -> None:
    post(client, "/enterprises", enterprise(gateway=gateway))
    late = {"from_at": "2026-06-01T00:00:00+08:00", "serial": "S2"}
    problem = post(client, f"/gateways/{gateway}/points/E001/installations", late, 422)
    assert problem["errors"][0]["location"] == "body, installations[0].from_at"
    assert "the one from 2026-01-01T00:00:00+08:00 without end: end that one" in problem["errors"][0]["message"]
    assert "with to_at first" in problem["errors"][0]["message"]
    problem = post(client, "/enterprises", {"uscc": USCC[:-1] + "0"}, 422)
    assert problem["errors"][0]["location"] == ["body", "uscc"]
    post(client, "/gateways/gw-nobody/points", point(), 404)
    post(client, f"/enterprises/{with_check_digit('91120000MA0000009')}/gateways", {"code": "gw-9-x"}, 404)


def test_a_gateway_is_rotated_and_disabled(client: TestClient, settings: Settings, gateway: str) -> None:
    (first,) = post(client, "/enterprises", enterprise(gateway=gateway))["gateways"]
    second = post(client, f"/gateways/{gateway}/rotate", None)
    with session(settings, gateway, first["password"]) as old, session(settings, gateway, second["password"]) as new:
        assert (old.is_connected, new.is_connected) == (False, True)
    post(client, f"/gateways/{gateway}/disable", None, 204)
    assert client.get(f"{BASE}/gateways/{gateway}").json()["is_enabled"] is False
    with session(settings, gateway, second["password"]) as refused:
        assert not refused.is_connected
    post(client, f"/gateways/{gateway}/enable", None, 204)
    post(client, "/gateways/gw-nobody/rotate", None, 404)


def test_outputs_are_reported_and_listed(client: TestClient, gateway: str) -> None:
    post(client, "/enterprises", enterprise(gateway=gateway))
    line = {"uscc": USCC, "process_unit": "kiln", "code": "kiln-1"}
    row = {"line": line, "grain": "day", "period": "2026-10-01", "value": "4900.5", "unit": "t"}
    assert post(client, "/outputs", {"outputs": [row]}) == {"accepted": 1, "unchanged": 0}
    assert post(client, "/outputs", {"outputs": [row]}) == {"accepted": 0, "unchanged": 1}
    post(client, "/outputs", {"outputs": [{**row, "value": 5000}]})
    listed = client.get(f"{BASE}/outputs?from=2026-10-01&to=2026-10-31").json()
    assert [(o["value"], o["revision"], o["reported_by"]) for o in listed["items"]] == [("5000", 2, "operator")]
    problem = post(client, "/outputs", {"outputs": [row, {**row, "period": "2026-10-02", "unit": "m3"}]}, 422)
    assert [error["location"] for error in problem["errors"]] == ["outputs[1].unit"]
    assert client.get(f"{BASE}/outputs?from=2026-10-31&to=2026-10-01").status_code == 422


def test_a_broker_that_is_away_answers_503_and_nothing_is_written(
    engine: Engine, settings: Settings, client: TestClient
) -> None:
    away = settings.model_copy(update={"broker_port": 1})
    app = create_app(away, engine)
    broken = TestClient(app, headers=client.headers, raise_server_exceptions=False)
    answer = broken.post(f"{BASE}/enterprises", json=enterprise(gateway="gw-503-a"))
    assert (answer.status_code, "does not answer" in answer.json()["detail"]) == (503, True)
    assert client.get(f"{BASE}/enterprises").json()["items"] == []

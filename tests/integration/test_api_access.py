"""Keys: made, used, expired, revoked, limited; and answers only after the commit."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, event, text

from app.api import access as api_access
from app.db import access
from app.db.scope import Scope
from app.errors import Conflict, Invalid
from tests.integration.api_site import NOW, Site, build


@pytest.fixture
def site(engine: Engine, database_url: str) -> Site:
    return build(engine, database_url)


def test_only_the_digest_of_a_key_is_kept(site: Site) -> None:
    key = site.keys["operator"]
    assert key.startswith("nh_")
    assert len(key) == 3 + 43
    with site.engine.connect() as connection:
        rows = connection.execute(text("SELECT to_jsonb(k)::text FROM api_key k")).scalars().all()
    assert not any(key in row for row in rows)
    assert any(key[:10] in row for row in rows)


def test_a_key_opens_its_scope_and_nothing_after_it_ends(site: Site) -> None:
    with site.engine.begin() as connection:
        key = access.create_key(
            connection, "short", "official", district_code="120110", expires_at=NOW + timedelta(hours=1)
        )
        caller = access.authenticate(connection, key, NOW)
        assert caller is not None
        assert (caller.name, caller.role, caller.scope) == ("short", "official", Scope("120110", None))
        assert access.authenticate(connection, key, NOW + timedelta(hours=1)) is None
        access.revoke_key(connection, caller.key_id, NOW)
        assert access.authenticate(connection, key, NOW) is None


def test_unknown_expired_and_revoked_keys_get_the_same_answer(site: Site) -> None:
    with site.engine.begin() as connection:
        site.keys["expired"] = access.create_key(connection, "e", "regulator", expires_at=NOW - timedelta(1))
        site.keys["revoked"] = access.create_key(connection, "r", "regulator")
        access.revoke_key(connection, access.find_key(connection, site.keys["revoked"])["id"], NOW)
        site.keys["unknown"] = "nh_" + "x" * 43
        site.keys["switched off"] = access.create_key(connection, "o", "regulator")
        connection.execute(text("UPDATE principal SET is_enabled = false WHERE name = 'o'"))
    bodies = []
    for who in ("expired", "revoked", "unknown", "switched off"):
        answer = site.client(who).get("/api/v1/summary")
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="nenghao"')
        bodies.append({k: v for k, v in answer.json().items() if k != "request_id"})
    assert all(body == bodies[0] for body in bodies)


def test_the_use_of_a_key_is_noted_once_a_minute(engine: Engine) -> None:
    at = datetime(2026, 10, 1, tzinfo=UTC)
    with engine.begin() as connection:
        key = access.create_key(connection, "x", "operator")
        used = []
        for second in (0, 30, 61):
            access.authenticate(connection, key, at + timedelta(seconds=second))
            used.append(access.find_key(connection, key)["last_used_at"])
    assert used == [at, at, at + timedelta(seconds=61)]


def test_a_name_keeps_its_role_and_scope(engine: Engine) -> None:
    with engine.begin() as connection:
        first = access.create_key(connection, "x", "regulator")
        assert access.create_key(connection, "x", "regulator") != first
        with pytest.raises(Conflict, match="exists as regulator"):
            access.create_key(connection, "x", "operator")


@pytest.mark.parametrize(
    ("role", "scope"),
    [
        ("official", {}), ("enterprise", {}), ("regulator", {"enterprise_id": 1}), ("king", {}),
        ("official", {"district_code": "999999"}), ("enterprise", {"enterprise_id": 999}),
    ],
)  # fmt: skip
def test_scopes_that_do_not_fit_are_refused(engine: Engine, role: str, scope: dict[str, object]) -> None:
    with engine.begin() as connection, pytest.raises(Invalid):
        access.create_key(connection, "x", role, **scope)


def test_keys_are_made_and_ended_by_operators(site: Site) -> None:
    client = site.client("operator")
    made = client.post("/api/v1/keys", json={"name": "津南值班", "role": "official", "district_code": "120112"})
    assert made.status_code == 201
    site.keys["made"] = made.json()["key"]
    assert site.client("made").get("/api/v1/enterprises").json()["items"] == []
    assert made.json()["key"] not in client.get("/api/v1/keys").text
    assert client.delete(f"/api/v1/keys/{made.json()['id']}").status_code == 204
    assert site.client("made").get("/api/v1/enterprises").status_code == 401
    assert client.delete("/api/v1/keys/999999").status_code == 404
    actions = [entry["action"] for entry in client.get("/api/v1/audit").json()["items"]]
    assert actions == ["key.revoke", "key.create"]
    assert made.json()["key"] not in client.get("/api/v1/audit").text


def test_a_runaway_key_is_slowed_down_and_others_are_not(site: Site) -> None:
    site.app.state.rate_limit = api_access.RateLimit(burst=2, per_s=0.01)
    client = site.client("operator")
    left = [client.get("/api/v1/reference/carriers").headers["RateLimit-Remaining"] for _ in range(2)]
    refused = client.get("/api/v1/reference/carriers")
    assert left == ["1", "0"]
    assert (refused.status_code, refused.json()["type"]) == (429, "/problems/too-many-requests")
    assert 90 <= int(refused.headers["Retry-After"]) <= 100
    assert refused.headers["RateLimit-Limit"] == "2"
    assert site.client("regulator").get("/api/v1/reference/carriers").status_code == 200


def test_a_commit_that_fails_is_not_answered_with_success(site: Site) -> None:
    def fail(_: object) -> None:
        raise ConnectionResetError("the server went away at commit")

    event.listen(site.engine, "commit", fail)
    try:
        answer = site.client("operator").post("/api/v1/keys", json={"name": "n", "role": "regulator"})
    finally:
        event.remove(site.engine, "commit", fail)
    assert answer.status_code == 500
    assert "went away" not in answer.text
    with site.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM principal WHERE name = 'n'")).scalar_one() == 0


def test_a_cookie_works_for_reading_and_not_for_another_sites_changes(site: Site) -> None:
    client = site.client()
    client.cookies.set("nenghao_key", site.keys["official-a"])
    assert client.get("/api/v1/enterprises").status_code == 200
    path = f"/api/v1/alerts/{site.a.alert_id}/acknowledge"
    for headers in ({}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post(path, json={"note": "x"}, headers=headers).status_code == 403
    same = client.post(path, json={"note": "x"}, headers={"Origin": "http://testserver"})
    assert same.status_code == 200


def test_a_misspelt_filter_does_not_answer_for_everything(site: Site) -> None:
    client = site.client("regulator")
    refused = client.get("/api/v1/ratios", params={"month": "2026-09", "line": 1})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/invalid")
    assert [one["location"] for one in refused.json()["errors"]] == [["query", "line"], ["query", "month"]]
    assert "from_month" in refused.json()["detail"]
    assert site.client().get("/api/v1/ratios", params={"month": "2026-09"}).status_code == 401

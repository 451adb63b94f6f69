"""Errors as problem+json, headers, health, metrics, and an OpenAPI document that a stranger can work from."""

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api.middleware import MAX_BODY_BYTES
from app.db import engine as engine_module
from app.db.access import create_key
from app.main import create_app
from app.settings import Settings
from deploy.local.ports import free_port
from tests.integration.api_site import Site, build

PROBLEM = "application/problem+json"


@pytest.fixture
def site(engine: Engine, database_url: str) -> Site:
    return build(engine, database_url)


@pytest.fixture
def away() -> Iterator[FastAPI]:
    """The application with a database that does not answer."""
    url = f"postgresql://nobody:x@127.0.0.1:{free_port()}/none"
    engine = engine_module.create(url)
    yield create_app(Settings(database_url=url), engine)  # type: ignore[arg-type]
    engine.dispose()


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/api/v1/nothing", 404, "not-found"),
        ("GET", "/nothing", 404, "not-found"),
        ("PUT", "/api/v1/alerts", 405, "method-not-allowed"),
        ("GET", "/api/v1/alerts/999999", 404, "not-found"),
        ("GET", "/api/v1/alerts/99999999999999999999", 422, "invalid"),
        ("GET", "/api/v1/enterprises?search=%00", 422, "invalid"),
        ("POST", "/api/v1/keys", 422, "invalid"),
    ],
)
def test_every_error_is_a_problem(site: Site, method: str, path: str, status: int, slug: str) -> None:
    answer = site.client("operator").request(method, path)
    body = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert (body["status"], body["type"]) == (status, f"/problems/{slug}")
    assert body["instance"] == path.partition("?")[0]
    assert body["request_id"] == answer.headers["X-Request-ID"]
    if status == 405:
        assert answer.headers["Allow"] == "GET"


def test_every_breach_is_listed_with_its_place_and_without_its_value(site: Site) -> None:
    body = {"name": "", "role": "king", "district_code": "abc", "secret_value": "hush"}
    answer = site.client("operator").post("/api/v1/keys", json=body)
    assert [error["location"] for error in answer.json()["errors"]] == [
        ["body", "name"], ["body", "role"], ["body", "district_code"], ["body", "secret_value"],
    ]  # fmt: skip
    assert "hush" not in answer.text


def test_a_breach_is_told_in_our_words_in_one_language(site: Site) -> None:
    body = {"name": "", "role": "king", "secret_value": "hush"}
    for language, words in (
        ("en", ["too short: at least 1 character(s)", "must be one of ", "unknown field"]),
        ("zh", ["长度不足，至少 1 个字符", "应为以下之一：", "不认识的字段"]),
    ):
        errors = site.client("operator", language=language).post("/api/v1/keys", json=body).json()["errors"]
        assert [error["message"][: len(word)] for error, word in zip(errors, words, strict=True)] == words
        assert all(set(error) == {"location", "code", "message"} for error in errors)


def test_titles_follow_the_language(site: Site) -> None:
    chinese = site.client("operator", language="zh-CN,en;q=0.5").get("/api/v1/usage?grain=week")
    english = site.client("operator", language="en").get("/api/v1/usage?grain=week")
    assert (chinese.json()["title"], english.json()["title"]) == ("内容不合规则", "Invalid content")
    assert chinese.json()["errors"][0]["message"].startswith("应为以下之一")
    assert (chinese.headers["Content-Language"], english.headers["Content-Language"]) == ("zh", "en")
    assert chinese.json()["type"] == english.json()["type"]


@pytest.mark.parametrize("says_length", [True, False])
def test_a_body_over_the_limit_is_refused(site: Site, says_length: bool) -> None:
    content = b" " * (MAX_BODY_BYTES + 1)
    pieces = content if says_length else iter([content[:1_000_000]] * 9)
    answer = site.client("operator").post(
        "/api/v1/outputs", content=pieces, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")


def test_a_fault_shows_nothing_of_the_inside(site: Site) -> None:
    with site.engine.begin() as connection:
        connection.execute(text("ALTER TABLE carrier RENAME TO carrier_secret_name"))
    answer = site.client("operator").get("/api/v1/reference/carriers")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal-error")
    assert "carrier_secret" not in answer.text
    assert "SELECT" not in answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_without_a_database_the_answer_is_503_and_when_to_come_back(away: FastAPI) -> None:
    client = TestClient(away, headers={"Authorization": "Bearer nh_x"}, raise_server_exceptions=False)
    answer = client.get("/api/v1/summary")
    assert (answer.status_code, answer.json()["type"], answer.headers["Retry-After"]) == (
        503,
        "/problems/unavailable",
        "5",
    )
    assert client.get("/health/live").status_code == 200
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
    assert "does not answer" in ready.json()["missing"][0]


def test_ready_names_the_missing_migration(site: Site) -> None:
    assert site.client().get("/health/ready").json() == {"status": "ready", "missing": []}
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    ready = site.client().get("/health/ready")
    assert ready.status_code == 503
    assert re.search(r"at revision 0001.*needs \d{4}: run nenghao migrate", ready.json()["missing"][0])


def test_without_the_official_tables_the_answer_names_what_to_run(engine: Engine, database_url: str) -> None:
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    with engine.begin() as connection:
        key = create_key(connection, "operator", "operator")
    client = TestClient(
        app, headers={"Authorization": f"Bearer {key}", "Accept-Language": "en"}, raise_server_exceptions=False
    )
    ready = client.get("/health/ready")
    assert (ready.status_code, "run nenghao reference load" in ready.text) == (503, True)
    for path in ("targets/progress", "structure"):
        answer = client.get(f"/api/v1/{path}")
        assert (answer.status_code, "nenghao reference load" in answer.json()["detail"]) == (503, True)


def test_metrics_carry_route_templates_and_no_ids(site: Site) -> None:
    client = site.client("operator")
    client.get(f"/api/v1/enterprises/{site.a.enterprise_id}")
    client.get("/some/unknown/path-of-nobody")
    client.request("BREW", "/api/v1/alerts")
    metrics = site.client().get("/metrics").text
    assert 'route="/api/v1/enterprises/{enterprise_id}",status="200"' in metrics
    assert 'route="unmatched",status="404"' in metrics
    assert "path-of-nobody" not in metrics
    assert "BREW" not in metrics
    assert site.a.gateway_code not in metrics


def test_headers_keep_pages_to_themselves(site: Site) -> None:
    answer = site.client().get("/", headers={"X-Request-ID": "trace-1234567"})
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (answer.headers["X-Request-ID"], answer.headers["Cache-Control"]) == ("trace-1234567", "no-store")
    assert site.client().get("/", headers={"X-Request-ID": "evil\tid"}).headers["X-Request-ID"] != "evil\tid"


def test_the_document_lets_a_stranger_work(site: Site) -> None:
    document = site.client().get("/openapi.json").json()
    tags = {tag["name"] for tag in document["tags"]}
    assert document["components"]["schemas"]["Problem"]["required"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert re.search(r"[\u4e00-\u9fff]", operation["summary"]), f"{where}: no Chinese in its summary"
            assert operation.get("description"), where
            assert set(operation["tags"]) <= tags, where
            if path.startswith("/api/"):
                assert {"401", "403", "422", "503"} <= operation["responses"].keys(), where
                assert operation["security"], where
            for parameter in operation.get("parameters", []):
                assert parameter["schema"], where
    assert "HTTPValidationError" not in str(document)


def test_every_reference_in_the_document_leads_somewhere(site: Site) -> None:
    document = site.client().get("/openapi.json").json()
    references = set(re.findall(r"#/components/schemas/([A-Za-z0-9_-]+)", str(document)))
    assert references <= document["components"]["schemas"].keys()


def test_the_documentation_page_names_every_path_and_loads_nothing_from_elsewhere(site: Site) -> None:
    page = site.client().get("/docs").text
    for path in site.client().get("/openapi.json").json()["paths"]:
        assert path in page
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert "<script" not in page


def test_every_type_of_problem_leads_to_a_page(site: Site) -> None:
    for problem in site.client().get("/openapi.json").json()["x-problems"]:
        assert site.client().get(problem["type"]).status_code == 200
    assert site.client().get("/problems/unheard-of").status_code == 404

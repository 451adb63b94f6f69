"""The HTTP twin: the same payload gives the same ack and the same rows as over MQTT, and the same refusals."""

import gzip
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db import access
from app.errors import Invalid
from app.main import create_app
from app.settings import Settings
from deploy.local.postgres import Postgres
from ingest import payload
from ingest.store import Store
from tests.integration.ingest_site import FIRST_AT, Site, arrival, build_site, reading


@pytest.fixture
def site(database_url: str) -> Site:
    return build_site(database_url, "gw-http")


@pytest.fixture
def client(engine: Engine, database_url: str, site: Site) -> Iterator[TestClient]:
    with engine.begin() as connection:
        key = access.create_key(connection, "gw-http", "gateway")
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {key}", "Accept-Language": "en"}
    with TestClient(app, headers=headers, raise_server_exceptions=False) as opened:
        yield opened
    while hasattr(app.state, "ingest_stores") and not app.state.ingest_stores.empty():
        app.state.ingest_stores.get().close()


def _message(seq: int, *readings: dict[str, Any], epoch: str = "e1") -> bytes:
    return json.dumps({"epoch": epoch, "seq": seq, "readings": list(readings)}).encode()


def test_a_message_is_stored_and_acknowledged_as_over_mqtt(client: TestClient, site: Site) -> None:
    body = _message(0, reading(0, 1.5), reading(1, 2.5), reading(2, 3.5, point="NOBODY"))
    answer = client.post("/api/v1/ingest", content=body)
    ack = answer.json()
    assert answer.status_code == 200
    assert (ack["epoch"], ack["lane"], ack["seq"], ack["accepted"]) == ("e1", "http", 0, 2)
    assert ack["rejected"] == [{"index": 2, "reason": "unknown_point"}]
    assert site.query("SELECT value FROM reading ORDER BY ts") == [(1.5,), (2.5,)]
    assert site.query("SELECT lane, accepted FROM receipt") == [(2, 2)]
    assert site.query("SELECT reason, lane FROM quarantine") == [("unknown_point", 2)]
    assert site.count("stale") > 0
    heard = "SELECT is_online, last_reading_at, now() - last_commit_at < '1 minute' FROM gateway_state"
    assert site.query(heard) == [(True, FIRST_AT + timedelta(minutes=15), True)]
    assert client.post("/api/v1/ingest", content=body).content == answer.content
    store = Store(site.url)
    over_mqtt = store.commit([arrival("gw-http", 9, [reading(0, 1.5)])])[0].ack
    store.close()
    assert over_mqtt is not None
    assert over_mqtt.duplicate == 1
    assert set(json.loads(payload.encode_ack(over_mqtt))) == set(ack)


def test_gzip_is_accepted(client: TestClient, site: Site) -> None:
    body = gzip.compress(_message(0, *(reading(n, float(n)) for n in range(500))))
    answer = client.post("/api/v1/ingest", content=body, headers={"Content-Encoding": "gzip"})
    assert answer.json()["accepted"] == 500
    assert site.count("reading") == 500


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x" * (payload.MAX_BYTES + 1), {}, 413),
        (gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"}, 413),
        (gzip.compress(b"{}")[:-6], {"Content-Encoding": "gzip"}, 400),
        (b"no gzip", {"Content-Encoding": "gzip"}, 400),
        (b"{}", {"Content-Encoding": "br"}, 400),
    ],
)
def test_what_cannot_be_taken_leaves_nothing(
    client: TestClient, site: Site, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = client.post("/api/v1/ingest", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert site.count("receipt") == site.count("reading") == site.count("quarantine") == 0


def test_an_unreadable_message_is_quarantined_with_its_reason(client: TestClient, site: Site) -> None:
    ack = client.post("/api/v1/ingest", content=b"{nothing").json()
    assert (ack["accepted"], ack["rejected"]) == (0, [{"index": None, "reason": "malformed_json"}])
    assert site.query("SELECT gateway_code, reason FROM quarantine") == [("gw-http", "malformed_json")]


def test_gone_is_noted_without_an_ack(client: TestClient) -> None:
    answer = client.post("/api/v1/ingest", content=b'{"epoch": "e1", "gone": [3, 7]}')
    assert (answer.status_code, answer.content) == (204, b"")


def test_without_the_database_nothing_is_acknowledged(client: TestClient, postgres: Postgres, site: Site) -> None:
    assert client.post("/api/v1/ingest", content=_message(0, reading(0, 1.0))).status_code == 200
    name = site.url.rsplit("/", 1)[1]
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as administrator:
        administrator.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        administrator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        answer = client.post("/api/v1/ingest", content=_message(1, reading(1, 2.0)))
        administrator.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    again = client.post("/api/v1/ingest", content=_message(1, reading(1, 2.0)))
    assert again.json().get("accepted") == 1, again.text
    assert site.count("reading") == 2


def test_a_gateways_key_is_named_after_it(engine: Engine) -> None:
    with engine.begin() as connection, pytest.raises(Invalid, match="gateway 'gw-nobody' is not in the registry"):
        access.create_key(connection, "gw-nobody", "gateway")

"""A server, database or role that an operator has set otherwise: answers and isolation stay as they are."""

import pytest
from sqlalchemy import text

from app.db import engine as engine_module
from deploy.local.postgres import Postgres
from ingest.store import Store
from tests.integration.api_site import build
from tests.integration.ingest_site import arrival, build_site, reading

SETTINGS = {
    "timezone": "America/New_York", "datestyle": "German, DMY", "intervalstyle": "sql_standard",
    "default_transaction_isolation": "serializable", "extra_float_digits": "0", "bytea_output": "escape",
}  # fmt: skip


@pytest.fixture
def otherwise_url(database_url: str) -> str:
    """The address of a database with settings that a server may well have."""
    name = database_url.rsplit("/", 1)[1]
    plain = engine_module.create(database_url)
    with plain.begin() as connection:
        for setting, value in SETTINGS.items():
            connection.execute(text(f"ALTER DATABASE {name} SET {setting} = '{value}'"))
    plain.dispose()
    return database_url


def test_settings_of_the_server_change_no_answer(postgres: Postgres, otherwise_url: str) -> None:
    engine = engine_module.create(otherwise_url)
    site = build(engine, otherwise_url)
    client = site.client("operator")
    for path in ("keys", "findings", "events", "quarantine", "deliveries", f"receipts?gateway={site.a.gateway_code}"):
        answer = client.get(f"/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        assert "2026-10-15T12:30:00+08:00" in answer.text or path == "keys"
    with engine.connect() as connection:
        shown = connection.execute(
            text("SELECT current_setting('transaction_isolation'), 0.1234567890123456::float8::text")
        )
        assert tuple(shown.one()) == ("read committed", "0.1234567890123456")
    engine.dispose()


def test_settings_of_the_server_change_nothing_in_what_is_stored(otherwise_url: str) -> None:
    site = build_site(otherwise_url, "gw-test-01")
    store = Store(otherwise_url)
    sent = [reading(0, 0.1234567890123456), reading(1, 7)]
    first, again, revised = (
        store.commit([arrival("gw-test-01", seq, readings)])[0].ack
        for seq, readings in ((1, sent), (2, sent), (3, [reading(1, 8, rev=1)]))
    )
    store.close()
    assert first is not None
    assert again is not None
    assert revised is not None
    assert (first.accepted, again.duplicate, revised.accepted) == (2, 2, 1)
    stored = site.query("SELECT value = 0.1234567890123456::float8, value = 8 FROM reading_effective ORDER BY ts")
    assert stored == [(True, False), (False, True)]

"""What was sealed cannot be altered or removed without being found and named; edits of people break nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from app.db import seals
from app.pipeline import seal, verify
from ingest.store import Store
from tests.integration.ingest_site import FIRST_AT, Site, arrival, build_site, reading

NOW = datetime(2026, 6, 1, 1, tzinfo=UTC)


@pytest.fixture
def site(database_url: str) -> Site:
    """Two gateways with messages of every kind: first arrivals, a revision, a dispute, a duplicate."""
    site = build_site(database_url, "gw-one", "gw-two")
    store = Store(database_url)
    store.commit([arrival("gw-one", 0, [reading(0, 1.0), reading(0, 7.0, point="E001")])])
    store.commit([arrival("gw-one", 1, [reading(1, 2.0)]), arrival("gw-two", 0, [reading(0, 5.0)])])
    store.commit([arrival("gw-one", 2, [reading(1, 2.5, rev=1), reading(0, 7.5, point="E001")])])
    store.commit([arrival("gw-one", 3, [reading(1, 2.0), reading(2, 3.0, rev=2)])])
    store.close()
    return site


def _seal(engine: Engine) -> int:
    count, done = 0, -1
    while done:
        done = seal.run(engine, NOW)
        count += done
    return count


def _breaches(engine: Engine, code: str = "gw-one") -> list[verify.Breach]:
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        gateway = seals.gateways(connection, code)[0]
        return list(verify.gateway(connection, gateway.id, code).breaches)


def test_untouched_evidence_verifies_and_the_tail_is_reported(engine: Engine, site: Site) -> None:
    assert _seal(engine) == 5
    assert _breaches(engine) == []
    assert _breaches(engine, "gw-two") == []
    store = Store(site.url)
    store.commit([arrival("gw-one", 4, [reading(9, 9.0)])])
    store.close()
    with engine.connect() as connection:
        verdict = verify.gateway(connection, site.gateway_ids["gw-one"], "gw-one")
    assert (verdict.links, verdict.receipts, verdict.unsealed, verdict.breaches) == (4, 4, 1, ())
    assert verdict.oldest_unsealed_at is not None
    assert _seal(engine) == 1
    assert _seal(engine) == 0


@pytest.mark.parametrize(
    ("sql", "kind", "named"),
    [
        ("UPDATE reading SET value = 99 WHERE value = 1", "readings_altered", "seq 0"),
        ("UPDATE reading SET quality = 1 WHERE value = 1", "readings_altered", "seq 0"),
        ("UPDATE reading SET ts = ts + interval '1 second' WHERE value = 1", "readings_altered", "seq 0"),
        ("DELETE FROM reading WHERE value = 1", "readings_removed", "1 stored now"),
        ("DELETE FROM reading_override WHERE value = 2.5", "readings_altered", "seq 2"),
        ("UPDATE reading_override SET rank = 7 WHERE value = 2.5", "readings_altered", "seq 2"),
        ("DELETE FROM reading_override WHERE value = 2 AND rank = 0", "first_entry_removed", "E000"),
        ("UPDATE receipt SET accepted = 7 WHERE seq = 1", "receipt_altered", "seq 1"),
        ("UPDATE receipt SET rows_digest = sha256('') WHERE seq = 1", "receipt_altered", "seq 1"),
        ("DELETE FROM receipt WHERE seq = 1", "receipt_missing", "receipt"),
        ("DELETE FROM seal WHERE chain_no = 2", "link_missing", "links 2 to 2"),
        ("UPDATE seal SET digest = sha256('x') WHERE chain_no = 2", "receipt_altered", "seq 1"),
        (
            "INSERT INTO reading SELECT ts + interval '1 h', point_id, 5, 0, 987654 FROM reading WHERE value = 1",
            "readings_added",
            "987654",
        ),
    ],
)
def test_each_alteration_is_found_and_named(engine: Engine, site: Site, sql: str, kind: str, named: str) -> None:
    _seal(engine)
    site.query(sql.replace("seq = 1", f"seq = 1 AND gateway_id = {site.gateway_ids['gw-one']}"))
    found = _breaches(engine)
    assert kind in {breach.kind for breach in found}, found
    assert any(named in breach.where for breach in found if breach.kind == kind), found


def test_an_altered_receipt_cannot_be_resealed_by_its_own_link_alone(engine: Engine, site: Site) -> None:
    """Whoever alters a receipt and recomputes its link still breaks the next one."""
    _seal(engine)
    site.query("UPDATE receipt SET accepted = 5 WHERE seq = 0 AND gateway_id = %s", site.gateway_ids["gw-one"])
    with engine.begin() as connection:
        first = seals.chain(connection, site.gateway_ids["gw-one"])[0]
        digest = verify.sealing.link(verify.sealing.FIRST_LINK, "receipt", verify._content(first))
    site.query("UPDATE seal SET digest = %s WHERE gateway_id = %s AND chain_no = 1", digest, first["gateway_id"])
    assert [breach.kind for breach in _breaches(engine)] == ["receipt_altered"]


def test_edits_do_not_break_the_chain(engine: Engine, site: Site) -> None:
    _seal(engine)
    site.query(
        "INSERT INTO reading_override (point_id, ts, rank, value, origin, actor, reason)"
        " SELECT point_id, ts, 1000000, 42, 'edit', 'regulator', 'typed wrong' FROM reading_override"
        " WHERE value = 7.5"
    )
    assert _breaches(engine) == []


def test_dropped_readings_lie_under_a_tombstone(engine: Engine, site: Site) -> None:
    _seal(engine)
    store = Store(site.url)
    late = FIRST_AT + timedelta(days=30)
    store.commit([arrival("gw-one", 5, [{"point": "E000", "ts": late.isoformat(), "value": 8.0}])])
    store.close()
    _seal(engine)
    chunks = seal.drop_readings(engine, FIRST_AT + timedelta(days=14), NOW)
    assert chunks
    assert site.query("SELECT value FROM reading") == [(8.0,)]
    assert _breaches(engine) == []
    site.query("UPDATE seal SET covers = jsonb_set(covers, '{receipts}', '[]') WHERE kind = 'tombstone'")
    assert "receipt_altered" in {breach.kind for breach in _breaches(engine)}


def test_a_second_sealer_waits_its_turn(engine: Engine, site: Site) -> None:
    with engine.begin() as connection:
        assert seals.try_lock(connection)
        assert seal.run(engine, NOW) == 0
    assert seal.run(engine, NOW) == 5

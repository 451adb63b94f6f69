"""What was sealed cannot be altered or removed without being found and named; edits of people break nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import Engine

from app import telemetry
from app.db import seals
from app.domain import sealing
from app.errors import Conflict, Invalid
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


def _verdict(engine: Engine, code: str, **more: Any) -> verify.Verdict:
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        gateway = seals.gateways(connection, code)[0]
        return verify.gateway(connection, gateway.id, code, **more)


def _breaches(engine: Engine, code: str = "gw-one", **more: Any) -> list[verify.Breach]:
    return list(_verdict(engine, code, **more).breaches)


def test_untouched_evidence_verifies_and_the_tail_is_reported(engine: Engine, site: Site) -> None:
    assert _seal(engine) == 5
    assert _breaches(engine) == []
    assert _breaches(engine, "gw-two") == []
    store = Store(site.url)
    store.commit([arrival("gw-one", 4, [reading(9, 9.0)])])
    store.close()
    verdict = _verdict(engine, "gw-one")
    assert (verdict.links, verdict.receipts, verdict.unsealed, verdict.breaches) == (4, 4, 1, ())
    assert verdict.oldest_unsealed_at is not None
    assert _seal(engine) == 1
    assert _seal(engine) == 0


E000_FIRST = "E000 at 2026-03-01T08:00:00+08:00"


@pytest.mark.parametrize(
    ("sql", "kind", "named"),
    [
        (
            "UPDATE reading SET value = 99 WHERE value = 1",
            "reading_altered",
            f"{E000_FIRST} = 1.0 (good) was sealed, stored is 99.0 (good); receipt 1 (epoch e1, live, seq 0, ",
        ),
        (
            "UPDATE reading SET quality = 1 WHERE value = 1",
            "reading_altered",
            f"{E000_FIRST} = 1.0 (good) was sealed, stored is 1.0 (uncertain)",
        ),
        (
            "UPDATE reading SET ts = ts + interval '1 second' WHERE value = 1",
            "reading_added",
            "E000 at 2026-03-01T08:00:01+08:00 = 1.0 (good) is stored and was not sealed",
        ),
        ("DELETE FROM reading WHERE value = 1", "reading_removed", f"{E000_FIRST} = 1.0 (good) was sealed and is gone"),
        (
            "DELETE FROM reading_override WHERE value = 2.5",
            "reading_removed",
            "E000 at 2026-03-01T08:15:00+08:00 rev 1 = 2.5 (good) was sealed and is gone",
        ),
        (
            "DELETE FROM reading WHERE value = 7",
            "reading_removed",
            "E001 at 2026-03-01T08:00:00+08:00 = 7.0 (good) was sealed and is gone",
        ),
        ("UPDATE reading_override SET rank = 7 WHERE value = 2.5", "reading_added", "rev 7 = 2.5 (good)"),
        ("UPDATE reading_override SET value = 7 WHERE value = 2.5", "reading_altered", "stored is 7.0 (good)"),
        ("DELETE FROM reading_override WHERE value = 2 AND rank = 0", "first_entry_removed", "E000"),
        ("UPDATE receipt SET accepted = 7 WHERE seq = 1", "receipt_altered", "seq 1"),
        ("UPDATE receipt SET rows_digest = sha256('') WHERE seq = 1", "receipt_altered", "seq 1"),
        ("DELETE FROM receipt WHERE seq = 1", "receipt_missing", "receipt"),
        ("DELETE FROM seal WHERE chain_no = 2", "link_missing", "links 2 to 2"),
        ("UPDATE seal SET digest = sha256('x') WHERE chain_no = 2", "receipt_altered", "seq 1"),
        (
            "INSERT INTO reading SELECT ts + interval '1 h', point_id, 5, 0, 987654 FROM reading WHERE value = 1",
            "reading_added",
            "receipt 987654, which this gateway has not: E000 at 2026-03-01T09:00:00+08:00 = 5.0",
        ),
        (
            "INSERT INTO reading SELECT ts + interval '1 h', point_id, 5, 0, receipt_id FROM reading WHERE value = 1",
            "reading_added",
            "E000 at 2026-03-01T09:00:00+08:00 = 5.0 (good) is stored and was not sealed; receipt 1 ",
        ),
        (
            "UPDATE receipt SET rows_copy = NULL; UPDATE reading SET value = 99 WHERE value = 1",
            "readings_differ",
            f"its copy was altered too; 2 accepted, 2 stored now: {E000_FIRST} = 99.0",
        ),
        (
            "UPDATE receipt SET rows_copy = '\\x00ff'; DELETE FROM reading WHERE value = 1",
            "readings_differ",
            "2 accepted, 1 stored now: E001",
        ),
    ],
)
def test_each_alteration_is_found_and_named(engine: Engine, site: Site, sql: str, kind: str, named: str) -> None:
    _seal(engine)
    for one in sql.split("; "):
        site.query(one.replace("seq = 1", f"seq = 1 AND gateway_id = {site.gateway_ids['gw-one']}"))
    found = _breaches(engine)
    assert kind in {breach.kind for breach in found}, found
    assert any(named in breach.where for breach in found if breach.kind == kind), found
    assert _breaches(engine, "gw-two") == []


def test_one_altered_reading_among_many_is_the_one_that_is_named(engine: Engine, site: Site) -> None:
    store = Store(site.url)
    many = [reading(n, float(n), point="E002") for n in range(200)]
    store.commit([arrival("gw-one", 9, many)])
    store.close()
    _seal(engine)
    site.query("UPDATE reading SET value = value + 0.001 WHERE value = 150")
    altered = _breaches(engine)
    assert [breach.kind for breach in altered] == ["reading_altered"]
    assert altered[0].where.startswith("E002 at 2026-03-02T21:30:00+08:00 = 150.0 (good) was sealed, stored is 150.001")
    site.query("DELETE FROM reading WHERE receipt_id = (SELECT id FROM receipt WHERE seq = 9)")
    removed = _breaches(engine)
    assert len(removed) == verify.NAMED_READINGS + 1
    assert removed[-1].where.startswith(f"{200 - verify.NAMED_READINGS} more of receipt")


def test_an_altered_receipt_cannot_be_resealed_by_its_own_link_alone(engine: Engine, site: Site) -> None:
    """Whoever alters a receipt and recomputes its link still breaks the next one."""
    _seal(engine)
    _forge(engine, site, 1)
    assert [breach.kind for breach in _breaches(engine)] == ["receipt_altered"]


@pytest.fixture
def logging() -> Iterator[None]:
    """Undo what a test sets up: the log goes to the standard error of that moment."""
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("logging")
def test_a_chain_computed_anew_contradicts_the_log(
    engine: Engine, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    _seal(engine)
    logs = []
    for log_format in ("text", "json"):
        telemetry.configure_logging("worker", log_format)
        assert seal.log_heads(engine) == 2
        logs.append(verify.heads_in(["something else digest=00", *capsys.readouterr().err.splitlines()]))
    heads = logs[0]
    assert logs[1] == heads
    assert {(head.gateway_id, head.chain_no) for head in heads} == {
        (site.gateway_ids["gw-one"], 4), (site.gateway_ids["gw-two"], 1)
    }  # fmt: skip
    assert _breaches(engine, heads=heads) == []
    for number in (1, 2, 3, 4):
        _forge(engine, site, number)
    assert _breaches(engine) == []
    forged = _breaches(engine, heads=heads)
    assert [(breach.kind, breach.where[:10]) for breach in forged] == [("head_differs", "link 4 was")]
    site.query("DELETE FROM seal WHERE chain_no = 4")
    assert "is gone now" in _breaches(engine, heads=heads)[0].where


def _forge(engine: Engine, site: Site, number: int) -> None:
    """Alter a receipt and compute its link anew."""
    gateway_id = site.gateway_ids["gw-one"]
    site.query("UPDATE receipt SET accepted = 5 WHERE id = (SELECT receipt_id FROM seal"
               " WHERE gateway_id = %s AND chain_no = %s)", gateway_id, number)  # fmt: skip
    with engine.connect() as connection:
        one = seals.chain(connection, gateway_id, number, number)[0]
        previous = seals.link_digest(connection, gateway_id, number - 1) or sealing.FIRST_LINK
    digest = sealing.link(previous, "receipt", verify._content(one))
    site.query("UPDATE seal SET digest = %s WHERE gateway_id = %s AND chain_no = %s", digest, gateway_id, number)


def test_a_stretch_of_days_is_verified_alone_and_joined_to_what_was_before(engine: Engine, site: Site) -> None:
    for day in (1, 2, 3):
        site.query("UPDATE receipt SET committed_at = %s WHERE seq = %s", NOW + timedelta(days=day), day)
    site.query("UPDATE receipt SET committed_at = %s WHERE seq = 0", NOW)
    _seal(engine)
    within: dict[str, Any] = {"from_at": NOW + timedelta(days=1), "to_at": NOW + timedelta(days=3)}
    verdict = _verdict(engine, "gw-one", **within)
    assert (verdict.links, verdict.breaches) == (2, ())
    site.query("UPDATE reading SET value = 99 WHERE value = 1")  # of the first message, outside
    assert _breaches(engine, **within) == []
    site.query("UPDATE reading SET value = 98 WHERE value = 2")
    assert {breach.kind for breach in _breaches(engine, **within)} == {"reading_altered"}
    site.query("UPDATE seal SET digest = sha256('x') WHERE chain_no = 1")
    assert "receipt_altered" in {breach.kind for breach in _breaches(engine, **within)}
    site.query("DELETE FROM seal WHERE chain_no = 1")
    assert "link_missing" in {breach.kind for breach in _breaches(engine, **within)}
    assert _verdict(engine, "gw-one", from_at=NOW + timedelta(days=9)).links == 0


def test_what_a_slow_clock_committed_is_sealed_by_the_thorough_run(engine: Engine, site: Site) -> None:
    _seal(engine)
    store = Store(site.url)
    store.commit([arrival("gw-one", 4, [reading(9, 9.0)])])
    store.close()
    site.query("UPDATE receipt SET committed_at = committed_at - interval '3 hours' WHERE seq = 4")
    assert seal.run(engine, NOW) == 0
    assert seal.run(engine, NOW, is_thorough=True) == 1
    assert _verdict(engine, "gw-one").unsealed == 0


def test_edits_do_not_break_the_chain(engine: Engine, site: Site) -> None:
    _seal(engine)
    site.query(
        "INSERT INTO reading_override (point_id, ts, rank, value, origin, actor, reason)"
        " SELECT point_id, ts, 1000000, 42, 'edit', 'regulator', 'typed wrong' FROM reading_override"
        " WHERE value = 7.5"
    )
    assert _breaches(engine) == []


LATER = NOW + timedelta(days=365)


def _drop_first_chunks(engine: Engine, site: Site) -> list[seals.Span]:
    store = Store(site.url)
    late = (FIRST_AT + timedelta(days=30)).isoformat()
    readings = [reading(5, 5.0, point="E002"), {"point": "E000", "ts": late, "value": 8.0}]
    store.commit([arrival("gw-one", 5, readings)])
    store.close()
    _seal(engine)
    return seal.drop_readings(engine, FIRST_AT + timedelta(days=14), LATER)


def test_dropped_readings_lie_under_a_tombstone(engine: Engine, site: Site) -> None:
    assert _drop_first_chunks(engine, site)
    assert site.query("SELECT value FROM reading") == [(8.0,)]
    assert _breaches(engine) == _breaches(engine, "gw-two") == []
    copies = site.query("SELECT seq FROM receipt WHERE rows_copy IS NOT NULL")
    assert copies == [(5,)]  # the only one with a reading left
    site.query("UPDATE seal SET covers = jsonb_set(covers, '{receipts}', '[]') WHERE kind = 'tombstone'")
    assert "receipt_altered" in {breach.kind for breach in _breaches(engine)}


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("UPDATE reading SET value = 9", "E000 at 2026-03-31T08:00:00+08:00 = 8.0 (good) was sealed, stored is 9.0"),
        ("DELETE FROM reading", "E000 at 2026-03-31T08:00:00+08:00 = 8.0 (good) was sealed and is gone"),
        ("UPDATE receipt SET rows_copy = NULL", "8.0 (good) is stored and was not sealed"),
    ],
)
def test_what_is_left_of_a_dropped_message_is_still_verified(engine: Engine, site: Site, sql: str, named: str) -> None:
    _drop_first_chunks(engine, site)
    site.query(sql)
    assert [named in breach.where for breach in _breaches(engine)] == [True]


def test_nothing_is_dropped_that_was_altered_or_may_still_change(engine: Engine, site: Site) -> None:
    _seal(engine)
    with pytest.raises(Invalid, match="devices deliver up to 6 months late"):
        seal.drop_readings(engine, NOW - timedelta(days=200), NOW)
    site.query("UPDATE reading SET value = 99 WHERE value = 1")
    with pytest.raises(Conflict, match=r"gw-one has 1 breach\(es\), nothing was dropped"):
        seal.drop_readings(engine, FIRST_AT + timedelta(days=14), LATER)
    assert site.query("SELECT count(*) FROM reading WHERE value = 99") == [(1,)]


def test_a_second_sealer_waits_its_turn(engine: Engine, site: Site) -> None:
    with engine.begin() as connection:
        assert seals.try_lock(connection)
        assert seal.run(engine, NOW) == 0
    assert seal.run(engine, NOW) == 5

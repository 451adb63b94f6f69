"""The ladder on a real database: what is stored, what is answered, and what is never stored twice."""

import hashlib
import itertools
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest

from deploy.local.postgres import Postgres
from ingest import payload
from ingest.store import Arrival, Outcome, Store, StoreUnavailableError, release_requested
from tests.integration.ingest_site import (
    FIRST_AT,
    RECEIVED_AT,
    Site,
    add_point,
    arrival,
    build_site,
    counts,
    reading,
)

GATEWAY = "gw-test-01"
EFFECTIVE = "SELECT point_id, ts, value, quality, is_disputed FROM reading_effective ORDER BY 1, 2"


@pytest.fixture
def site(database_url: str) -> Site:
    """Two gateways of three points each."""
    return build_site(database_url, GATEWAY, "gw-test-02")


@pytest.fixture
def store(site: Site) -> Iterator[Store]:
    """A store on this test's database."""
    opened = Store(site.url)
    yield opened
    opened.close()


def commit(store: Store, *arrivals: Arrival) -> list[Outcome]:
    return store.commit(arrivals)


def test_a_batch_is_stored_with_receipts_and_marks(site: Site, store: Store) -> None:
    readings = [reading(n, 100.5 + n, point=f"E{p:03d}") for n in range(6) for p in range(3)]
    outcomes = commit(store, arrival(GATEWAY, 1, readings), arrival("gw-test-02", 1, [reading(0, 7)], lane=1))
    assert [counts(one) for one in outcomes] == [(18, 0, 0, []), (1, 0, 0, [])]
    assert site.count("reading") == 19
    assert site.query("SELECT sum(value) FROM reading") == [(3 * sum(100.5 + n for n in range(6)) + 7,)]
    assert site.query("SELECT gateway_id, epoch, lane, seq, accepted FROM receipt ORDER BY 1") == [
        (site.gateway_ids[GATEWAY], "e1", 0, 1, 18),
        (site.gateway_ids["gw-test-02"], "e1", 1, 1, 1),
    ]
    marks = site.query("SELECT subject_id, point_id IS NULL, from_at, to_at FROM stale ORDER BY 1")
    hour = timedelta(hours=1)
    assert marks == [
        (site.gateway_ids[GATEWAY], True, FIRST_AT, FIRST_AT + 2 * hour),  # 00:00 to 01:15, two adjacent hours
        (site.gateway_ids["gw-test-02"], False, FIRST_AT, FIRST_AT + hour),
    ]


def test_the_rows_digest_can_be_computed_from_the_tables(site: Site, store: Store) -> None:
    commit(store, arrival(GATEWAY, 1, [reading(1, 5), reading(0, 4), reading(2, 6, rev=3)]))
    commit(store, arrival(GATEWAY, 2, [reading(0, 9), reading(1, 5), reading(3, 1)]))
    stored = dict(site.query("SELECT id, rows_digest FROM receipt"))
    assert len(stored) == 2
    for receipt_id, digest in stored.items():
        assert digest_of_tables(site, receipt_id) == bytes(digest)


def digest_of_tables(site: Site, receipt_id: int) -> bytes:
    """As ingest.store.rows describes it, by PostgreSQL's own binary COPY."""
    fields = "point_id, ts, value, quality, receipt_id"
    copied = (
        f"o.receipt_id = {receipt_id} AND o.origin = 'gateway' AND NOT (o.rank = 0 AND EXISTS (SELECT 1 FROM reading r"
    )
    own = "r.point_id = o.point_id AND r.ts = o.ts AND r.receipt_id = o.receipt_id AND r.value = o.value"
    selects = (
        f"SELECT {fields} FROM reading WHERE receipt_id = {receipt_id}",
        f"SELECT {fields}, rank FROM reading_override o WHERE {copied} WHERE {own} AND r.quality = o.quality))",
    )
    rows: list[bytes] = []
    with psycopg.connect(site.url) as connection, connection.cursor() as cursor:
        for select in selects:
            with cursor.copy(f"COPY ({select}) TO STDOUT (FORMAT binary)") as copy:
                stream = [bytes(part) for part in copy]
            head = stream[0][19:]  # the first part holds the head and the first row
            rows += [part for part in [head, *stream[1:]] if len(part) > 2]
    return hashlib.sha256(b"".join(sorted(rows))).digest()


def test_the_same_message_gets_the_same_ack_again(site: Site, store: Store) -> None:
    message = arrival(GATEWAY, 1, [reading(0, 1), reading(1, float("nan")), reading(0, 1, point="nobody")])
    first = commit(store, message)[0]
    again, within = commit(store, message, message)
    assert counts(first) == (1, 0, 0, [(1, "non_finite"), (2, "unknown_point")])
    assert again.is_repeat
    assert within.is_repeat
    assert again.ack == first.ack == within.ack
    assert (site.count("receipt"), site.count("reading"), site.count("quarantine")) == (1, 1, 2)


def test_a_reused_seq_stores_nothing_but_its_raw_bytes(site: Site, store: Store) -> None:
    commit(store, arrival(GATEWAY, 1, [reading(0, 1)]))
    other = arrival(GATEWAY, 1, [reading(1, 2)])
    assert counts(commit(store, other)[0]) == (0, 0, 0, [(None, "seq_reused")])
    in_one_batch = commit(store, arrival(GATEWAY, 2, [reading(2, 1)]), arrival(GATEWAY, 2, [reading(3, 1)]))
    assert [counts(one) for one in in_one_batch] == [(1, 0, 0, []), (0, 0, 0, [(None, "seq_reused")])]
    assert site.count("reading") == 2
    assert site.query("SELECT raw FROM quarantine WHERE reason = 'seq_reused' ORDER BY id LIMIT 1") == [(other.raw,)]


def test_the_other_lane_and_another_epoch_are_other_messages(site: Site, store: Store) -> None:
    for lane, epoch in itertools.product((0, 1), ("e1", "e2")):
        outcome = commit(store, arrival(GATEWAY, 1, [reading(0, 1)], lane=lane, epoch=epoch))[0]
        assert not outcome.is_repeat
    assert (site.count("receipt"), site.count("reading"), site.count("reading_override")) == (4, 1, 0)


def test_duplicates_are_counted_and_mark_nothing(site: Site, store: Store) -> None:
    readings = [reading(n, n) for n in range(10)]
    commit(store, arrival(GATEWAY, 1, readings))
    marks = site.count("stale")
    outcomes = commit(store, arrival(GATEWAY, 2, readings), arrival(GATEWAY, 3, [reading(50, 1), reading(50, 1)]))
    assert [counts(one) for one in outcomes] == [(0, 10, 0, []), (1, 1, 0, [])]
    assert site.count("reading") == 11
    assert site.count("stale") == marks + 1


ENTRIES = [
    reading(0, 10.0),
    reading(0, 11.0),
    reading(0, 10.0, quality="uncertain"),
    reading(0, 12.0, rev=2),
    reading(0, 12.0, rev=1),
    reading(0, 13.0, rev=1),
]


@pytest.mark.parametrize("seed", range(6))
def test_any_order_and_any_batches_give_the_same_entries(site: Site, store: Store, seed: int) -> None:
    order = random.Random(seed)
    arriving = [
        reading(n, entry["value"], **{k: entry[k] for k in ("rev", "quality") if k in entry})
        for n in range(3)
        for entry in ENTRIES[: 3 + n] + ENTRIES[3:4] * (n == 1)
    ]
    order.shuffle(arriving)
    seq = itertools.count(1)
    while arriving:
        batch = [arriving[:cut] for cut in (order.randint(1, 4), order.randint(1, 4))]
        batch = [batch[0], arriving[len(batch[0]) : len(batch[0]) + len(batch[1])]]
        arriving = arriving[sum(map(len, batch)) :]
        commit(store, *(arrival(GATEWAY, next(seq), part) for part in batch if part))
    effective = site.query("SELECT value, is_disputed FROM reading_effective ORDER BY ts")
    assert effective == [(None, True), (12.0, False), (12.0, False)]
    entries = site.query("SELECT count(*) FROM reading_override GROUP BY ts ORDER BY ts")
    assert entries == [(3,), (4,), (5,)]
    opened = site.query("SELECT from_at FROM finding WHERE reason = 'disputed' AND closed_at IS NULL")
    assert opened == [(FIRST_AT,)]


def test_a_first_arrival_with_a_rank_is_in_both_tables(site: Site, store: Store) -> None:
    assert counts(commit(store, arrival(GATEWAY, 1, [reading(0, 5, rev=2), reading(1, 6)]))[0]) == (2, 0, 0, [])
    assert site.query("SELECT rank, value FROM reading_override") == [(2, 5.0)]
    assert counts(commit(store, arrival(GATEWAY, 2, [reading(0, 4)]))[0]) == (1, 0, 0, [])
    assert site.query("SELECT value FROM reading_effective ORDER BY ts") == [(5.0,), (6.0,)]


def test_a_row_that_the_database_refuses_is_quarantined_alone(site: Site, store: Store) -> None:
    site.query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.value = 666 THEN RAISE numeric_value_out_of_range USING MESSAGE = 'poison'; END IF; RETURN NEW; END $$"
    )
    site.query("CREATE TRIGGER refuse BEFORE INSERT ON reading FOR EACH ROW EXECUTE FUNCTION refuse()")
    good = [reading(n, n, point=f"E{p:03d}") for n in range(20) for p in range(3)]
    poisoned = [*good[:30], reading(30, 666), *good[30:]]
    outcomes = commit(store, arrival(GATEWAY, 1, poisoned), arrival("gw-test-02", 1, [reading(0, 1)]))
    assert [counts(one) for one in outcomes] == [(60, 0, 0, [(30, "storage_error")]), (1, 0, 0, [])]
    assert site.count("reading") == 61
    ((raw, detail),) = site.query("SELECT raw, detail FROM quarantine")
    assert b"666" in raw
    assert "poison" in detail
    site.query("DROP TRIGGER refuse ON reading")
    site.query("UPDATE quarantine SET release_requested_at = now()")
    release_requested(store)
    assert site.query("SELECT value FROM reading WHERE value = 666") == [(666.0,)]


def test_what_cannot_be_stored_is_quarantined_with_its_reason(site: Site, store: Store) -> None:
    site.query("UPDATE gateway SET is_enabled = false WHERE code = 'gw-test-02'")
    deep = b"[" * 200_000
    bodies = {
        "malformed_json": (GATEWAY, b'{"epoch": "e1", "seq": 77, "readings": [}'),
        "unknown_gateway": ("gw-nobody", arrival(GATEWAY, 1, [reading(0, 1)]).raw),
        "gateway_disabled": ("gw-test-02", arrival(GATEWAY, 1, [reading(0, 1)]).raw),
        "invalid_message": (GATEWAY, b'{"epoch": "e\\u0000", "seq": 1, "readings": []}'),
        "too_large": (GATEWAY, b" " * 300_000),
    }
    arrivals = [Arrival(code, 0, raw, RECEIVED_AT) for code, raw in [*bodies.values(), (GATEWAY, deep)]]
    outcomes = commit(store, *arrivals)
    reasons = [*bodies, "malformed_json"]
    assert [counts(one)[3] for one in outcomes] == [[(None, reason)] for reason in reasons]
    assert outcomes[0].ack is not None
    assert (outcomes[0].ack.epoch, outcomes[0].ack.seq) == ("e1", 77)
    quarantined = site.query("SELECT reason, raw, gateway_code FROM quarantine ORDER BY id")
    assert quarantined == [(reason, one.raw, one.gateway_code) for reason, one in zip(reasons, arrivals, strict=True)]
    assert site.count("receipt") == 0


def test_bad_readings_do_not_take_good_ones_with_them(site: Site, store: Store) -> None:
    readings = [
        reading(0, 1),
        {"point": "E000", "ts": "1970-01-01T00:00:00Z", "value": 1},
        {"point": "E000", "ts": "2099-01-01T00:00:00Z", "value": 1},
        {"point": "E\ud800\u0000", "ts": FIRST_AT.isoformat(), "value": 1},
        {"point": "E000", "ts": "2026-02-30T00:00:00", "value": 1},
        {"point": "E000", "ts": "9999-12-31T23:59:59-12:00", "value": 1},
        reading(1, 2),
    ]
    expected = {1: "before_installation", 2: "in_future", 3: "unknown_point", 4: "bad_timestamp", 5: "in_future"}
    assert counts(commit(store, arrival(GATEWAY, 1, readings))[0]) == (2, 0, 0, list(expected.items()))
    assert site.query("SELECT item_index, reason, item_count FROM quarantine ORDER BY 1") == [
        (1, "before_installation", 1), (2, "in_future", 2), (3, "unknown_point", 1), (4, "bad_timestamp", 1)
    ]  # fmt: skip


def test_release_brings_readings_in_once_the_registry_is_right(site: Site, store: Store) -> None:
    commit(store, arrival(GATEWAY, 1, [reading(0, 1, point="new"), reading(1, 2, point="new"), reading(0, 3)]))
    commit(store, Arrival("gw-later", 0, arrival(GATEWAY, 9, [reading(5, 5)]).raw, RECEIVED_AT))
    site.query("UPDATE quarantine SET release_requested_at = now(), release_requested_by = 'me'")
    assert len(release_requested(store)) == 2
    still = site.query("SELECT release_requested_at, released_at, release_note FROM quarantine ORDER BY id")
    assert still == [(None, None, "unknown_point"), (None, None, "unknown_gateway")]
    point_id = add_point(site, GATEWAY, "new")
    site.query("UPDATE quarantine SET release_requested_at = now()")
    release_requested(store)
    assert site.query("SELECT value FROM reading WHERE point_id = %s ORDER BY ts", point_id) == [(1.0,), (2.0,)]
    released = site.query("SELECT released_at IS NOT NULL, release_receipt_id IS NOT NULL FROM quarantine ORDER BY id")
    assert released == [(True, True), (False, False)]
    site.query("UPDATE quarantine SET released_at = NULL, release_requested_at = now() WHERE reason = 'unknown_point'")
    release_requested(store)  # as after a crash between the commit and its note
    assert site.count("reading") == 3
    assert site.count("receipt") == 2


def test_two_writers_of_the_same_messages_store_them_once(site: Site) -> None:
    order = random.Random(5)
    messages = [arrival(GATEWAY, seq, [reading(seq * 5 + n, n) for n in range(7)]) for seq in range(60)]
    barrier = threading.Barrier(2)

    def write(seed: int) -> list[Outcome]:
        store, mine = Store(site.url), messages[:]
        random.Random(seed).shuffle(mine)
        barrier.wait()
        outcomes = [one for start in range(0, 60, 6) for one in store.commit(mine[start : start + 6])]
        store.close()
        return outcomes

    with ThreadPoolExecutor(2) as pool:
        outcomes = [one for part in pool.map(write, (order.random(), order.random())) for one in part]
    answers = {payload.encode_ack(one.ack) for one in outcomes if one.ack}
    assert len(answers) == 60  # both writers were told the same
    assert site.count("receipt") == 60
    assert site.query("SELECT sum(accepted + duplicate + disputed) FROM receipt") == [(420,)]
    assert site.count("reading") == len({seq * 5 + n for seq in range(60) for n in range(7)})


def test_a_database_that_is_away_loses_nothing(postgres: Postgres, site: Site, store: Store) -> None:
    commit(store, arrival(GATEWAY, 1, [reading(0, 1)]))
    site.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'nenghao-ingest' AND datname = current_database()"
    )
    message = arrival(GATEWAY, 2, [reading(1, 2)])
    with pytest.raises(StoreUnavailableError):
        store.commit([message])
    assert counts(store.commit([message])[0]) == (1, 0, 0, [])
    assert site.count("reading") == 2


def test_signs_of_life_are_kept(site: Site, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.store.ladder.HEARD_EVERY_S", 0.0)
    commit(store, arrival(GATEWAY, 1, [reading(3, 1), reading(1, 1)]))
    store.write_heard()
    rows = site.query("SELECT is_online, seen_at, last_reading_at, last_commit_at IS NOT NULL FROM gateway_state")
    assert rows == [(True, RECEIVED_AT, FIRST_AT + timedelta(minutes=45), True)]


def test_what_another_process_stores_beside_a_bad_message_is_a_repeat_and_no_fault(site: Site, store: Store) -> None:
    """Beside a message that the database refuses, each is written alone, and meets the other process there."""
    site.query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.seq = 1 THEN RAISE 'no'; END IF; RETURN NEW; END $$"
    )
    site.query("CREATE TRIGGER refuse BEFORE INSERT ON receipt FOR EACH ROW EXECUTE FUNCTION refuse()")
    bad, good = arrival(GATEWAY, 1, [reading(0, 1)]), arrival(GATEWAY, 2, [reading(1, 2)])
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(site.url) as other, ThreadPoolExecutor(1) as pool:
        other.execute(
            "INSERT INTO receipt (id, gateway_id, epoch, lane, seq, message_digest, rows_digest, accepted, duplicate,"
            " disputed, received_at, committed_at) VALUES (-1, %s, 'e1', 0, 2, %s, '', 1, 0, 0, now(), now())",
            [site.gateway_ids[GATEWAY], payload.digest(good.raw)],
        )
        committing = pool.submit(store.commit, [bad, good])
        deadline = time.monotonic() + 10
        while site.query(waiting) == [(0,)]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        other.commit()
        refused, repeated = committing.result(10)
    assert counts(refused) == (0, 0, 0, [(None, "storage_error")])
    assert (repeated.is_repeat, counts(repeated)) == (True, (1, 0, 0, []))
    assert site.query("SELECT seq FROM quarantine") == [(1,)]

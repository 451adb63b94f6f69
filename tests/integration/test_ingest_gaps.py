"""Missing messages are written down, asked for with growing pauses, and closed as received or lost."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from ingest.store import Arrival, Store, find_gaps, take_requests
from tests.integration.ingest_site import RECEIVED_AT, Site, arrival, build_site, reading

Row = tuple[int, int, str | None]


@pytest.fixture
def site(database_url: str) -> Site:
    return build_site(database_url, "gw-one")


@pytest.fixture
def store(site: Site) -> Iterator[Store]:
    opened = Store(site.url)
    yield opened
    opened.close()


def _send(store: Store, *seqs: int) -> None:
    for seq in seqs:
        store.commit([arrival("gw-one", seq, [reading(seq, float(seq))])])


def _find(store: Store, at: datetime) -> int:
    with store.translated() as connection:
        return find_gaps(connection, at)


def _ask(store: Store, at: datetime) -> list[tuple[int, int]]:
    with store.translated() as connection:
        return [(one.missing.first, one.missing.last) for one in take_requests(connection, at)]


def _ledger(site: Site) -> list[Row]:
    return site.query("SELECT from_seq, to_seq, outcome FROM sequence_gap ORDER BY from_seq")


def test_a_gap_is_found_once_asked_for_and_closed(site: Site, store: Store) -> None:
    _send(store, 0, 1, 2, 3, 4, 8, 9)
    now = datetime.now(UTC)
    assert _find(store, now) == 0
    later = now + timedelta(minutes=4)
    assert _find(store, later) == 1
    assert _find(store, later) == 0
    assert _ledger(site) == [(5, 7, None)]
    assert _ask(store, later) == [(5, 7)]
    assert _ask(store, later) == []
    assert _ask(store, later + timedelta(seconds=59)) == []
    assert _ask(store, later + timedelta(seconds=60)) == [(5, 7)]
    assert _ask(store, later + timedelta(seconds=120)) == []
    _send(store, 6)
    _find(store, later)
    assert _ledger(site) == [(5, 5, None), (6, 6, "received"), (7, 7, None)]
    store.commit([Arrival("gw-one", 0, b'{"epoch": "e1", "gone": [1, 5]}', RECEIVED_AT)])
    assert _ledger(site) == [(5, 5, "lost"), (6, 6, "received"), (7, 7, None)]
    _send(store, 7)
    _find(store, later)
    assert _ledger(site) == [(5, 5, "lost"), (6, 6, "received"), (7, 7, "received")]
    assert _ask(store, later + timedelta(days=9)) == []


def test_what_is_missing_before_the_first_is_a_gap_only_where_the_stream_is_new(site: Site, store: Store) -> None:
    _send(store, 3)
    store.commit([arrival("gw-one", 1, [reading(50, 1.0)], epoch="from-one")])
    store.commit([arrival("gw-one", 70_000, [reading(60, 1.0)], epoch="elsewhere")])
    assert _find(store, datetime.now(UTC) + timedelta(minutes=5)) == 1
    assert _ledger(site) == [(0, 2, None)]


def test_a_hole_is_found_though_nothing_follows(site: Site, store: Store) -> None:
    _send(store, 0, 1, 3)
    now = datetime.now(UTC)
    assert _find(store, now) == 0
    assert _find(store, now + timedelta(hours=30)) == 1
    assert _ledger(site) == [(2, 2, None)]


def test_a_gateway_that_is_away_is_asked_when_it_is_back(site: Site, store: Store) -> None:
    _send(store, 0, 2)
    later = datetime.now(UTC) + timedelta(minutes=5)
    _find(store, later)
    state = "INSERT INTO gateway_state (gateway_id, is_online, said_at, seen_at) SELECT id, false, %s, %s FROM gateway"
    site.query(state, later, later - timedelta(minutes=1))
    assert _ask(store, later) == []
    site.query("UPDATE gateway_state SET seen_at = said_at + interval '1 second'")
    assert _ask(store, later) == [(1, 1)]


def test_old_gaps_that_are_not_due_do_not_hide_new_ones(site: Site, store: Store) -> None:
    _send(store, 0)
    now = datetime.now(UTC)
    site.query(
        "INSERT INTO sequence_gap (gateway_id, epoch, lane, from_seq, to_seq, found_at, requested_at, request_count)"
        " SELECT g.id, 'old', 0, n, n, %s, %s, 20 FROM gateway g, generate_series(1, 1000, 2) n",
        now, now - timedelta(hours=20),
    )  # fmt: skip
    site.query(
        "INSERT INTO sequence_gap (gateway_id, epoch, lane, from_seq, to_seq, found_at, requested_at, request_count)"
        " SELECT id, 'new', 0, 7, 8, %s, %s, 2 FROM gateway", now, now - timedelta(minutes=2),
    )  # fmt: skip
    assert _ask(store, now) == [(7, 8)]
    assert len(_ask(store, now + timedelta(hours=5))) == 50


def test_another_epoch_or_lane_is_another_stream(site: Site, store: Store) -> None:
    _send(store, 0, 1)
    store.commit([arrival("gw-one", 0, [reading(50, 1.0)], epoch="other")])
    store.commit([arrival("gw-one", seq, [reading(60 + seq, 1.0)], lane=1) for seq in (0, 1)])
    assert _find(store, datetime.now(UTC) + timedelta(hours=0.5)) == 0
    assert _ledger(site) == []


def test_a_disabled_gateway_is_not_asked(site: Site, store: Store) -> None:
    _send(store, 0, 3)
    later = datetime.now(UTC) + timedelta(minutes=5)
    _find(store, later)
    site.query("UPDATE gateway SET is_enabled = false")
    assert _ask(store, later) == []
    site.query("UPDATE gateway SET is_enabled = true")
    assert _ask(store, later) == [(1, 2)]

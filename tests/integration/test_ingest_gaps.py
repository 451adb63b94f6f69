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
    _send(store, 3, 4, 8, 9)
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


def test_another_epoch_or_lane_is_another_stream(site: Site, store: Store) -> None:
    _send(store, 0, 1)
    store.commit([arrival("gw-one", 5, [reading(50, 1.0)], epoch="other")])
    store.commit([arrival("gw-one", 9, [reading(60, 1.0)], lane=1)])
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

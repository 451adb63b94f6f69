"""Edits beside the chain of evidence, ingest and retention: what a gateway sent stays provable, before and after."""

import itertools
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.db import evidence, seals
from app.db.access import Caller
from app.db.scope import CITY
from app.errors import Invalid
from app.intake import edits as intake
from app.pipeline import rollup, seal, verify
from ingest.store import Store
from tests.integration import ingest_site

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CALLER = Caller("one", "operator", CITY)
QUARTER = timedelta(minutes=15)


def test_stretch_after_dropped_readings_is_as_long_as_the_rollups_block() -> None:
    assert intake.NOT_RECOMPUTED == rollup.BLOCK


def _breaches(engine: Engine) -> list[verify.Breach]:
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        gateway = seals.gateways(connection, "gw-one")[0]
        return list(verify.gateway(connection, gateway.id, "gw-one").breaches)


def _entry(number: int, value: float | None) -> intake.EditEntry:
    ts = ingest_site.FIRST_AT + number * QUARTER
    return intake.EditEntry(gateway="gw-one", point="E000", ts=ts, value=value, reason="misread")


def _edit(engine: Engine, number: int, value: float | None) -> None:
    with engine.begin() as connection:
        intake.enter(connection, CALLER, [_entry(number, value)], now=NOW)


def _entries(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT rank, value, origin FROM reading_override ORDER BY rank, value"))
        return [tuple(row) for row in rows]


def _open_disputes(engine: Engine) -> int:
    with engine.connect() as connection:
        found = text("SELECT count(*) FROM finding WHERE reason = 'disputed' AND closed_at IS NULL")
        return int(connection.execute(found).scalar_one())


def _send(url: str, seq: int, *readings: dict[str, Any]) -> tuple[int, int, int, list[tuple[int | None, str]]]:
    store = Store(url)
    try:
        return ingest_site.counts(store.commit([ingest_site.arrival("gw-one", seq, list(readings))])[0])
    finally:
        store.close()


def _seal(engine: Engine) -> None:
    while seal.run(engine, NOW):
        pass


def test_the_chain_of_evidence_is_not_affected(engine: Engine, database_url: str) -> None:
    """Edits before and after a revision, of a dispute, and where nothing was sent."""
    ingest_site.build_site(database_url, "gw-one")
    reading = ingest_site.reading
    _send(database_url, 0, *(reading(n, float(n)) for n in range(4)))
    _send(database_url, 1, reading(1, 1.5, rev=1), reading(2, 2.5), reading(9, 9.0, rev=4))
    _seal(engine)
    for number in (0, 1, 2, 9, 20):
        _edit(engine, number, 42.0)
    _edit(engine, 0, None)
    assert _breaches(engine) == []
    # What the gateway sends afterwards is kept and counts for nothing.
    assert _send(database_url, 2, reading(0, 0.5, rev=3), reading(1, 1.75, rev=2), reading(3, 3.0)) == (2, 1, 0, [])
    _seal(engine)
    assert _breaches(engine) == []
    with engine.connect() as connection:
        counting = text("SELECT value FROM reading_effective WHERE ts < :t ORDER BY ts")
        values = connection.execute(counting, {"t": ingest_site.FIRST_AT + 4 * QUARTER}).scalars().all()
    assert values == [None, 42.0, 42.0, 3.0]


def test_a_reading_after_its_manual_value_is_copied_by_the_next_edit(engine: Engine, database_url: str) -> None:
    ingest_site.build_site(database_url, "gw-one")
    _edit(engine, 0, 42.0)
    _send(database_url, 0, ingest_site.reading(0, 1.0))
    _edit(engine, 0, 43.0)
    assert _entries(engine) == [
        (0, 1.0, "gateway"), (1_000_000, 42.0, "edit"), (1_000_001, 43.0, "edit")
    ]  # fmt: skip
    _seal(engine)
    assert _breaches(engine) == []


def test_a_revision_that_comes_during_an_edit_waits_and_sees_it(engine: Engine, database_url: str) -> None:
    ingest_site.build_site(database_url, "gw-one")
    _send(database_url, 0, ingest_site.reading(0, 1.0))
    answers: list[object] = []
    sender = threading.Thread(target=lambda: answers.append(_send(database_url, 1, ingest_site.reading(0, 1.5, rev=1))))
    with engine.begin() as connection:
        intake.enter(connection, CALLER, [_entry(0, 42.0)], now=NOW)
        sender.start()
        sender.join(0.7)
        assert sender.is_alive(), "the revision did not wait for the edit"
    sender.join(20)
    assert answers == [(1, 0, 0, [])]
    assert _entries(engine) == [(0, 1.0, "gateway"), (1, 1.5, "gateway"), (1_000_000, 42.0, "edit")]
    _seal(engine)
    assert _breaches(engine) == []


def test_two_edits_of_one_instant_at_once_take_two_ranks(engine: Engine, database_url: str) -> None:
    ingest_site.build_site(database_url, "gw-one")
    second = threading.Thread(target=lambda: _edit(engine, 0, 43.0))
    with engine.begin() as connection:
        intake.enter(connection, CALLER, [_entry(0, 42.0)], now=NOW)
        second.start()
        second.join(0.7)
        assert second.is_alive(), "the second edit did not wait for the first"
    second.join(20)
    assert _entries(engine) == [(1_000_000, 42.0, "edit"), (1_000_001, 43.0, "edit")]


def test_what_retention_dropped_is_not_edited(engine: Engine, database_url: str) -> None:
    ingest_site.build_site(database_url, "gw-one")
    later = ingest_site.FIRST_AT + timedelta(days=30)
    for seq, ts in enumerate((ingest_site.FIRST_AT, later)):
        _send(database_url, seq, {"point": "E000", "ts": ts.isoformat(), "value": 1.0})
    _seal(engine)
    assert seal.drop_readings(engine, ingest_site.FIRST_AT + timedelta(days=14), NOW + timedelta(days=365))
    with pytest.raises(Invalid) as refused:
        _edit(engine, 0, 42.0)
    assert "dropped by retention" in refused.value.extra["errors"][0]["message"]
    _edit(engine, 30 * 96, 42.0)
    assert _breaches(engine) == []


def test_a_reading_after_its_manual_value_breaks_no_evidence(engine: Engine, database_url: str) -> None:
    ingest_site.build_site(database_url, "gw-one")
    _edit(engine, 0, 42.0)
    assert _send(database_url, 0, ingest_site.reading(0, 1.0)) == (1, 0, 0, [])
    _seal(engine)
    assert _breaches(engine) == []


def test_a_revision_after_a_manual_value_is_stored(engine: Engine, database_url: str) -> None:
    ingest_site.build_site(database_url, "gw-one")
    _edit(engine, 0, 42.0)
    _send(database_url, 0, ingest_site.reading(0, 1.0))
    assert _send(database_url, 1, ingest_site.reading(0, 1.5, rev=1)) == (1, 0, 0, [])


def test_a_reading_sent_again_after_its_manual_value_is_a_duplicate(engine: Engine, database_url: str) -> None:
    ingest_site.build_site(database_url, "gw-one")
    _edit(engine, 0, 42.0)
    _send(database_url, 0, ingest_site.reading(0, 1.0))
    assert _send(database_url, 1, ingest_site.reading(0, 1.0)) == (0, 1, 0, [])


def test_all_that_comes_after_a_manual_value_is_kept_once(engine: Engine, database_url: str) -> None:
    """The reading, sent again, a revision, another value of the first: all kept, none counts, nothing to decide."""
    ingest_site.build_site(database_url, "gw-one")
    reading = ingest_site.reading
    _edit(engine, 0, 42.0)
    answers = [
        _send(database_url, seq, one)
        for seq, one in enumerate((reading(0, 1.0), reading(0, 1.0), reading(0, 1.5, rev=1), reading(0, 2.0)))
    ]
    assert answers == [(1, 0, 0, []), (0, 1, 0, []), (1, 0, 0, []), (1, 0, 0, [])]
    assert _send(database_url, 4, reading(0, 1.0), reading(0, 1.5, rev=1), reading(0, 2.0)) == (0, 3, 0, [])
    _edit(engine, 0, 43.0)
    assert _entries(engine) == [
        (0, 1.0, "gateway"), (0, 2.0, "gateway"), (1, 1.5, "gateway"),
        (1_000_000, 42.0, "edit"), (1_000_001, 43.0, "edit"),
    ]  # fmt: skip
    _seal(engine)
    assert _breaches(engine) == []
    assert _open_disputes(engine) == 0


def test_two_values_in_one_message_after_a_manual_value_are_no_dispute(engine: Engine, database_url: str) -> None:
    ingest_site.build_site(database_url, "gw-one")
    _edit(engine, 0, 42.0)
    assert _send(database_url, 0, ingest_site.reading(0, 1.0), ingest_site.reading(0, 2.0)) == (2, 0, 0, [])
    assert _entries(engine) == [(0, 1.0, "gateway"), (0, 2.0, "gateway"), (1_000_000, 42.0, "edit")]
    assert _open_disputes(engine) == 0


def test_a_first_arrival_with_a_rank_after_its_manual_value(engine: Engine, database_url: str) -> None:
    ingest_site.build_site(database_url, "gw-one")
    _edit(engine, 0, 42.0)
    assert _send(database_url, 0, ingest_site.reading(0, 1.5, rev=3)) == (1, 0, 0, [])
    assert _send(database_url, 1, ingest_site.reading(0, 1.5, rev=3), ingest_site.reading(0, 1.0)) == (1, 1, 0, [])
    assert _entries(engine) == [(0, 1.0, "gateway"), (3, 1.5, "gateway"), (1_000_000, 42.0, "edit")]
    _seal(engine)
    assert _breaches(engine) == []


ARRIVALS: dict[str, dict[str, Any] | None] = {
    "edit": None,
    "reading": {"value": 1.0},
    "revision": {"value": 1.5, "rev": 1},
    "dispute": {"value": 2.0},
}


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one message"])
def test_any_order_of_edit_and_readings_gives_the_same(engine: Engine, database_url: str, together: bool) -> None:
    """Every order, each at an instant of its own; what a gateway sends between two edits alone or in one message."""
    ingest_site.build_site(database_url, "gw-one")
    orders = list(itertools.permutations(ARRIVALS))
    seq = itertools.count()
    for number, order in enumerate(orders):
        waiting: list[dict[str, Any]] = []
        for name in order:
            content = ARRIVALS[name]
            if content is not None:
                waiting.append(ingest_site.reading(number, **content))
            if waiting and (content is None or not together):
                _send(database_url, next(seq), *waiting)
                waiting = []
            if content is None:
                _edit(engine, number, 42.0)
        if waiting:
            _send(database_url, next(seq), *waiting)
    with engine.connect() as connection:
        effective = connection.execute(text("SELECT value, is_disputed, is_edited FROM reading_effective")).all()
        entries = connection.execute(
            text("SELECT ts, array_agg((rank, value)::text ORDER BY rank, value) FROM reading_override GROUP BY ts")
        ).all()
    assert [tuple(row) for row in effective] == [(42.0, False, True)] * len(orders)
    kept = ["(0,1)", "(0,2)", "(1,1.5)", "(1000000,42)"]
    assert [row[1] for row in entries] == [kept] * len(orders)
    assert _open_disputes(engine) == 0
    _seal(engine)
    assert _breaches(engine) == []


def test_a_figures_chain_shows_the_reading_beside_its_earlier_manual_value(engine: Engine, database_url: str) -> None:
    ingest_site.build_site(database_url, "gw-one")
    _edit(engine, 0, 42.0)
    _send(database_url, 0, ingest_site.reading(0, 1.0))
    at = ingest_site.FIRST_AT
    with engine.connect() as connection:
        point_id = connection.execute(text("SELECT point_id FROM reading")).scalar_one()
        rows = evidence.readings(connection, point_id, at, at, 10)
    assert [(row["origin"], row["rank"], row["value"], row["counts"]) for row in rows] == [
        ("gateway", 0, 1, False), ("edit", 1_000_000, 42, True)
    ]  # fmt: skip

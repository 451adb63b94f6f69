"""Retention drops raw readings; the figures that were made of them stay, whatever is recomputed afterwards."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from app.pipeline import rollup, seal
from ingest.store import Store
from tests.integration.ingest_site import FIRST_AT, arrival, build_site, reading

NOW = datetime(2027, 6, 1, tzinfo=UTC)
DAYS, PER_DAY = 42, 96


def _roll_up(engine: Engine) -> None:
    while rollup.run(engine, NOW):
        pass


def test_a_recomputation_keeps_the_figures_of_what_was_dropped(database_url: str, engine: Engine) -> None:
    site = build_site(database_url, "gw-one", points=1)
    store = Store(database_url)
    store.commit(
        [
            arrival("gw-one", day, [reading(day * PER_DAY + n, day * PER_DAY + n + 0.5) for n in range(PER_DAY)])
            for day in range(DAYS)
        ]
    )
    store.close()
    _roll_up(engine)
    while seal.run(engine, NOW):
        pass
    figures = "SELECT day, quantity, windows_received FROM usage_day ORDER BY day"
    before = site.query(figures)
    assert len(before) == DAYS + 1  # the first is one hour short of a day, the last the eight hours to midnight in UTC
    dropped = seal.drop_readings(engine, FIRST_AT + timedelta(days=20), NOW)
    assert len(dropped) >= 2
    left = site.query("SELECT count(*) FROM reading")[0][0]
    assert 0 < left < DAYS * PER_DAY
    site.query(
        "INSERT INTO stale (stage, subject_id, from_at, to_at, cause) SELECT 'rollup', id, %s, %s, 'registry'"
        " FROM gateway",
        FIRST_AT - timedelta(days=100),
        FIRST_AT + timedelta(days=DAYS + 1),
    )
    _roll_up(engine)
    assert site.query(figures) == before
    site.query("UPDATE reading SET value = value + 1 WHERE ts = (SELECT max(ts) FROM reading)")
    site.query("INSERT INTO stale (stage, subject_id, from_at, to_at) SELECT 'rollup', id, %s, %s FROM gateway",
               FIRST_AT, FIRST_AT + timedelta(days=DAYS + 1))  # fmt: skip
    _roll_up(engine)
    assert site.query(figures)[:-1] == before[:-1]
    assert site.query(figures)[-1] != before[-1]

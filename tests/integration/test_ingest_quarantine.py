"""Quarantine holds what a message was refused for in few rows, and a release brings every reading in exactly once."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from ingest import payload
from ingest.store import Arrival, Store, release_requested
from tests.integration.ingest_site import (
    FIRST_AT,
    INSTALLED_AT,
    RECEIVED_AT,
    Site,
    add_point,
    arrival,
    build_site,
    counts,
    reading,
)

GATEWAY = "gw-one"
MOST = payload.MAX_READINGS
ROWS = "SELECT reason, point_code, item_count, item_index FROM quarantine ORDER BY id"


@pytest.fixture
def site(database_url: str) -> Site:
    return build_site(database_url, GATEWAY)


@pytest.fixture
def store(site: Site) -> Iterator[Store]:
    opened = Store(site.url)
    yield opened
    opened.close()


def series(point: str, length: int, *, first: int = 0, value: float = 1.0) -> dict[str, Any]:
    start = (FIRST_AT + timedelta(seconds=first)).isoformat()
    return {"point": point, "start": start, "step_s": 1, "values": [value] * length}


def send(store: Store, seq: int, **content: Any) -> list[tuple[int | None, str]]:
    """Give a message to the store; every reading is named in its ack."""
    body = json.dumps({"epoch": "e1", "seq": seq, **content}, separators=(",", ":")).encode()
    assert len(body) <= payload.MAX_BYTES
    (outcome,) = store.commit([Arrival(GATEWAY, 0, body, RECEIVED_AT)])
    return counts(outcome)[3]


def add_points(site: Site, names: list[str]) -> None:
    site.query(
        "WITH made AS (INSERT INTO point (gateway_id, code, signal, unit)"
        " SELECT %s, unnest(%s::text[]), 'register', 'kWh' RETURNING id)"
        " INSERT INTO meter_installation (point_id, from_at, serial) SELECT id, %s::timestamptz, 'S' FROM made",
        site.gateway_ids[GATEWAY],
        names,
        INSTALLED_AT,
    )


def release(site: Site, store: Store) -> None:
    site.query("UPDATE quarantine SET release_requested_at = now() WHERE released_at IS NULL")
    while release_requested(store):
        pass


def open_items(site: Site) -> int:
    return int(site.query("SELECT coalesce(sum(item_count), 0) FROM quarantine WHERE released_at IS NULL")[0][0])


def test_10_000_readings_of_an_unknown_point_are_one_row_and_come_in_once(site: Site, store: Store) -> None:
    rejected = send(store, 1, series=[series("NEW", MOST)])
    assert rejected == [(index, "unknown_point") for index in range(MOST)]
    assert site.query(ROWS) == [("unknown_point", "NEW", MOST, 0)]
    assert site.query("SELECT ts, octet_length(raw) < 60000 FROM quarantine") == [(FIRST_AT, True)]
    release(site, store)  # the point is still unknown
    assert site.query("SELECT item_count, release_note FROM quarantine") == [(MOST, "unknown_point")]
    assert site.count("reading") == 0
    point_id = add_point(site, GATEWAY, "NEW")
    release(site, store)
    expected = [(MOST, FIRST_AT, FIRST_AT + timedelta(seconds=MOST - 1))]
    assert site.query("SELECT count(*), min(ts), max(ts) FROM reading WHERE point_id = %s", point_id) == expected
    assert site.query("SELECT released_at IS NOT NULL, release_note FROM quarantine") == [
        (True, f"accepted {MOST}, duplicate 0, disputed 0")
    ]
    site.query("UPDATE quarantine SET released_at = NULL")  # as after a crash between the commit and its note
    release(site, store)
    assert (site.count("reading"), site.count("receipt"), site.count("quarantine")) == (MOST, 2, 1)
    assert site.query("SELECT sum(accepted), sum(duplicate) FROM receipt") == [(MOST, 0)]


def test_many_unknown_points_share_rows_beyond_the_first(site: Site, store: Store) -> None:
    """A hostile message: 2,000 points, each named five times; of them 500 are registered afterwards."""
    names = [f"H{n:04d}" for n in range(2000)]
    several = [series(name, 5) for name in names]
    assert len(send(store, 1, series=several)) == MOST
    rows = site.query(ROWS)
    assert rows[:20] == [("unknown_point", name, 5, 5 * n) for n, name in enumerate(names[:20])]
    assert rows[20:] == [("unknown_point", None, MOST - 100, 100)]
    assert site.query("SELECT detail FROM quarantine WHERE point_code IS NULL") == [
        ("no point 'H0020' at gateway gw-one; and 1979 more of the kind",)
    ]
    add_points(site, names[:500])
    release(site, store)
    assert site.count("reading") == 2500
    assert open_items(site) == MOST - 2500
    assert site.count("quarantine") <= 21 + 21
    add_points(site, names[500:])
    release(site, store)
    assert (site.count("reading"), open_items(site)) == (MOST, 0)
    assert site.query("SELECT count(*) FROM (SELECT DISTINCT point_id, ts FROM reading)") == [(MOST,)]


def test_each_reason_has_its_row_and_good_readings_stay(site: Site, store: Store) -> None:
    early = (INSTALLED_AT - timedelta(days=1)).isoformat()
    bad = [
        reading(0, 1.0), {"point": "E000", "ts": early, "value": 1}, {"point": "E000", "ts": "x", "value": 1},
        {"point": "E000", "value": "x", "ts": early}, {"value": 1}, 7, {"point": "NEW", "ts": early, "value": 1},
        {"point": "E000", "ts": "y", "value": 1}, {"point": "E001", "ts": "y", "value": 1},
    ]  # fmt: skip
    assert len(send(store, 1, readings=bad, series=[{**series("NEW", 3), "values": [1, "x", 2]}])) == 11
    assert site.query("SELECT reason, point_code, item_count FROM quarantine ORDER BY 1, 2 NULLS FIRST") == [
        ("bad_timestamp", "E000", 2), ("bad_timestamp", "E001", 1), ("before_installation", "E000", 1),
        ("invalid_item", None, 2), ("invalid_item", "E000", 1), ("invalid_item", "NEW", 1), ("unknown_point", "NEW", 3),
    ]  # fmt: skip
    assert site.count("reading") == 1
    add_point(site, GATEWAY, "NEW")
    release(site, store)
    assert site.query("SELECT value FROM reading ORDER BY point_id, ts") == [(1.0,), (1.0,), (2.0,)]
    assert open_items(site) == 9  # one of the three was before the installation, and is quarantined anew as that
    anew = site.query("SELECT reason, item_count FROM quarantine WHERE point_code = 'NEW' AND released_at IS NULL")
    assert sorted(anew) == [("before_installation", 1), ("invalid_item", 1)]


def test_what_grows_when_written_again_is_parted_and_still_released(site: Site, store: Store) -> None:
    """1E15 becomes 1000000000000000.0: the readings no longer fit into one message."""
    items = ['{"point":"NEW","ts":"%s","value":1E15}' % reading(n, 0)["ts"] for n in range(4150)]  # noqa: UP031
    body = f'{{"epoch":"e1","seq":1,"readings":[{",".join(items)}]}}'.encode()
    assert 250_000 < len(body) <= payload.MAX_BYTES
    (outcome,) = store.commit([Arrival(GATEWAY, 0, body, RECEIVED_AT)])
    assert len(counts(outcome)[3]) == len(items)
    assert sum(row[2] for row in site.query(ROWS)) == len(items)
    assert 1 < site.count("quarantine") <= 8
    add_point(site, GATEWAY, "NEW")
    release(site, store)
    assert (site.count("reading"), open_items(site)) == (len(items), 0)


def test_a_code_that_nobody_can_register_does_not_fill_the_database(site: Site, store: Store) -> None:
    long = "X" * 150_000
    values = [1, "x", 1e999, None, [2]] * 2000
    one = {**series(long, 0), "values": values}
    assert len(send(store, 1, series=[one])) == 8000
    rows, size = site.query("SELECT count(*), sum(octet_length(raw)) FROM quarantine")[0]
    assert rows == 3  # unknown_point, invalid_item, non_finite
    assert size < 3 * (150_000 + 60_000)
    assert site.query("SELECT DISTINCT point_code FROM quarantine") == [("X" * 64,)]


def test_a_database_that_refuses_many_rows_of_a_point_makes_one_row(site: Site, store: Store) -> None:
    site.query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.value > 600 THEN RAISE numeric_value_out_of_range USING MESSAGE = 'poison'; END IF; RETURN NEW; END $$"
    )
    site.query("CREATE TRIGGER refuse BEFORE INSERT ON reading FOR EACH ROW EXECUTE FUNCTION refuse()")
    readings = [reading(n, 700.0 if n % 3 == 0 else 1.0) for n in range(30)]
    answer = counts(store.commit([arrival(GATEWAY, 1, readings)])[0])
    assert answer == (20, 0, 0, [(n, "storage_error") for n in range(0, 30, 3)])
    assert site.query(ROWS) == [("storage_error", "E000", 10, 0)]
    site.query("DROP TRIGGER refuse ON reading")
    release(site, store)
    assert site.query("SELECT count(*) FROM reading WHERE value = 700") == [(10,)]

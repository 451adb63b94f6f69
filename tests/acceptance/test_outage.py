"""PostgreSQL is away while 5,000 readings a second keep coming: memory stays bounded, nothing is lost.

Memory would be small with readings alone: gateways stop at 64 unanswered messages. So one more gateway fills all that
the process may hold with the largest packets that the broker lets through.
"""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from deploy.local.folder import scratch_folder
from deploy.local.unpack import ServerPrograms
from simulators.chaos.conductor import StreamProcess
from simulators.chaos.site import site_plan, store_path
from simulators.chaos.stream import Order
from simulators.chaos.verdict import Sent, look_at_stores
from simulators.store import Store, StoreError
from tests.acceptance.device import Device
from tests.acceptance.installation import wait_for
from tests.acceptance.pipeline import Pipeline, running

OUTAGE_S = float(os.environ.get("NENGHAO_OUTAGE_S", "60"))
READINGS_PER_S = 5_000
GATEWAYS, QUARTERS = 24, 8  # about 46 readings a message
LARGE_MESSAGES = {"live": 250, "backfill": 100}
LARGE_BYTES = 255 * 1024
SITE = "outage"
MEMORY_MIB = 150
STORED = "SELECT count(*), count(DISTINCT (point_id, ts)), sum(value::numeric) FROM reading"


@pytest.fixture
def pipeline(programs: ServerPrograms) -> Iterator[Pipeline]:
    with scratch_folder() as folder, running(programs, folder, SITE, GATEWAYS + 1) as started:
        yield started


def _order(pipeline: Pipeline) -> Order:
    points = sum(len(enterprise.points) for enterprise in site_plan(SITE, GATEWAYS))
    path, pace = store_path(pipeline.folder, 0), READINGS_PER_S / (points * QUARTERS)
    passwords = {enterprise.gateway: pipeline.passwords[enterprise.gateway] for enterprise in site_plan(SITE, GATEWAYS)}
    return Order(SITE, GATEWAYS, passwords, str(path), "127.0.0.1", pipeline.broker.port, 1, pace, QUARTERS)


def _send_large_messages(device: Device) -> None:
    for lane, count in LARGE_MESSAGES.items():
        for seq in range(count):
            device.send({"epoch": "large", "seq": seq, "readings": [], "note": "x" * LARGE_BYTES}, lane)


def _tallies(path: Path) -> tuple[int, int]:
    """Return how many readings were written and how many of them were answered."""
    try:
        store = Store(path, is_read_only=True)
    except StoreError:  # the stream has not made it yet
        return 0, 0
    tally = store.tally()
    store.close()
    return tally.queued, tally.handled


def _stream_through_outage(
    pipeline: Pipeline, stream: StreamProcess, path: Path, device: Device
) -> tuple[float, float, float]:
    """Return the readings a second that came in, how long ingest took to see the database again, and those answered
    a second from then on until the backlog was worked off.
    """
    stream.start()
    wait_for("the first readings", lambda: _tallies(path)[1] > READINGS_PER_S, 30)
    pipeline.postgres.stop()
    _send_large_messages(device)
    stopped_s, (queued_before, _) = time.monotonic(), _tallies(path)
    time.sleep(OUTAGE_S)
    queued, handled = _tallies(path)
    pace = (queued - queued_before) / (time.monotonic() - stopped_s)
    pipeline.postgres.start()
    started_s = time.monotonic()
    wait_for("the first answer", lambda: _tallies(path)[1] > handled, 30)
    begun_s = time.monotonic()
    wait_for("the backlog to be worked off", lambda: _lag(path) < READINGS_PER_S, 60 + 2 * OUTAGE_S)
    rate = (_tallies(path)[1] - handled) / (time.monotonic() - begun_s)
    stream.tell(do="finish")
    wait_for("all answers", lambda: stream.exit_code() == 0, 90 + OUTAGE_S)
    return pace, begun_s - started_s, rate


def _lag(path: Path) -> int:
    queued, handled = _tallies(path)
    return queued - handled


def _check_nothing_is_lost(pipeline: Pipeline, sent: Sent) -> None:
    assert sent.waiting_messages == 0
    assert sent.tallies["queued"] == sent.tallies["accepted"] + sent.tallies["duplicate"]
    assert sent.tallies["accepted"] == len(sent.counted)
    with psycopg.connect(pipeline.url) as connection:
        row = connection.execute(STORED).fetchone()
    assert row is not None
    assert row[:2] == (len(sent.counted), len(sent.counted))
    assert float(row[2]) == pytest.approx(sum(sent.counted.values()), rel=1e-12)


@pytest.mark.slow
@pytest.mark.timeout(300 + 5 * max(0, int(OUTAGE_S) - 60))
def test_an_outage_of_the_database_loses_nothing_and_fits_in_memory(pipeline: Pipeline) -> None:
    order = _order(pipeline)
    stream = StreamProcess("stream", order, pipeline.folder / "stream.log")
    code = (pipeline.passwords.keys() - order.passwords.keys()).pop()
    with Device(pipeline.broker.port, code, pipeline.passwords[code]) as device, closing(stream):
        pace, seen_s, rate = _stream_through_outage(pipeline, stream, Path(order.store), device)
        for _ in range(sum(LARGE_MESSAGES.values())):
            assert device.acks.get(timeout=30)["rejected"] == []
    peak = pipeline.ingest.peak_memory_mib()
    print(f"\n{pace:.0f} readings/s for {OUTAGE_S:.0f} s away, seen again after {seen_s:.1f} s;", end=" ")
    print(f"caught up at {rate:.0f} readings/s; {peak:.0f} MiB at most")
    assert pace > 0.9 * READINGS_PER_S
    assert peak <= MEMORY_MIB
    assert "nenghao_ingest_is_storing 1.0" in pipeline.ingest.metrics()
    _check_nothing_is_lost(pipeline, look_at_stores([Path(order.store)], list(pipeline.passwords)))

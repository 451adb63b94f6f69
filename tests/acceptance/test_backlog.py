"""Half a year of readings comes on the backfill lane while live readings keep coming: the live ones hardly wait."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from deploy.local.folder import scratch_folder
from deploy.local.unpack import ServerPrograms
from simulators.chaos.conductor import StreamProcess
from simulators.chaos.site import site_plan, store_path
from simulators.chaos.stream import START_S, Order, Stream
from simulators.faults import Faults
from simulators.sampling import Sampler
from simulators.store import Store
from simulators.truth import DAY_S, Meter
from tests.acceptance.pipeline import Pipeline, running

SITE = "backlog"
GATEWAYS, LIVE_GATEWAYS = 14, 4  # the first four send live readings, the others their half year
LIVE_MESSAGES_PER_S = 10  # of each
DAYS = int(os.environ.get("NENGHAO_BACKLOG_DAYS", "183"))
SECONDS_ALONE = 10.0
# The goal is 2; 1.1 to 1.4 is measured on an idle machine of two cores. One that other work shares scatters (2.4 was
# seen), so this only finds a lane that waits for the other. The figure is printed: pytest -s.
MAX_RATIO = 5.0


@pytest.fixture
def pipeline(programs: ServerPrograms) -> Iterator[Pipeline]:
    with scratch_folder() as folder, running(programs, folder, SITE, GATEWAYS) as started:
        yield started


def _order(pipeline: Pipeline, number: int, codes: list[str], ticks_per_s: float) -> Order:
    passwords = {code: pipeline.passwords[code] for code in codes}
    path, port = store_path(pipeline.folder, number), pipeline.broker.port
    return Order(SITE, GATEWAYS, passwords, str(path), "127.0.0.1", port, ticks_per_s=ticks_per_s, is_live_only=True)


def _write_backlog(order: Order) -> int:
    """Write DAYS of each gateway into its queue, a message a day; return the number of readings."""
    readings = 0
    with closing(Store(Path(order.store))) as store:
        for enterprise in site_plan(SITE, GATEWAYS):
            if enterprise.gateway in order.passwords:
                sampler = Sampler([Meter(point, 1) for point in enterprise.points], Faults(frozenset(), 1, []))
                days = (sampler.window(START_S + day * DAY_S, START_S + (day + 1) * DAY_S) for day in range(DAYS))
                readings += store.append(enterprise.gateway, "backfill", [(one.members, one.readings) for one in days])
    return readings


def _waits_ms(stream: Stream, is_over: Callable[[], bool]) -> list[float]:
    """Stream until it is over; return the times from publish to ack of the live messages, in milliseconds."""
    stream.acks.clear()
    while not is_over():
        stream.step(time.monotonic())
    return [1000 * ack.waited_s for ack in stream.acks if ack.waited_s is not None and ack.lane == "live"]


def _p95(waits_ms: list[float]) -> float:
    assert len(waits_ms) >= 100, "too few messages to tell"
    return statistics.quantiles(waits_ms, n=20)[-1]


@pytest.mark.slow
def test_live_readings_hardly_wait_for_a_backlog(pipeline: Pipeline) -> None:
    codes = sorted(pipeline.passwords)
    late = _order(pipeline, 1, codes[LIVE_GATEWAYS:], 0)
    readings, backlog = _write_backlog(late), StreamProcess("backlog", late, pipeline.folder / "backlog.log")
    stream = Stream(_order(pipeline, 0, codes[:LIVE_GATEWAYS], LIVE_MESSAGES_PER_S), time.monotonic())
    with closing(stream), closing(backlog):
        alone_until_s = time.monotonic() + 2
        _waits_ms(stream, lambda: time.monotonic() > alone_until_s)  # connections, caches, first chunks
        alone_until_s += SECONDS_ALONE
        alone = _p95(_waits_ms(stream, lambda: time.monotonic() > alone_until_s))
        begun_s = time.monotonic()
        backlog.start()
        waits_ms = _waits_ms(stream, lambda: backlog.exit_code() is not None)
        seconds = time.monotonic() - begun_s
    assert backlog.exit_code() == 0
    beside = _p95(waits_ms)
    with psycopg.connect(pipeline.url) as connection:
        row = connection.execute("SELECT sum(accepted) FROM receipt WHERE lane = 1").fetchone()
    print(
        f"\n{readings:,} readings of the past in {seconds:.0f} s; live p50 {statistics.median(waits_ms):.0f} ms,"
        f" p95 {beside:.0f} ms over {len(waits_ms)} messages, {alone:.0f} ms without: ratio {beside / alone:.2f}"
    )
    assert row == (readings,)
    assert beside <= MAX_RATIO * alone

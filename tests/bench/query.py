"""A month of daily usage of 200 points by HTTP, beside the bare SQL that reads the same rows."""

import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import httpx2
import psycopg

from app.db import engine as engine_module
from app.db.access import create_key
from deploy.local.ports import free_port
from tests.bench.measurement import Bench, Measurement
from tests.integration import rollup_site as site

GATEWAYS, POINTS, DAYS = 20, 50, 300  # 28.8 M readings of a quarter hour make so many days of usage
ASKED_GATEWAYS = 4
REPETITIONS = 60
FIRST, LAST = date(2026, 5, 1), date(2026, 6, 1)
_FILL = """
    INSERT INTO usage_day (point_id, day, quantity, windows_expected, windows_received, windows_estimated)
    SELECT p.id, d::date, 480.25 + p.id * 0.125 + extract(day FROM d), 96, 95, 1
    FROM point p CROSS JOIN generate_series(%(from)s::timestamp, %(to)s::timestamp, interval '1 day') d
"""
_BARE = """
    SELECT point_id, day, quantity, windows_expected, windows_received, windows_estimated FROM usage_day
    WHERE point_id = ANY(%s) AND day >= %s AND day < %s ORDER BY 1, 2
"""


def usage_query(bench: Bench) -> Measurement:
    """Answers per second: key, scope, limits, grid and JSON included, one request after the other; medians.

    The yardstick fetches the same rows into Python over one open connection, in turn with the requests.
    """
    with bench.database() as url:
        engine = engine_module.create(url)
        with engine.begin() as connection:
            for number in range(1, GATEWAYS + 1):
                plant = site.add_site(connection, number)
                for point in range(POINTS):
                    site.add_point(connection, plant, f"E{point:03d}")
            key = create_key(connection, "bench", "regulator")
        engine.dispose()
        with _served(url) as address, psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_FILL, {"from": FIRST - timedelta(days=DAYS - 31), "to": LAST - timedelta(days=1)})
            connection.execute("VACUUM ANALYZE usage_day")
            row = connection.execute("SELECT array_agg(id ORDER BY id) FROM point WHERE id <= %s", [200]).fetchone()
            points: list[int] = row[0] if row else []
            client = httpx2.Client(base_url=address, headers={"Authorization": f"Bearer {key}"})
            query: dict[str, Any] = {"point_id": points, "grain": "day", "from": str(FIRST), "to": str(LAST)}
            asked, bare = [], []
            for _ in range(REPETITIONS):
                asked.append(_timed(lambda: _ask(client, query, len(points))))
                bare.append(_timed(lambda: connection.execute(_BARE, [points, FIRST, LAST]).fetchall()))
    answer_s, bare_s = statistics.median(asked), statistics.median(bare)
    conditions: dict[str, object] = {"points": len(points), "days": 31, "answer_s": answer_s, "bare_s": bare_s}
    return Measurement(1 / answer_s, "answers/s", "bare SELECT of the same rows", 1 / bare_s, conditions)


def _ask(client: httpx2.Client, query: dict[str, Any], points: int) -> None:
    answer = client.get("/api/v1/usage", params=query)
    if answer.status_code != 200 or answer.text.count('"start"') != points * 31 + 1:
        raise RuntimeError(f"not the expected answer: {answer.status_code} {answer.text[:300]}")


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@contextmanager
def _served(url: str) -> Iterator[str]:
    """The HTTP service as a process of its own on a database; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:app_factory", "--port", str(port)]
    environment = {**os.environ, "NENGHAO_DATABASE_URL": url, "NENGHAO_BROKER_ADMIN_PASSWORD": secrets.token_hex(8)}
    process = subprocess.Popen([*command, "--log-level", "warning"], env=environment, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            time.sleep(0.1)
            try:
                if httpx2.get(f"{address}/health/live").status_code == 200:
                    break
            except httpx2.TransportError:
                continue
        yield address
    finally:
        process.terminate()
        process.wait(20)

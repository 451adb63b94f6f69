"""From a reading on the wire to the signed notice in an official's hands, through every process in between."""

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import Engine, text

from app.db import deliveries, stale
from app.db import engine as engine_module
from app.domain.calendar import business_day, month_bounds, month_of
from simulators.signature import verify
from tests.acceptance.ingest_process import IngestProcess, service_settings
from tests.bench.accounts import open_account
from tests.bench.measurement import Bench, Measurement
from tests.integration import accounting_city as city
from tests.integration.rollup_site import insert_readings

LINES = 40
HOUR = timedelta(hours=1)
GOAL_S = 5.0
WAIT_S = 60.0
COAL_KG = 130  # an hour for a tonne of clinker: 92.9 kgce/t by the annex, better than the benchmark of 100
LATE_KG = 40_000  # the hour that comes late: some 55 kg an hour more over a month, worse than the baseline of 117


def notice(bench: Bench) -> Measurement:
    """95 of 100 notices come within so many seconds (`value`; the goal is the yardstick).

    Each line has a closed month at the benchmark that lacks one hour; that hour's reading is published, and with it
    the line is below the baseline. One line after the other, each begun at another moment of the worker's pause.
    """
    with bench.database() as url, _receiver() as (address, secret, heard):
        engine = engine_module.create(url)
        late_at = _closed_month(engine)
        with engine.begin() as connection:
            deliveries.add_endpoint(
                connection, name="bench", url=address, secret=secret, district_code=None, kinds=["alert.opened"]
            )
        with IngestProcess(url, bench.broker, bench.folder / "notice.log"), _worker(bench, url):
            _settled(engine)
            waits_s = [_told(bench, number, late_at, heard) for number in range(1, LINES + 1)]
        engine.dispose()
    waits_s.sort()
    conditions: dict[str, object] = {
        "lines": LINES, "median_s": round(waits_s[LINES // 2], 3), "worst_s": round(waits_s[-1], 3),
    }  # fmt: skip
    p95_s = waits_s[int(0.95 * LINES) - 1]
    return Measurement(p95_s, "s to the 95th of 100 notices", "goal", GOAL_S, conditions)


def _closed_month(engine: Engine) -> datetime:
    """Register the lines with all but the last hour of the month that has ended; return the start of that hour."""
    month: date = month_of(month_of(business_day(datetime.now(UTC))) - timedelta(days=1))
    from_at, to_at = month_bounds(month)
    hours = (to_at - from_at) // HOUR
    city.load_reference(engine)
    for number in range(1, LINES + 1):
        with engine.begin() as connection:
            plant = city.add_plant(connection, number, heartbeat_s=3600, registered_at=datetime.now(UTC))
            point_id = city.add_point(connection, plant, "COAL", "raw_coal", "kg", from_at=from_at)
            insert_readings(connection, point_id, ((from_at + n * HOUR, COAL_KG, 0) for n in range(hours - 1)))
            city.report(connection, plant, month, str(hours))
            stale.mark_many(connection, "rollup", [(plant.gateway_id, None, from_at, to_at)], cause="reading")
    return to_at - HOUR


def _settled(engine: Engine) -> None:
    """Wait until every line has its ratio and nothing is stale."""
    ends = time.monotonic() + WAIT_S
    while time.monotonic() < ends:
        with engine.connect() as connection:
            row = connection.execute(
                text(
                    "SELECT (SELECT count(*) FROM ratio WHERE status = 'at_benchmark' AND grain = 'month'),"
                    " (SELECT count(*) FROM stale)"
                )
            ).one()
        if tuple(row) == (LINES, 0):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the closed month did not settle: {tuple(row)} lines at the benchmark, stale marks")


def _told(bench: Bench, number: int, late_at: datetime, heard: "Queue[float]") -> float:
    """Publish the late hour of a line; return the seconds until its notice was received and found authentic."""
    code = f"gw-{number:03d}"
    time.sleep(secrets.randbelow(500) / 1000)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{code}-bench", protocol=mqtt.MQTTv5)
    client.username_pw_set(code, open_account(bench.broker, code, [f"nenghao/v1/{code}/#"]))
    client.connect("127.0.0.1", bench.broker.port)
    client.loop_start()
    readings = [{"point": "COAL", "ts": late_at.isoformat(), "value": LATE_KG}]
    body = {"epoch": "bench", "seq": 0, "sent_at": datetime.now(UTC).isoformat(), "readings": readings}
    begun = time.monotonic()
    client.publish(f"nenghao/v1/{code}/up/live", json.dumps(body), qos=1)
    try:
        return heard.get(timeout=WAIT_S) - begun
    except Empty:
        raise RuntimeError(f"no notice of {code} within {WAIT_S:.0f} s") from None
    finally:
        client.disconnect()
        client.loop_stop()


@contextmanager
def _receiver() -> Iterator[tuple[str, str, "Queue[float]"]]:
    """An official's receiver: address, secret, and the moments at which authentic notices came."""
    secret, heard = "whsec_" + "QUFB" * 8, Queue[float]()

    class Inbox(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            verify([secret], {name.lower(): value for name, value in self.headers.items()}, body, time.time())
            heard.put(time.monotonic())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the bench's output to its JSON lines."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Inbox)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", secret, heard
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _worker(bench: Bench, url: str) -> Iterator[None]:
    settings = {**service_settings(url, bench.broker), "NENGHAO_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    with (bench.folder / "notice-worker.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "app.worker"], env=settings, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)

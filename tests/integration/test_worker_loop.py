"""The worker on the real database: the whole chain, two at once, a poisoned subject, a lost database, a signal."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

from app import worker as worker_module
from app.db import deliveries, stale
from app.db import engine as engine_module
from app.domain import calendar, webhook
from app.pipeline import account
from app.settings import Settings
from app.worker import ClockStep, Worker
from deploy.local.ports import free_port
from tests.integration import accounting_city as city

OCT = date(2026, 10, 1)
OCT_FROM, OCT_TO = calendar.month_bounds(OCT)


@pytest.fixture
def settings(database_url):
    return Settings(database_url=database_url, webhook_timeout_s=1)


def quick(engine, stages, now=city.NOVEMBER_5):
    settings = Settings(database_url=engine.url.render_as_string(hide_password=False))
    return Worker(engine, 0.01, stages, worker_module.clock_steps(engine, settings), clock=lambda: now)


def until_idle(worker):
    while worker.turn():
        pass


def read_month(engine, plant, per_hour, month=OCT):
    """Raw hourly interval readings of a month and the marks that ingest leaves."""
    from_at, to_at = calendar.month_bounds(month)
    with engine.begin() as connection:
        point_id = city.add_point(connection, plant, "COAL", "raw_coal", "kg", from_at=from_at)
        connection.execute(
            text(
                "INSERT INTO reading (ts, point_id, value, quality, receipt_id)"
                " SELECT at, :p, :v, 0, 1 FROM generate_series(CAST(:f AS timestamptz), :t, interval '1 hour') AS at"
            ),
            {"p": point_id, "v": per_hour, "f": from_at, "t": to_at - timedelta(hours=1)},
        )
        hours = int((to_at - from_at) / timedelta(hours=1))
        city.report(connection, plant, month, str(hours))
        stale.mark(connection, "rollup", plant.gateway_id, from_at, to_at, cause="reading")
    return point_id


def test_two_workers_bring_readings_to_signed_notices_once(engine, settings):
    city.load_reference(engine)
    with engine.begin() as connection:
        plants = [city.add_plant(connection, number) for number in range(1, 5)]
        deliveries.add_endpoint(
            connection, name="official", url="https://192.0.2.1/", secret=webhook.write_secret(bytes(32))
        )
    for each, per_hour in zip(plants, (120, 150, 170, 200), strict=True):
        read_month(engine, each, per_hour)
    chain = worker_module.stages(engine, settings)
    del chain["deliver"]
    workers = [quick(engine, chain) for _ in range(2)]
    threads = [threading.Thread(target=until_idle, args=(each,)) for each in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until_idle(workers[0])
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT actual, status, reason FROM ratio WHERE grain = 'month' AND period = :m ORDER BY line_id"),
            {"m": OCT},
        ).all()
        told = connection.execute(text("SELECT count(*) FROM delivery")).scalar_one()
        kinds = connection.execute(text("SELECT subject_id FROM alert WHERE state = 'open' ORDER BY 1")).scalars().all()
        left = connection.execute(text("SELECT count(*) FROM stale")).scalar_one()
    expected = [Decimal(per_hour) * Decimal("0.7143") for per_hour in (120, 150, 170, 200)]
    assert [row.actual for row in found] == expected
    assert [row.status for row in found] == ["at_benchmark", "between", "below_baseline", "below_baseline"]
    assert kinds == [each.line_id for each in plants[2:]]
    assert (told, left) == (2, 0)


def test_a_failing_subject_keeps_its_marks_and_starves_nobody(engine, monkeypatch):
    monkeypatch.setattr(worker_module, "FAILURE_DELAY_S", 0.3)
    city.load_reference(engine)
    with engine.begin() as connection:
        plants = [city.add_plant(connection, number) for number in range(1, 4)]
        for each in plants:
            city.use(connection, city.add_point(connection, each, "E1"), OCT_FROM, ["5"])
        poisoned = plants[0].kiln_id
        connection.execute(text(f"ALTER TABLE energy_hour ADD CONSTRAINT poison CHECK (process_unit_id <> {poisoned})"))
    for each in plants:  # the poisoned one is the oldest, so it is claimed first
        city.mark_account(engine, each.kiln_id, OCT_FROM, OCT_FROM + timedelta(hours=1))
    loop = quick(engine, {"account": lambda now: account.run(engine, now)})
    until_idle(loop)
    assert units_with_energy(engine) == [each.kiln_id for each in plants[1:]]
    assert marked_units(engine) == [poisoned]
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE energy_hour DROP CONSTRAINT poison"))
    deadline = time.monotonic() + 10
    while marked_units(engine):
        loop.turn()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert units_with_energy(engine) == [each.kiln_id for each in plants]


def units_with_energy(engine):
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT DISTINCT process_unit_id FROM energy_hour ORDER BY 1")).scalars())


def marked_units(engine):
    with engine.connect() as connection:
        return list(
            connection.execute(
                text("SELECT DISTINCT subject_id FROM stale WHERE stage = 'account' ORDER BY 1")
            ).scalars()
        )


def test_a_stage_that_fails_without_a_subject_waits_and_the_others_go_on(engine):
    turns = {"bad": 0, "good": 0}

    def bad(now):
        turns["bad"] += 1
        raise RuntimeError("no subject")

    def good(now):
        turns["good"] += 1
        return 0

    loop = quick(engine, {"bad": bad, "good": good})
    for _ in range(5):
        loop.turn()
    assert turns == {"bad": 1, "good": 5}


def test_a_step_by_the_clock_that_fails_waits_and_the_others_go_on(engine):
    turns = {"bad": 0, "good": 0, "daily": 0}

    def step(name):
        turns[name] += 1
        if name == "bad":
            raise ValueError("no fault of the database")
        return 0

    steps = {
        "bad": ClockStep(0.0, lambda _: step("bad")),
        "good": ClockStep(0.0, lambda _: step("good")),
        "daily": ClockStep(float("inf"), lambda _: step("daily"), lambda day: day),
    }
    present = [city.NOVEMBER_5]
    loop = Worker(engine, 0.01, {}, steps, clock=lambda: present[0])
    for _ in range(3):
        loop.turn()
    present[0] += timedelta(days=1)
    loop.turn()
    assert turns == {"bad": 1, "good": 4, "daily": 2}


def test_without_the_database_the_worker_waits(monkeypatch):
    monkeypatch.setattr(worker_module, "DATABASE_DELAY_MAX_S", 0.01)
    lost = engine_module.create(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    loop = quick(lost, {"account": lambda now: account.run(lost, now)})
    started = time.monotonic()
    for _ in range(3):
        assert loop.turn() == 0
    assert time.monotonic() - started < 5
    lost.dispose()


def test_connections_cut_by_the_server_are_replaced(engine):
    city.load_reference(engine)
    with engine.begin() as connection:
        plant = city.add_plant(connection)
        city.use(connection, city.add_point(connection, plant, "E1"), OCT_FROM, ["5"])
    loop = quick(engine, {"account": lambda now: account.run(engine, now)})
    until_idle(loop)
    city.mark_account(engine, plant.kiln_id, OCT_FROM, OCT_FROM + timedelta(hours=1))
    with engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    for _ in range(20):
        loop.turn()
    assert units_with_energy(engine) == [plant.kiln_id]


def _metrics(port: int) -> str:
    """What the worker serves; nothing before it listens."""
    try:
        return str(urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode())
    except OSError:
        return ""


def test_the_process_works_serves_metrics_and_stops_on_a_signal(engine, database_url):
    city.load_reference(engine)
    with engine.begin() as connection:
        plant = city.add_plant(connection)
    last_month = calendar.month_of(calendar.month_of(calendar.business_day(datetime.now(UTC))) - timedelta(days=1))
    read_month(engine, plant, 170, last_month)
    port = free_port()
    environment = {
        **os.environ, "NENGHAO_DATABASE_URL": database_url, "NENGHAO_WORKER_METRICS_PORT": str(port),
        "NENGHAO_WORKER_IDLE_S": "0.05",
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "app.worker"], env=environment, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while True:
            metrics = _metrics(port)
            if 'nenghao_worker_work_total{stage="alert"}' in metrics:
                break
            assert time.monotonic() < deadline, metrics
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=15)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, log.decode()
    assert "worker stopped" in log.decode()
    for name in ("nenghao_worker_work_total", "nenghao_stale_oldest_seconds", "nenghao_worker_failures"):
        assert name in metrics
    assert 'nenghao_worker_work_total{stage="rollup"}' in metrics

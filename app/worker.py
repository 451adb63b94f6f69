"""The worker: turns its stages, from rollup to seal in the order of the data, until nothing is left, then waits.

Any number of workers may run. Each stage works in its own transactions, so a worker may be killed at any line. A
subject that fails keeps its marks and is left alone for a while; the others go on. Without the database the worker
waits for it.
"""

import gc
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import prometheus_client
import structlog
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from app import settings as settings_module
from app import telemetry
from app.db import alerts, stale
from app.db import engine as engine_module
from app.domain import calendar
from app.pipeline import account, alert, benchmark, deliver, rollup, seal, silent_points, validate
from app.settings import Settings

# A stage that has work is turned again for so long before the next one gets its turn: what is upstream never keeps
# what is downstream waiting.
SLICE_S = 1.0
MEASURE_EVERY_S = 10.0
REFRESH_EVERY_S = 3600.0
GATEWAYS_EVERY_S = 10.0
SILENCE_EVERY_S = 300.0
# A failing subject, or a stage that fails without one, is tried again after 2 s, 4 s, ... up to five minutes.
FAILURE_DELAY_S, FAILURE_DELAY_MAX_S = 2.0, 300.0
DATABASE_DELAY_MAX_S = 30.0
DRAIN_S = 5.0

WORK = prometheus_client.Counter("nenghao_worker_work_total", "Marks or deliveries taken, by stage", ["stage"])
SECONDS = prometheus_client.Histogram(
    "nenghao_worker_stage_seconds", "Duration of one piece of work, by stage", ["stage"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)  # fmt: skip
FAILURES = prometheus_client.Counter("nenghao_worker_failures_total", "Failed pieces of work, by stage", ["stage"])
BACKLOG_S = prometheus_client.Gauge(
    "nenghao_stale_oldest_seconds", "Age of the oldest mark that waits, by stage", ["stage"]
)
ALERTS = prometheus_client.Gauge("nenghao_alerts", "Alerts alive, by rule kind and state", ["kind", "state"])

_log = structlog.get_logger(process="worker")
Run = Callable[[datetime], int]


@dataclass(frozen=True, slots=True)
class ClockStep:
    """What no mark announces: done every so many seconds, and as soon as `period` gives another day of the present."""

    every_s: float
    run: Run
    period: Callable[[date], date] | None = None


def stages(engine: Engine, settings: Settings) -> dict[str, Run]:
    """Return the stages in the order of the data."""
    return {
        "rollup": lambda now: rollup.run(engine, now),
        "account": lambda now: account.run(engine, now),
        "benchmark": lambda now: benchmark.run(engine, now),
        "alert": lambda now: alert.run(engine, now, settings),
        "validate": lambda now: validate.run(engine, now),
        "deliver": lambda now: deliver.run(engine, now, settings),
        "seal": lambda now: seal.run(engine, now),
    }


def clock_steps(engine: Engine, settings: Settings) -> dict[str, ClockStep]:
    """Return what is done by the clock: months that close, holds that run out, who is silent, heads, gauges."""
    return {
        "silence": ClockStep(GATEWAYS_EVERY_S, lambda now: alert.look_for_silence(engine, now, settings)),
        "refresh": ClockStep(REFRESH_EVERY_S, lambda now: benchmark.refresh(engine, now), calendar.month_of),
        "heads": ClockStep(float("inf"), lambda now: _log_heads(engine, now), lambda day: day),
        "silent_points": ClockStep(SILENCE_EVERY_S, lambda now: silent_points.look(engine, now)),
        "watch": ClockStep(SILENCE_EVERY_S, lambda now: validate.watch(engine, now)),
        "measure": ClockStep(MEASURE_EVERY_S, lambda _: _measure(engine)),
    }


def _log_heads(engine: Engine, now: datetime) -> int:
    while seal.run(engine, now, is_thorough=True):
        pass
    return seal.log_heads(engine)


def _measure(engine: Engine) -> int:
    with engine.connect() as connection:
        ages = stale.oldest_age_s(connection)
        alive = alerts.count_alive(connection)
    for stage in stale.LOCK_SPACE:
        BACKLOG_S.labels(stage).set(ages.get(stage, 0.0))
    ALERTS.clear()
    for kind, state, count in alive:
        ALERTS.labels(kind, state).set(count)
    return len(alive)


@dataclass
class Worker:
    """The loop and what it remembers between turns. stop ends it after the piece of work under way."""

    engine: Engine
    idle_s: float
    stages: dict[str, Run]
    clock_steps: dict[str, ClockStep]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    stop: threading.Event = field(default_factory=threading.Event)
    _failures: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    _paused_until: dict[str, float] = field(default_factory=dict)
    _database_failures: int = 0
    _done_by_the_clock: dict[str, tuple[float, date | None]] = field(default_factory=dict)  # when, in which period

    def run(self) -> None:
        """Turn the stages until stopped; the pause after an idle turn ends early when stopped."""
        while not self.stop.is_set():
            if self.turn() == 0:
                self.stop.wait(self.idle_s)

    def turn(self) -> int:
        """Give every stage its slice of time and return how much was done."""
        try:
            self._by_the_clock()
            done = sum(self._slice(name, run) for name, run in self.stages.items())
        except DatabaseGone as gone:
            self._wait_for_database(gone)
            return 0
        self._database_failures = 0
        return done

    def _slice(self, name: str, run: Run) -> int:
        done, ends = 0, time.monotonic() + SLICE_S
        while not self.stop.is_set() and time.monotonic() >= self._paused_until.get(name, 0.0):
            work = self._step(name, run)
            done += work
            if work == 0 or time.monotonic() >= ends:
                break
        return done

    def _step(self, name: str, run: Run) -> int:
        """One piece of work. A failure is counted as work, to try the next subject."""
        started = time.monotonic()
        stale.forget_claim(name)
        work = self._attempt(name, run)
        if work is None:
            return 1
        if work:
            SECONDS.labels(name).observe(time.monotonic() - started)
            WORK.labels(name).inc(work)
            self._failures.pop((name, stale.last_claimed(name)), None)
            self._failures.pop((name, None), None)
        return work

    def _attempt(self, name: str, run: Run) -> int | None:
        """Return how much was done; None for a failure, which is noted. It rolled back: its marks are there still."""
        try:
            return run(self.clock())
        except Exception as error:
            if isinstance(error, SQLAlchemyError) and not self._database_answers():
                raise DatabaseGone(str(getattr(error, "orig", error))) from error
            self._note_failure(name, error)
            return None

    def _note_failure(self, name: str, error: Exception) -> None:
        subject_id = stale.last_claimed(name)
        self._failures[name, subject_id] += 1
        failures = self._failures[name, subject_id]
        delay_s = min(FAILURE_DELAY_S * 2 ** (failures - 1), FAILURE_DELAY_MAX_S)
        if subject_id is None:
            self._paused_until[name] = time.monotonic() + delay_s
        else:
            stale.leave_alone(name, subject_id, delay_s)
        FAILURES.labels(name).inc()
        _log.error("stage failed", stage=name, subject=subject_id, failures=failures, retry_s=delay_s, exc_info=error)

    def _database_answers(self) -> bool:
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    def _wait_for_database(self, gone: "DatabaseGone") -> None:
        self._database_failures += 1
        delay_s = min(0.5 * 2 ** (self._database_failures - 1), DATABASE_DELAY_MAX_S)
        _log.warning("database does not answer", retry_s=delay_s, error=str(gone).strip())
        self.stop.wait(delay_s)

    def _by_the_clock(self) -> None:
        """Do what is due. A step that fails waits like a stage without a subject, and keeps no other waiting."""
        today = calendar.business_day(self.clock())
        for name, step in self.clock_steps.items():
            now_s, period = time.monotonic(), step.period(today) if step.period else None
            done_s, done_in = self._done_by_the_clock.get(name, (float("-inf"), None))
            is_due = now_s - done_s >= step.every_s or period != done_in
            if not is_due or now_s < self._paused_until.get(name, 0.0) or self.stop.is_set():
                continue
            if self._attempt(name, step.run) is not None:
                self._done_by_the_clock[name] = (now_s, period)
                self._failures.pop((name, None), None)


class DatabaseGone(Exception):
    """The database does not answer; the worker waits for it."""


def collect_rarely() -> None:
    """Let Python look for reference cycles less often: rows and figures make none, and the looking was a tenth of the
    time of recomputing ratios (`make bench ONLY=ratios`: 1.84 s, then 1.63 s).
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def main() -> None:
    """Run a worker until SIGTERM or SIGINT."""
    settings = settings_module.load()
    telemetry.configure_logging("worker", settings.log_format)
    # One connection for the stages, one for each sending thread's outcome, one for the gauges.
    engine = engine_module.create(settings.database_url.get_secret_value(), pool_size=deliver.THREADS + 2)
    worker = Worker(engine, settings.worker_idle_s, stages(engine, settings), clock_steps(engine, settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop.set())
    telemetry.serve_metrics(settings.worker_metrics_port)
    collect_rarely()
    _log.info("worker started", metrics_port=settings.worker_metrics_port)
    worker.run()
    drained = deliver.drain(DRAIN_S)
    engine.dispose()
    _log.info("worker stopped", drained=drained)
    if not drained:
        # A receiver that does not answer must not hold up the stop; its lease runs out and it is told again.
        os._exit(0)


if __name__ == "__main__":
    main()

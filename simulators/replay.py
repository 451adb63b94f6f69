"""Any CSV of readings, sent as a gateway would send it."""

import csv
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path

from simulators.console import ProgressBar
from simulators.gateway import ZONE, Ack, Broker, Gateway
from simulators.loop import Loop
from simulators.store import Store, Tally

SIGNIFICANT_DIGITS = 15  # what a JSON number carries through a double unharmed


class ReplayError(Exception):
    """The file cannot be replayed; the message says which line and why."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to send, and as what. `state` None: a store that is thrown away afterwards."""

    file: Path
    gateway: str
    password: str
    point: str
    column: str
    time_column: str
    signal: str = "register"
    initial: Decimal = Decimal(0)
    shuffle_seed: int | None = None
    lane: str = "backfill"
    batch: int = 50
    timeout_s: float = 120.0
    state: Path | None = None


@dataclass(slots=True)
class ReplayResult:
    """What became of it; `waiting` messages were not acknowledged in time."""

    readings: int
    messages: int
    waiting: int
    tally: Tally
    reasons: dict[str, int]
    refusal: str | None

    @property
    def is_complete(self) -> bool:
        """Whether every reading was acknowledged and none rejected."""
        return self.waiting == 0 and self.tally.rejected == 0


Reading = tuple[datetime, Decimal]


def read_intervals(path: Path, column: str, time_column: str) -> list[Reading]:
    """Return (start, quantity) of each row, oldest first. Times without an offset are local (Asia/Shanghai)."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = csv.DictReader(handle)
            if missing := [name for name in (column, time_column) if name not in (rows.fieldnames or [])]:
                names = ", ".join(rows.fieldnames or []) or "none"
                raise ReplayError(f"{path}: no column {' or '.join(missing)}; there are: {names}")
            readings = [_interval(path, rows.line_num, row[time_column], row[column]) for row in rows]
    except (OSError, UnicodeDecodeError) as error:
        raise ReplayError(f"{path}: cannot be read ({error})") from error
    if len(readings) < 2:
        raise ReplayError(f"{path}: at least two rows are needed to know the length of an interval")
    return sorted(readings)


def _interval(path: Path, line: int, at: str | None, quantity: str | None) -> Reading:
    try:
        start = datetime.fromisoformat((at or "").strip())
        value = Decimal((quantity or "").strip())
    except (ValueError, InvalidOperation) as error:
        raise ReplayError(f"{path}, line {line}: {at!r} and {quantity!r} are no time and number") from error
    if not value.is_finite():
        raise ReplayError(f"{path}, line {line}: {quantity!r} is no finite number")
    return (start.replace(tzinfo=ZONE) if start.tzinfo is None else start), value


def as_register(intervals: list[Reading], initial: Decimal) -> list[Reading]:
    """Return the cumulative register at every edge: n intervals without a gap have n + 1 edges.

    After a gap in the file the register is read at the end of the interval before it, and stands still in it.
    """
    step, register, readings = _step(intervals), initial, []
    for (start, quantity), following in zip(intervals, [*intervals[1:], None], strict=True):
        readings.append((start, register))
        register += quantity
        if following is None or following[0] != start + step:
            readings.append((start + step, register))
    return readings


def _step(intervals: list[Reading]) -> timedelta:
    """Return the length of an interval: the shortest distance between two rows."""
    step = min(after[0] - before[0] for before, after in pairwise(intervals))
    if step <= timedelta(0):
        raise ReplayError("two rows have the same time: a register cannot be made of them")
    return step


def bodies(readings: list[Reading], point: str, batch: int) -> Iterator[tuple[str, int]]:
    """Yield (members, number of readings) of messages with at most `batch` readings each."""
    for start in range(0, len(readings), batch):
        items = [
            {"point": point, "ts": at.isoformat(), "value": _number(value)}
            for at, value in readings[start : start + batch]
        ]
        yield f'"readings":{json.dumps(items, separators=(",", ":"))}', len(items)


def _number(value: Decimal) -> float:
    """Return the double whose shortest notation is this decimal; more digits than it carries are refused."""
    if len(value.normalize().as_tuple().digits) > SIGNIFICANT_DIGITS:
        raise ReplayError(
            f"{value} has more than {SIGNIFICANT_DIGITS} significant digits: a JSON number would lose some"
        )
    return float(value)


def replay(options: ReplayOptions, broker: Broker) -> ReplayResult:
    """Send the file and wait for every ack, or until the time is over."""
    readings = read_intervals(options.file, options.column, options.time_column)
    if options.signal == "register":
        readings = as_register(readings, options.initial)
    if options.shuffle_seed is not None:
        random.Random(options.shuffle_seed).shuffle(readings)
    with tempfile.TemporaryDirectory(prefix="nenghao-replay-") as folder:
        store = Store(options.state or Path(folder) / "replay.sqlite")
        try:
            return _send(options, broker, store, readings)
        finally:
            store.close()


def _send(options: ReplayOptions, broker: Broker, store: Store, readings: list[Reading]) -> ReplayResult:
    messages = list(bodies(readings, options.point, options.batch))
    store.append(options.gateway, options.lane, messages)
    store.commit()
    answered = 0

    def count(ack: Ack) -> None:
        nonlocal answered
        answered += ack.readings

    gateway = Gateway(options.gateway, options.password, store, broker, on_ack=count)
    loop = Loop(store, [gateway])
    waiting = sum(store.waiting_readings(options.gateway, lane) for lane in ("live", "backfill"))

    def is_done() -> bool:
        bar.show(answered, waiting)
        # A wrong password stays wrong; a broker that is away may come back.
        return answered >= waiting or (gateway.refusal or "").startswith("the broker refuses")

    with ProgressBar(f"{options.point} 回放", waiting) as bar:
        loop.run_until(is_done, options.timeout_s)
    loop.close()
    tally, left = store.tally(options.gateway), store.depth(options.gateway)
    return ReplayResult(len(readings), len(messages), left, tally, store.rejections(), gateway.refusal)

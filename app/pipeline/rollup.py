"""Rollup: readings into usage of hours, days and months, for what the marks say is stale.

A mark is widened to the hours that its readings can change, those are cut into blocks, and each block is recomputed as
a whole: by one set-based statement where nothing needs a judgement, by `app.domain.metering` where something does.
All of one claim is one transaction. A reading that is committed meanwhile has a mark of its own, which stays.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from app.db import metering as stored
from app.db import revisions, seals, stale, usage, usage_periods
from app.db.metering import Extent, Stretch
from app.db.usage import Block, ChangedDay
from app.domain import metering
from app.domain.calendar import (
    HOUR,
    business_day,
    day_bounds,
    day_start,
    hour_ceiling,
    hour_floor,
    month_bounds,
    month_of,
    next_month,
)
from app.domain.metering import Finding, Judgement, Meter, Signal, UsageHour, windows_in_service
from app.pipeline import announce

# A block is what one doubt sends to the exact judgement; it also bounds the memory this takes.
BLOCK = timedelta(days=7)
CLEAN_BATCH = 400
# So many gateways in one transaction if the marks of each cover no more than this in sum; else one at a time.
MOST_GATEWAYS = 32
SHORT = timedelta(hours=12)
BATCH_SPAN = timedelta(days=28)
JUDGED_BATCH = 10
# Days that expect the same are written as runs, so many in one statement.
RUN = timedelta(days=100)
RUN_BATCH = 200
GRID = datetime(1970, 1, 1, tzinfo=UTC)  # as the chunks of readings, so that most blocks lie in one
# Hours further apart than this are marked apart for the next stage.
MARK_GAP = timedelta(days=1)


def run(engine: Engine, now: datetime) -> int:
    """Recompute the usage of stale marks of some gateways, or of one; return how many marks were worked off."""
    try:
        return _run(engine, now, MOST_GATEWAYS)
    except Exception as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        return _run(engine, now, 1)  # so that it is known which one fails, and the others go on


def _run(engine: Engine, now: datetime, most: int) -> int:
    with engine.begin() as connection:
        # Many gateways report at the same quarter hour: together they are planned once.
        claims = stale.claim_many(connection, "rollup", most, SHORT) or stale.claim_many(connection, "rollup", 1)
        # Revisions carry the cause of their own gateway's marks, so gateways go by what made them stale.
        for cause, of_cause in groupby(sorted(claims, key=lambda claim: claim.cause), key=lambda claim: claim.cause):
            revisions.begin_run(connection, now, cause)
            work_off(connection, list(of_cause))
        if claims:
            announce.revised(connection, now)
        return sum(len(claim.marks) for claim in claims)


def work_off(connection: Connection, claims: Sequence[stale.Claim]) -> None:
    """Recompute what claims of one cause cover, and hand over to accounting."""
    usage.plan_each_time(connection)
    points = stored.points_of(connection, [claim.subject_id for claim in claims])
    marked = {claim.subject_id: stale_stretches(claim.marks, points[claim.subject_id]) for claim in claims}
    known = stored.extents_around(connection, [stretch for found in marked.values() for stretch in found])
    meters = stored.meters(connection, list(known))
    gateway_of = {point_id: gateway_id for gateway_id, found in points.items() for point_id in found}
    stretches = widen(connection, [s for found in marked.values() for s in found if s[0] in known], known, meters)
    dropped = {gateway_id: seals.dropped_until(connection, gateway_id) for gateway_id in marked}
    kept = [part for s in stretches for part in _with_readings([s], dropped[gateway_of[s[0]]])]
    changed = recompute(connection, kept, known, meters)
    write_periods(connection, kept, meters)
    is_registry = any(mark.cause != "reading" for claim in claims for mark in claim.marks)
    _mark_account(connection, changed, stretches if is_registry else [], claims[0].cause)


def _with_readings(stretches: list[Stretch], dropped_until: datetime | None) -> list[Stretch]:
    """Leave out what can no longer be recomputed: retention dropped its readings, or neighbours of its first ones."""
    if dropped_until is None:
        return stretches
    first_at = dropped_until + BLOCK
    return [(point_id, max(from_at, first_at), to_at) for point_id, from_at, to_at in stretches if to_at > first_at]


def stale_stretches(marks: Iterable[stale.Mark], point_ids: Sequence[int]) -> list[Stretch]:
    """Return the marks as merged stretches (point, from, to) in whole hours, in order."""
    spans: dict[int, list[tuple[datetime, datetime]]] = defaultdict(list)
    known = set(point_ids)
    for mark in marks:
        span = (hour_floor(mark.from_at), hour_ceiling(mark.to_at))
        for point_id in point_ids if mark.point_id is None else {mark.point_id} & known:
            spans[point_id].append(span)
    return [(point_id, *span) for point_id in sorted(spans) for span in merge(spans[point_id])]


def merge(
    spans: Iterable[tuple[datetime, datetime]], gap: timedelta = timedelta()
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the union of spans in order, joining those at most `gap` apart."""
    current: tuple[datetime, datetime] | None = None
    for from_at, to_at in sorted(spans):
        if current is None:
            current = (from_at, to_at)
        elif from_at <= current[1] + gap:
            current = (current[0], max(current[1], to_at))
        else:
            yield current
            current = (from_at, to_at)
    if current is not None:
        yield current


def widen(
    connection: Connection, stretches: Sequence[Stretch], known: dict[int, Extent], meters: dict[int, Meter]
) -> list[Stretch]:
    """Return the whole hours whose usage or findings may change with the readings of the stretches, merged."""
    spans: dict[int, list[tuple[datetime, datetime]]] = defaultdict(list)
    reaches = stored.zones(connection, stretches, known)
    for (point_id, from_at, to_at), (low_at, high_at) in zip(stretches, reaches, strict=True):
        extent, tail = known[point_id], _tail(meters[point_id])
        first = hour_floor(min(from_at, low_at or extent.from_at))
        last = hour_ceiling(max(to_at, high_at or extent.to_at) + tail)
        first = max(first, hour_floor(extent.from_at))
        last = min(last, hour_floor(extent.to_at + tail) + HOUR)
        if first < last:
            spans[point_id].append((first, last))
    return [(point_id, *span) for point_id in sorted(spans) for span in merge(spans[point_id])]


def _tail(meter: Meter) -> timedelta:
    """How long after its instant a reading may still be energy: an interval's value covers what follows it."""
    if meter.signal is not Signal.INTERVAL:
        return timedelta()
    return timedelta(seconds=max([metering.DEFAULT_INTERVAL_S, *(s.interval_s for s in meter.services)]))


def recompute(
    connection: Connection, stretches: Sequence[Stretch], known: dict[int, Extent], meters: dict[int, Meter]
) -> list[ChangedDay]:
    """Recompute the hours and the findings of whole hours; return the days in which hours changed."""
    changed: list[ChangedDay] = []
    without_findings: dict[int, list[tuple[datetime, datetime]]] = defaultdict(list)
    for batch in _batches(_blocks(stretches, known)):
        clean: set[Block] = set()
        for signal in Signal:
            alike = [block for block in batch if meters[block.point_id].signal is signal]
            result = usage.write_clean(connection, signal, alike)
            changed += result.changed
            clean |= {alike[i] for i in result.clean}
        for block in clean:
            without_findings[block.point_id].append((block.from_at, block.to_at))
        doubtful = [block for block in batch if block not in clean]
        for first in range(0, len(doubtful), JUDGED_BATCH):
            changed += judge_blocks(connection, doubtful[first : first + JUDGED_BATCH], known, meters)
    merged = [(point_id, *span) for point_id, spans in without_findings.items() for span in merge(spans)]
    stored.replace_findings(connection, merged, [])
    return changed


def _batches(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """By time before point: a batch then reads few chunks, and reads each while it is in memory."""
    batch: list[Block] = []
    for block in sorted(blocks, key=lambda block: (block.from_at, block.point_id)):
        if batch and (len(batch) == CLEAN_BATCH or block.from_at - batch[0].from_at >= BATCH_SPAN):
            yield batch
            batch = []
        batch.append(block)
    if batch:
        yield batch


def _blocks(stretches: Iterable[Stretch], known: dict[int, Extent]) -> Iterator[Block]:
    """Cut stretches at fixed instants, so that the same hours always fall into the same block."""
    for point_id, from_at, to_at in stretches:
        extent = known[point_id]
        first = from_at
        while first < to_at:
            last = min(to_at, GRID + ((first - GRID) // BLOCK + 1) * BLOCK)
            yield Block(point_id, first, last, extent.first_reading_at, extent.last_reading_at)
            first = last


def _stretch(block: Block) -> Stretch:
    return block.point_id, block.from_at, block.to_at


def judge_blocks(
    connection: Connection, blocks: Sequence[Block], known: dict[int, Extent], meters: dict[int, Meter]
) -> tuple[ChangedDay, ...]:
    """Recompute blocks by the pure rules, each read with the neighbours that its judgements look at."""
    stretches = [_stretch(block) for block in blocks]
    hours: list[list[UsageHour]] = []
    findings: list[tuple[int, Finding]] = []
    for block, judgement in zip(blocks, judgements(connection, stretches, known, meters), strict=True):
        hours.append(metering.usage_hours(meters[block.point_id], judgement.steps, block.from_at, block.to_at))
        inside = [f for f in judgement.findings if block.from_at <= f.from_at < block.to_at]
        findings += [(block.point_id, f) for f in inside]
    stored.replace_findings(connection, stretches, findings)
    return usage.write_judged(connection, blocks, hours)


def judgements(
    connection: Connection, stretches: Sequence[Stretch], known: dict[int, Extent], meters: dict[int, Meter]
) -> Iterator[Judgement]:
    """Yield the judgement of each stretch; it also holds steps and findings of the neighbours that were read."""
    around = stored.surroundings(connection, stretches, known)
    for stretch, (readings, (low_at, high_at)) in zip(stretches, around, strict=True):
        yield metering.judge(meters[stretch[0]], readings, known_from=low_at, known_to=high_at)


def write_periods(connection: Connection, stretches: Sequence[Stretch], meters: dict[int, Meter]) -> None:
    """Recompute the days and the months that the stretches touch."""
    runs = [(p, *run) for p, days in _days(stretches).items() for run in _runs(meters[p], days)]
    for first in range(0, len(runs), RUN_BATCH):
        usage_periods.write_days(connection, runs[first : first + RUN_BATCH])
    months = sorted({(p, month) for p, first, end, _ in runs for month in _months(first, end)})
    usage_periods.write_months(
        connection,
        [(p, month, next_month(month), windows_in_service(meters[p], *month_bounds(month))) for p, month in months],
    )


def _days(stretches: Sequence[Stretch]) -> dict[int, list[tuple[date, date]]]:
    """Return the business days [first, end) that stretches touch, merged per point."""
    spans: dict[int, list[tuple[datetime, datetime]]] = defaultdict(list)
    for point_id, from_at, to_at in stretches:
        last_at = day_start(business_day(to_at - HOUR) + timedelta(days=1))
        spans[point_id].append((day_start(business_day(from_at)), last_at))
    return {p: [(business_day(first), business_day(end)) for first, end in merge(found)] for p, found in spans.items()}


def _runs(meter: Meter, days: Iterable[tuple[date, date]]) -> Iterator[tuple[date, date, int]]:
    """Cut days into runs [first, end) of days that expect the same number of windows."""
    for start, end in days:
        first = start
        while first < end:
            last = min(end, first + RUN)
            if not metering.is_steady(meter, day_start(first), day_start(last)):
                last = first + timedelta(days=1)
            yield first, last, windows_in_service(meter, *day_bounds(first))
            first = last


def _months(first: date, end: date) -> Iterator[date]:
    month = month_of(first)
    while month < end:
        yield month
        month = next_month(month)


def _mark_account(
    connection: Connection, changed: Sequence[ChangedDay], registry: Sequence[Stretch], cause: str
) -> None:
    """Mark the process units whose points changed, and the lines whose output they count.

    A change of the registry counts wherever it reaches.
    """
    spans: dict[int, list[tuple[datetime, datetime]]] = defaultdict(list)
    for day in changed:
        spans[day.point_id].append((day.from_at, day.to_at))
    for point_id, from_at, to_at in registry:
        spans[point_id].append((from_at, to_at))
    merged = {point_id: list(merge(found, MARK_GAP)) for point_id, found in spans.items()}
    published = [(point_id, *span) for point_id, found in merged.items() for span in found]
    stale.mark_published(connection, "validate", published, cause=cause)
    units: dict[int, list[tuple[datetime, datetime]]] = defaultdict(list)
    lines: dict[int, list[tuple[datetime, datetime]]] = defaultdict(list)
    for a in stored.assignments(connection, list(merged)):
        for from_at, to_at in merged[a.point_id]:
            first, last = max(from_at, hour_floor(a.from_at)), min(to_at, a.to_at or to_at)
            if first < last:
                units[a.process_unit_id].append((first, hour_ceiling(last)))
                if a.output_line_id is not None:
                    lines[a.output_line_id].append((first, hour_ceiling(last)))
    for stage, found in (("account", units), ("benchmark", lines)):
        rows = [(subject, None, *span) for subject in sorted(found) for span in merge(found[subject], MARK_GAP)]
        stale.mark_many(connection, stage, rows, cause=cause)

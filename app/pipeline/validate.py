"""Validate days and months that the marks say are stale: findings with a fault clock, closed when the breach is gone.

Marks come from the rollup, for published days whose usage changed, and from the clock, for every day and month when it
is published: what never arrived changes nothing and leaves no other mark. Both are judged alike and as often as wanted.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import islice

from sqlalchemy import Connection, Engine

from app.db import findings, stale, working_days
from app.db import metering as metering_db
from app.db import validation as stored
from app.db.findings import Judged
from app.db.validation import PointDay, Relation
from app.domain import validation
from app.domain.accounting import flow_sign
from app.domain.calendar import business_day, day_bounds, day_start, month_bounds, month_of, next_month
from app.domain.metering import Meter, Signal, windows_in_service
from app.domain.validation import Breach, FeederDay, Rule, UsageDay

CAUSE = "day published"
# Days of points in one transaction; what a claim holds more is marked again.
MOST_POINT_DAYS = 20_000
# Days the clock hands over at once, after a worker stood still.
MOST_DAYS = 31
ONE_DAY = timedelta(days=1)
Verdicts = dict[Judged, Breach | None]


def run(engine: Engine, now: datetime) -> int:
    """Judge the stale days of one gateway's points; return how many marks were worked off."""
    with engine.begin() as connection:
        claim = stale.claim(connection, "validate")
        if claim is None:
            return 0
        days = _due_days(connection, claim, now)
        ahead = iter(days)
        now_judged, later = list(islice(ahead, MOST_POINT_DAYS)), list(ahead)
        _mark_again(connection, claim, later)
        if now_judged:
            findings.settle(connection, _judge(connection, claim.subject_id, now_judged, now), now)
            start_clocks(connection)
        return len(claim.marks)


def watch(engine: Engine, now: datetime) -> int:
    """Hand over the days that were published since the last time, judge their clocks, start clocks of findings.

    Returns how many days; 0 when another worker is at it.
    """
    with engine.begin() as connection:
        if not stored.lock_days(connection):
            return 0
        days = _published_since(stored.last_validated_day(connection), now)
        gateways = stored.gateways(connection) if days else []
        for day in days:
            month_end = validation.month_published_with(day)
            # A month that was over before anybody watched is not asked for.
            is_known = month_end is not None and stored.is_validated_day(connection, month_end)
            handed = [month_end, day] if month_end is not None and is_known else [day]
            rows = [(gateway, None, *day_bounds(one)) for one in handed for gateway in gateways]
            stale.mark_many(connection, "validate", rows, cause=CAUSE)
            findings.settle(connection, _judge_clocks(connection, day), now)
            stored.note_validated_day(connection, day, now)
        start_clocks(connection)
        return len(days)


def start_clocks(connection: Connection) -> None:
    """Give every open finding that has none its clock, whoever found it."""
    without = findings.days_without_clock(connection)
    if not without:
        return
    workdays = working_days.workdays(connection, without[0].year, without[-1].year + 1)
    for found_on in without:
        due_on, is_official = validation.repaired_by(found_on, workdays)
        findings.start_clocks(connection, found_on, due_on, None if is_official else "weekends only")


def _published_since(last: date | None, now: datetime) -> list[date]:
    """Return the days to hand over, at most the last month of them; on the first run only the latest."""
    latest = business_day(now) - ONE_DAY
    if not validation.is_due_for_validation(latest, now):
        latest -= ONE_DAY
    first = latest if last is None else max(last + ONE_DAY, latest - (MOST_DAYS - 1) * ONE_DAY)
    return [first + n * ONE_DAY for n in range((latest - first).days + 1)]


def _judge_clocks(connection: Connection, day: date) -> Verdicts:
    from_at = day_start(day)
    return {
        Judged(None, one.gateway_id, Rule.CLOCK_SKEW, validation.DAY, from_at): validation.clock_skew(
            day, one.least_delay_s, one.messages, one.reported_s
        )
        for one in stored.clocks(connection, day)
    }


def _due_days(connection: Connection, claim: stale.Claim, now: datetime) -> list[PointDay]:
    """Return the published days that the marks cover, for each point, in order."""
    points = metering_db.points_of(connection, [claim.subject_id])[claim.subject_id]
    found: set[PointDay] = set()
    for mark in claim.marks:
        day, end = business_day(mark.from_at), business_day(mark.to_at - timedelta(microseconds=1))
        marked = points if mark.point_id is None else [mark.point_id]
        while day <= end and validation.is_due_for_validation(day, now):
            found |= {(point_id, day) for point_id in marked}
            day += ONE_DAY
    return sorted(found)


def _mark_again(connection: Connection, claim: stale.Claim, days: Sequence[PointDay]) -> None:
    spans: dict[int, list[date]] = defaultdict(list)
    for point_id, day in days:
        spans[point_id].append(day)
    # The days between are judged once more than they need, which does no harm.
    rows = [(claim.subject_id, p, day_start(mine[0]), day_bounds(mine[-1])[1]) for p, mine in spans.items()]
    stale.mark_many(connection, "validate", rows, cause=claim.cause)


def _judge(connection: Connection, gateway_id: int, days: Sequence[PointDay], now: datetime) -> Verdicts:
    judge = _Judge.of(connection, days)
    verdicts = judge.days(now)
    months = sorted({month_of(day) for _, day in days})
    verdicts.update(judge.months(now))
    verdicts.update(dict.fromkeys(findings.open_sums(connection, gateway_id, [day_start(m) for m in months])))
    for month in months:
        verdicts.update(_judge_sums(connection, sorted({p for p, d in days if month_of(d) == month}), month, now))
    return verdicts


@dataclass(frozen=True, slots=True)
class _Judge:
    """Days of points with all that their rules look at."""

    connection: Connection
    asked: Sequence[PointDay]
    meters: Mapping[int, Meter]
    usage: Mapping[PointDay, UsageDay]

    @classmethod
    def of(cls, connection: Connection, asked: Sequence[PointDay]) -> "_Judge":
        meters = metering_db.meters(connection, sorted({point_id for point_id, _ in asked}))
        wanted = [(p, d) for p, d in asked if p in meters]
        # A day is looked at again when one of the days changed that its standstill is compared with.
        weeks = [timedelta(weeks=n) for n in range(-validation.FROZEN_WEEKS, validation.FROZEN_WEEKS + 1)]
        around = {(p, d + week) for p, d in wanted for week in weeks}
        return cls(connection, wanted, meters, usage_of(connection, meters, around))

    def days(self, now: datetime) -> Verdicts:
        """Judge each day by itself."""
        verdicts: Verdicts = {}
        registers = [k for k in self.asked if self.meters[k[0]].signal is Signal.REGISTER and k in self.usage]
        at_start = stored.read_at_start(self.connection, registers)
        ranges = stored.ranges(self.connection, self.asked) if self.asked else {}
        for point_id, day in self.asked:
            usage = self.usage[point_id, day]
            start = validation.no_day_start(
                day, self.meters[point_id], usage, is_read_at_start=(point_id, day) in at_start
            )
            verdicts[_key(point_id, Rule.INCOMPLETE, validation.DAY, day)] = validation.incomplete_day(day, usage)
            verdicts[_key(point_id, Rule.NO_DAY_START, validation.DAY, day)] = start
            values = ranges.get((point_id, day))
            outside = validation.out_of_range(day, values) if values is not None else None
            verdicts[_key(point_id, Rule.OUT_OF_RANGE, validation.DAY, day)] = outside
        later = {(p, d + timedelta(weeks=n)) for p, d in self.asked for n in range(validation.FROZEN_WEEKS + 1)}
        for point_id, day in later:
            if not validation.is_due_for_validation(day, now):
                continue
            before = [self.usage[point_id, d] for d in self._compared(point_id, day)]
            still = validation.frozen(day, self.usage[point_id, day], before) if before else None
            verdicts[_key(point_id, Rule.FROZEN, validation.DAY, day)] = still
        return verdicts

    def _compared(self, point_id: int, day: date) -> list[date]:
        return [d for d in validation.frozen_compared_with(day) if (point_id, d) in self.usage]

    def months(self, now: datetime) -> Verdicts:
        """Judge the completeness of each month."""
        asked = sorted({(point_id, month_of(day)) for point_id, day in self.asked})
        rows = stored.usage_months(self.connection, list(self.meters), sorted({month for _, month in asked}))
        verdicts: Verdicts = {}
        for point_id, month in asked:
            expected = windows_in_service(self.meters[point_id], *month_bounds(month))
            received = rows[point_id, month][2] if (point_id, month) in rows else 0
            found = validation.incomplete_month(month, expected, received, now)
            verdicts[_key(point_id, Rule.INCOMPLETE, validation.MONTH, month)] = found
        return verdicts


def _key(point_id: int, rule: Rule, grain: str, period: date) -> Judged:
    return Judged(point_id, None, rule, grain, day_start(period))


def usage_of(connection: Connection, meters: Mapping[int, Meter], days: Iterable[PointDay]) -> dict[PointDay, UsageDay]:
    """Return what days of points hold; a day on which nothing came is there with what was expected."""
    asked = sorted(days)
    if not asked:
        return {}
    first, last = min(day for _, day in asked), max(day for _, day in asked)
    rows = stored.usage_days(connection, sorted({point_id for point_id, _ in asked}), first, last + ONE_DAY)
    loads = [key for key in asked if meters[key[0]].signal is Signal.GAUGE and key in rows]
    changing = stored.changing_days(connection, loads)
    found = {}
    for key in asked:
        point_id, day = key
        quantity, expected, received = rows.get(key, (Decimal(0), -1, 0))
        if expected < 0:
            expected = windows_in_service(meters[point_id], *day_bounds(day))
        is_load = meters[point_id].signal is Signal.GAUGE
        found[key] = UsageDay(quantity, expected, received, key in changing if is_load else quantity != 0)
    return found


def _judge_sums(connection: Connection, points: Sequence[int], month: date, now: datetime) -> Verdicts:
    """Judge the sums of a month in which points have a part: feeders, and values reported for the month."""
    from_at, to_at = month_bounds(month)
    related = stored.relations(connection, points, from_at, to_at)
    verdicts: Verdicts = {}
    for feeder in sorted({r.parent_point_id for r in related if r.parent_point_id is not None}):
        subs = [r for r in related if r.parent_point_id == feeder]
        verdicts[_key(feeder, Rule.FEEDER_DEVIATION, validation.MONTH, month)] = validation.feeder_deviation(
            month, _feeder_days(connection, feeder, subs, month, now)
        )
    for checked in sorted({r.checks_point_id for r in related if r.checks_point_id is not None}):
        checks = [r for r in related if r.checks_point_id == checked]
        found = None if now < to_at else _monthly(connection, checked, checks, month)
        verdicts[_key(checked, Rule.MONTHLY_DEVIATION, validation.MONTH, month)] = found
    return verdicts


def _feeder_days(
    connection: Connection, feeder: int, subs: Sequence[Relation], month: date, now: datetime
) -> list[FeederDay]:
    """Return the published days of a month on which the same sub-meters hung on a feeder all day."""
    kinds = stored.flows(connection, [feeder])
    carrier_key, flow = kinds[feeder]
    subs = [r for r in subs if r.carrier_key == carrier_key]
    meters = metering_db.meters(connection, sorted({feeder, *(r.point_id for r in subs)}))
    end = next_month(month)
    days = [month + n * ONE_DAY for n in range((end - month).days)]
    usage = usage_of(connection, meters, {(p, d) for p in meters for d in days})
    found = []
    for day in days:
        start, stop = day_bounds(day)
        touching = [r for r in subs if r.from_at < stop and (r.to_at is None or r.to_at > start)]
        is_steady = all(r.from_at <= start and (r.to_at is None or r.to_at >= stop) for r in touching)
        if not is_steady or not validation.is_due_for_validation(day, now):
            continue
        signs = tuple(_sign(r.flow) * _sign(flow or "in") for r in touching)
        found.append(FeederDay(usage[feeder, day], tuple(usage[r.point_id, day] for r in touching), signs))
    return found


def _sign(flow: str) -> int:
    return flow_sign(flow, feedstock_counts=True)


def _monthly(connection: Connection, checked: int, checks: Sequence[Relation], month: date) -> Breach | None:
    """Compare the days of a point with what each check reports for the month; the first deviation counts."""
    sums = stored.usage_months(connection, [checked, *(r.point_id for r in checks)], [month])
    if (checked, month) not in sums:
        return None
    for check in checks:
        if check.expected_interval_s >= validation.MONTHLY_INTERVAL_S:
            reported = _reported(connection, check.point_id, month)
        else:
            reported = sums[check.point_id, month][0] if (check.point_id, month) in sums else None
        if reported is not None:
            found = validation.monthly_deviation(month, sums[checked, month][0], reported, check.code)
            if found is not None:
                return found
    return None


def _reported(connection: Connection, point_id: int, month: date) -> Decimal | None:
    """Return the value that is tagged with the start of a month, give or take a day, in the canonical unit."""
    start = day_start(month)
    meter = metering_db.meters(connection, [point_id])[point_id]
    tolerance = validation.MONTH_START_TOLERANCE
    near = metering_db.readings(connection, [(point_id, start - tolerance, start + tolerance)])[0]
    valued = [r for r in near if r.value is not None]
    if meter.signal is not Signal.INTERVAL or not valued:
        return None
    reading = min(valued, key=lambda r: (abs(r.at - start), r.at))
    installation = next(
        (i for i in meter.installations if i.from_at <= reading.at and (i.to_at is None or reading.at < i.to_at)), None
    )
    if installation is None or reading.value is None:
        return None
    return reading.value * installation.multiplier * meter.canonical_per_unit

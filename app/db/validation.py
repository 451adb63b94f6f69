"""What validation reads: days and months of points, what parts and sums of them are, day starts, clocks of a day."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, text

from app.domain.calendar import day_bounds
from app.domain.validation import DAY_START_TOLERANCE, Range

DAYS_LOCK = 7_230_033
PointDay = tuple[int, date]


@dataclass(frozen=True, slots=True)
class Relation:
    """A dated assignment that makes a point the sub-meter of a feeder, or the monthly check of another point."""

    point_id: int
    code: str
    flow: str
    carrier_key: str | None
    from_at: datetime
    to_at: datetime | None
    parent_point_id: int | None
    checks_point_id: int | None
    expected_interval_s: int


@dataclass(frozen=True, slots=True)
class GatewayClock:
    """How a gateway's messages of a day were dated; see app.domain.validation.clock_skew."""

    gateway_id: int
    least_delay_s: Decimal | None
    messages: int
    reported_s: Decimal | None


def usage_days(
    connection: Connection, point_ids: Sequence[int], first: date, end: date
) -> dict[PointDay, tuple[Decimal, int, int]]:
    """Return (quantity, windows expected, windows received) of the days in [first, end) that points have."""
    rows = connection.execute(
        text(
            "SELECT point_id, day, coalesce(quantity, 0), windows_expected, windows_received FROM usage_day"
            " WHERE point_id = ANY(:points) AND day >= :first AND day < :end"
        ),
        {"points": list(point_ids), "first": first, "end": end},
    )
    return {(point_id, day): (quantity, expected, received) for point_id, day, quantity, expected, received in rows}


def usage_months(
    connection: Connection, point_ids: Sequence[int], months: Sequence[date]
) -> dict[PointDay, tuple[Decimal, int, int]]:
    """Return (quantity, windows expected, windows received) of the months that points have."""
    rows = connection.execute(
        text(
            "SELECT point_id, month, coalesce(quantity, 0), windows_expected, windows_received FROM usage_month"
            " WHERE point_id = ANY(:points) AND month = ANY(:months)"
        ),
        {"points": list(point_ids), "months": list(months)},
    )
    return {(point_id, month): (quantity, expected, received) for point_id, month, quantity, expected, received in rows}


def read_at_start(connection: Connection, days: Sequence[PointDay]) -> set[PointDay]:
    """Return which points have a good reading that counts within a minute of the start of which days."""
    return _days_with(
        connection,
        days,
        "EXISTS (SELECT FROM reading_effective e WHERE e.point_id = k.point_id AND e.value IS NOT NULL"
        " AND e.quality < 2 AND e.ts >= k.from_at - CAST(:tolerance AS interval)"
        " AND e.ts <= k.from_at + CAST(:tolerance AS interval) AND e.ts >= :low_at AND e.ts < :high_at)",
    )


def changing_days(connection: Connection, days: Sequence[PointDay]) -> set[PointDay]:
    """Return on which days the readings of which points were not all the same value (loads that moved)."""
    return _days_with(
        connection,
        days,
        "(SELECT min(e.value) <> max(e.value) FROM reading_effective e WHERE e.point_id = k.point_id"
        " AND e.quality < 2 AND e.ts >= k.from_at AND e.ts < k.to_at AND e.ts >= :low_at AND e.ts < :high_at)",
    )


def ranges(connection: Connection, days: Sequence[PointDay]) -> dict[PointDay, Range]:
    """Return the lowest and highest value that counts of each day, for points that have a registered range."""
    limited = {
        point_id: (value_min, value_max)
        for point_id, value_min, value_max in connection.execute(
            text(
                "SELECT id, value_min, value_max FROM point WHERE id = ANY(:points)"
                " AND (value_min IS NOT NULL OR value_max IS NOT NULL)"
            ),
            {"points": sorted({point_id for point_id, _ in days})},
        )
    }
    found: dict[PointDay, Range] = {}
    for week in _weeks([key for key in days if key[0] in limited]):
        rows = connection.execute(
            text(
                f"SELECT k.point_id, k.day, v.lowest::numeric, v.highest::numeric FROM {_DAYS}"
                " CROSS JOIN LATERAL (SELECT min(e.value) AS lowest, max(e.value) AS highest FROM reading_effective e"
                "  WHERE e.point_id = k.point_id AND e.quality < 2 AND e.ts >= k.from_at AND e.ts < k.to_at"
                "  AND e.ts >= :low_at AND e.ts < :high_at) v WHERE v.lowest IS NOT NULL"
            ),
            _days_parameters(week),
        )
        found |= {(p, day): Range(lowest, highest, *limited[p]) for p, day, lowest, highest in rows}
    return found


_DAYS = (
    "unnest(CAST(:points AS integer[]), CAST(:days AS date[]), CAST(:from_ats AS timestamptz[]),"
    " CAST(:to_ats AS timestamptz[])) AS k (point_id, day, from_at, to_at)"
)


def _days_with(connection: Connection, days: Sequence[PointDay], condition: str) -> set[PointDay]:
    found: set[PointDay] = set()
    for week in _weeks(days):
        rows = connection.execute(
            text(f"SELECT k.point_id, k.day FROM {_DAYS} WHERE {condition}"),
            {**_days_parameters(week), "tolerance": DAY_START_TOLERANCE},
        )
        found |= {(point_id, day) for point_id, day in rows}
    return found


def _weeks(days: Iterable[PointDay]) -> Iterator[list[PointDay]]:
    """Cut days into weeks: what is looked up together lies in two chunks of readings at most."""
    for _, week in groupby(sorted(days, key=lambda key: (key[1], key[0])), key=lambda key: key[1].toordinal() // 7):
        yield list(week)


def _days_parameters(days: Sequence[PointDay]) -> dict[str, Any]:
    bounds = [day_bounds(day) for _, day in days]
    return {
        "points": [point_id for point_id, _ in days],
        "days": [day for _, day in days],
        "from_ats": [from_at for from_at, _ in bounds],
        "to_ats": [to_at for _, to_at in bounds],
        # The bounds let the planner leave out the other chunks.
        "low_at": min(from_at for from_at, _ in bounds) - DAY_START_TOLERANCE,
        "high_at": max(to_at for _, to_at in bounds) + DAY_START_TOLERANCE,
    }


def relations(connection: Connection, point_ids: Iterable[int], from_at: datetime, to_at: datetime) -> list[Relation]:
    """Return the relations within [from, to) in whose sums these points have a part, all parts of each sum."""
    rows = connection.execute(
        text(
            "WITH mine AS (SELECT * FROM point_assignment a WHERE a.from_at < :to_at"
            "  AND (a.to_at IS NULL OR a.to_at > :from_at)"
            "  AND (a.parent_point_id IS NOT NULL OR a.checks_point_id IS NOT NULL)),"
            " target AS (SELECT unnest(CAST(:points AS integer[])) AS id"
            "  UNION SELECT parent_point_id FROM mine WHERE point_id = ANY(:points)"
            "  UNION SELECT checks_point_id FROM mine WHERE point_id = ANY(:points))"
            " SELECT m.point_id, p.code, m.flow, p.carrier_key, m.from_at, m.to_at, m.parent_point_id,"
            "  m.checks_point_id, m.expected_interval_s FROM mine m JOIN point p ON p.id = m.point_id"
            " WHERE m.parent_point_id IN (SELECT id FROM target) OR m.checks_point_id IN (SELECT id FROM target)"
            " ORDER BY m.point_id, m.from_at"
        ),
        {"points": list(point_ids), "from_at": from_at, "to_at": to_at},
    )
    return [Relation(*row) for row in rows]


def flows(connection: Connection, point_ids: Sequence[int]) -> dict[int, tuple[str | None, str | None]]:
    """Return (carrier, flow of the latest assignment) of points."""
    rows = connection.execute(
        text(
            "SELECT p.id, p.carrier_key, (SELECT a.flow FROM point_assignment a WHERE a.point_id = p.id"
            " ORDER BY a.from_at DESC LIMIT 1) FROM point p WHERE p.id = ANY(:points)"
        ),
        {"points": list(point_ids)},
    )
    return {point_id: (carrier_key, flow) for point_id, carrier_key, flow in rows}


def clocks(connection: Connection, day: date) -> list[GatewayClock]:
    """Return how the messages of a business day were dated, for each gateway that sent any or was heard of.

    A heartbeat counts if it is the latest one and of that day.
    """
    from_at, to_at = day_bounds(day)
    rows = connection.execute(
        text(
            "WITH sent AS (SELECT gateway_id, min(extract(epoch FROM received_at - sent_at)) AS least_delay_s,"
            "  count(*) AS messages FROM receipt WHERE received_at >= :from_at AND received_at < :to_at"
            # A batch is committed after it is received, within minutes unless the database was away.
            "  AND committed_at >= :from_at AND committed_at < CAST(:to_at AS timestamptz) + interval '1 day'"
            "  AND sent_at IS NOT NULL GROUP BY gateway_id),"
            " said AS (SELECT gateway_id, clock_skew_s::numeric AS reported_s FROM gateway_state"
            "  WHERE seen_at >= :from_at AND seen_at < :to_at AND clock_skew_s IS NOT NULL)"
            " SELECT gateway_id, least_delay_s, coalesce(messages, 0), reported_s FROM sent FULL JOIN said"
            " USING (gateway_id) ORDER BY gateway_id"
        ),
        {"from_at": from_at, "to_at": to_at},
    )
    return [GatewayClock(*row) for row in rows]


def lock_days(connection: Connection) -> bool:
    """Become the one who closes days in this transaction, or return False."""
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": DAYS_LOCK}).scalar_one())


def last_validated_day(connection: Connection) -> date | None:
    """Return the last day that was handed to validation."""
    day: date | None = connection.execute(text("SELECT max(day) FROM validated_day")).scalar()
    return day


def is_validated_day(connection: Connection, day: date) -> bool:
    """Return whether a day was handed to validation."""
    return bool(
        connection.execute(text("SELECT EXISTS (SELECT FROM validated_day WHERE day = :day)"), {"day": day}).scalar()
    )


def note_validated_day(connection: Connection, day: date, now: datetime) -> None:
    """Note that a day was handed to validation."""
    connection.execute(text("INSERT INTO validated_day (day, handed_at) VALUES (:day, :now)"), {"day": day, "now": now})


def gateways(connection: Connection) -> list[int]:
    """Return every gateway."""
    return list(connection.execute(text("SELECT id FROM gateway ORDER BY id")).scalars())

"""What metering reads and leaves beside the usage: meters, effective readings, how far a change reaches, findings."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection, text

from app.domain.exact import exact_decimal
from app.domain.metering import (
    CONTEXT_AFTER,
    CONTEXT_BEFORE,
    ZONE_AFTER,
    ZONE_BEFORE,
    Finding,
    Installation,
    Meter,
    Reading,
    Reason,
    Service,
    Signal,
)


@dataclass(frozen=True, slots=True)
class Extent:
    """From the first to the last instant of which anything is known or was ever computed for a point.

    Around stretches, what lies before may end early: then so deep that nothing which looks back gets there.
    """

    first_reading_at: datetime | None
    last_reading_at: datetime | None
    from_at: datetime
    to_at: datetime


@dataclass(frozen=True, slots=True)
class Assignment:
    """A dated assignment of a point to a process unit; output_line_id: the line whose output its usage is."""

    point_id: int
    process_unit_id: int
    from_at: datetime
    to_at: datetime | None
    output_line_id: int | None


def points_of(connection: Connection, gateway_ids: Sequence[int]) -> dict[int, list[int]]:
    """Return the points of gateways, in order."""
    query = text("SELECT gateway_id, id FROM point WHERE gateway_id = ANY(:gateway_ids) ORDER BY id")
    points: dict[int, list[int]] = {gateway_id: [] for gateway_id in gateway_ids}
    for gateway_id, point_id in connection.execute(query, {"gateway_ids": list(gateway_ids)}):
        points[gateway_id].append(point_id)
    return points


def meters(connection: Connection, point_ids: Sequence[int]) -> dict[int, Meter]:
    """Return signal, unit, installations and services of points."""
    ids = {"point_ids": list(point_ids)}
    installations: dict[int, list[Installation]] = defaultdict(list)
    for point_id, *facts in connection.execute(
        text(
            "SELECT point_id, from_at, to_at, multiplier, digits, rated_load, initial_register, final_register"
            " FROM meter_installation WHERE point_id = ANY(:point_ids) ORDER BY point_id, from_at"
        ),
        ids,
    ):
        installations[point_id].append(Installation(*facts))
    services: dict[int, list[Service]] = defaultdict(list)
    for point_id, *facts in connection.execute(
        text(
            "SELECT point_id, from_at, to_at, expected_interval_s FROM point_assignment"
            " WHERE point_id = ANY(:point_ids) ORDER BY point_id, from_at"
        ),
        ids,
    ):
        services[point_id].append(Service(*facts))
    rows = connection.execute(
        text(
            "SELECT p.id, p.signal, u.canonical_per_unit FROM point p JOIN unit_of_measure u USING (unit)"
            " WHERE p.id = ANY(:point_ids)"
        ),
        ids,
    )
    return {
        point_id: Meter(Signal(signal), tuple(installations[point_id]), tuple(services[point_id]), per_unit)
        for point_id, signal, per_unit in rows
    }


# Readings, entered instants, dated registers, and what an earlier run computed from any of them.
_EXTENTS = text("""
SELECT p.id, r.first_at, r.last_at,
       least(r.first_at, o.first_at, i.first_at, i.last_at, h.first_at),
       greatest(r.last_at, o.last_at, i.first_at, i.last_at, h.last_at)
FROM unnest(CAST(:point_ids AS integer[])) AS p(id)
CROSS JOIN LATERAL (SELECT (SELECT ts FROM reading WHERE point_id = p.id ORDER BY ts LIMIT 1) AS first_at,
  (SELECT ts FROM reading WHERE point_id = p.id ORDER BY ts DESC LIMIT 1) AS last_at) r
CROSS JOIN LATERAL (SELECT min(ts) AS first_at, max(ts) AS last_at
  FROM reading_override WHERE point_id = p.id) o
CROSS JOIN LATERAL (
  SELECT min(from_at) FILTER (WHERE initial_register IS NOT NULL) AS first_at,
         max(to_at) FILTER (WHERE final_register IS NOT NULL) AS last_at
  FROM meter_installation WHERE point_id = p.id) i
CROSS JOIN LATERAL (
  SELECT (SELECT hour_at FROM usage_hour WHERE point_id = p.id ORDER BY hour_at LIMIT 1) AS first_at,
         (SELECT hour_at FROM usage_hour WHERE point_id = p.id ORDER BY hour_at DESC LIMIT 1)
           + interval '1 hour' AS last_at) h
""")


def extents(connection: Connection, point_ids: Sequence[int]) -> dict[int, Extent]:
    """Return the extents of the points that have any."""
    rows = connection.execute(_EXTENTS, {"point_ids": list(point_ids)})
    return {row[0]: Extent(*row[1:]) for row in rows if row[3] is not None}


# Overridden and bad readings are passed over: with them the distance only comes out longer than it must be.
def _nth_reading(condition: str, order: str, count: int) -> str:
    return f"""(
      SELECT r.ts FROM reading r
      WHERE r.point_id = s.point_id AND r.ts {condition} AND r.quality < 2
        AND NOT EXISTS (SELECT FROM reading_override o WHERE o.point_id = r.point_id AND o.ts = r.ts)
        AND r.ts >= :low_at AND r.ts < :high_at
      ORDER BY r.ts {order} OFFSET {count - 1} LIMIT 1)"""


# Further back than a zone and the context of its first block reach together.
_DEEP = ZONE_BEFORE + CONTEXT_BEFORE
_AROUND = timedelta(days=7)
_EXTENTS_AROUND = text(f"""
SELECT x.point_id, x.deep_at, x.last_at, x.deep_at, greatest(x.last_at, o.last_at, i.first_at, i.last_at, h.last_at)
FROM (
  SELECT s.point_id, {_nth_reading("< s.from_at", "DESC", _DEEP)} AS deep_at, (
    SELECT ts FROM reading r WHERE r.point_id = s.point_id AND ts >= :low_at ORDER BY ts DESC LIMIT 1) AS last_at
  FROM unnest(CAST(:point_ids AS integer[]), CAST(:from_ats AS timestamptz[])) AS s(point_id, from_at) OFFSET 0) x
CROSS JOIN LATERAL (SELECT max(ts) AS last_at FROM reading_override WHERE point_id = x.point_id) o
CROSS JOIN LATERAL (
  SELECT min(from_at) FILTER (WHERE initial_register IS NOT NULL) AS first_at,
         max(to_at) FILTER (WHERE final_register IS NOT NULL) AS last_at
  FROM meter_installation WHERE point_id = x.point_id) i
CROSS JOIN LATERAL (
  SELECT (SELECT hour_at FROM usage_hour WHERE point_id = x.point_id AND hour_at >= :low_at
          ORDER BY hour_at DESC LIMIT 1) + interval '1 hour' AS last_at) h
""")
Stretch = tuple[int, datetime, datetime]


def extents_around(connection: Connection, stretches: Sequence[Stretch]) -> dict[int, Extent]:
    """Return the extents of the points of stretches, as far as judging the stretches needs them.

    Where enough readings stand just before, the whole past need not be asked: planning a look into each chunk of a
    long history takes more time than a live claim may.
    """
    first: dict[int, datetime] = {}
    for point_id, from_at, _ in stretches:
        first[point_id] = min(from_at, first.get(point_id, from_at))
    if not first:
        return {}
    parameters = {
        "point_ids": list(first),
        "from_ats": list(first.values()),
        "low_at": min(first.values()) - _AROUND,
        "high_at": max(first.values()),
    }
    rows = connection.execute(_EXTENTS_AROUND, parameters)
    near = {row[0]: Extent(*row[1:]) for row in rows if row[1] is not None}
    far = [point_id for point_id in first if point_id not in near]
    return near | extents(connection, far) if far else near


_REACH = """
SELECT {before}, {after}
FROM unnest(CAST(:point_ids AS integer[]), CAST(:from_ats AS timestamptz[]), CAST(:to_ats AS timestamptz[]))
     WITH ORDINALITY AS s(point_id, from_at, to_at, no)
ORDER BY s.no
"""
_ZONE = _REACH.format(
    before=_nth_reading("< s.from_at", "DESC", ZONE_BEFORE), after=_nth_reading(">= s.to_at", "", ZONE_AFTER)
)
_CONTEXT = _REACH.format(
    before=_nth_reading("< s.from_at", "DESC", CONTEXT_BEFORE),
    after=_nth_reading(">= s.to_at", "", CONTEXT_AFTER),
)
# Most neighbours are near; few chunks are touched then. The second look has no bound.
NEAR = timedelta(days=3)
Reach = tuple[datetime | None, datetime | None]


def zones(connection: Connection, stretches: Sequence[Stretch], known: dict[int, Extent]) -> list[Reach]:
    """Return how far a change of each stretch (point, from, to) may reach; None: as far as anything is known."""
    return _reach(connection, _ZONE, stretches, known)


def contexts(connection: Connection, stretches: Sequence[Stretch], known: dict[int, Extent]) -> list[Reach]:
    """Return from and to which reading each stretch must be read to be judged; None: from the first, to the last."""
    return _reach(connection, _CONTEXT, stretches, known)


def _reach(connection: Connection, query: str, stretches: Sequence[Stretch], known: dict[int, Extent]) -> list[Reach]:
    if not stretches:
        return []
    near = _ask_reach(connection, query, stretches, NEAR)
    far = [
        i
        for i, (low, high) in enumerate(near)
        if (low is None and _goes_on_before(stretches[i], known))
        or (high is None and _goes_on_after(stretches[i], known))
    ]
    if far:
        answers = _ask_reach(connection, query, [stretches[i] for i in far], timedelta(days=4000))
        for i, answer in zip(far, answers, strict=True):
            near[i] = answer
    return near


def _goes_on_before(stretch: Stretch, known: dict[int, Extent]) -> bool:
    point_id, from_at, _ = stretch
    first_at = known[point_id].first_reading_at
    return first_at is not None and first_at < from_at - NEAR


def _goes_on_after(stretch: Stretch, known: dict[int, Extent]) -> bool:
    point_id, _, to_at = stretch
    last_at = known[point_id].last_reading_at
    return last_at is not None and last_at >= to_at + NEAR


def _ask_reach(connection: Connection, query: str, stretches: Sequence[Stretch], horizon: timedelta) -> list[Reach]:
    parameters = {
        "point_ids": [s[0] for s in stretches],
        "from_ats": [s[1] for s in stretches],
        "to_ats": [s[2] for s in stretches],
        "low_at": min(s[1] for s in stretches) - horizon,
        "high_at": max(s[2] for s in stretches) + horizon,
    }
    return [(low, high) for low, high in connection.execute(text(query), parameters)]


# A value is manual if a person entered it and no meter sent it: a dispute decided for one of its values is not.
_READINGS = """
SELECT s.no, e.ts, e.value, e.quality, e.is_disputed,
       e.is_edited AND NOT EXISTS (
         SELECT FROM reading_override g
         WHERE g.point_id = e.point_id AND g.ts = e.ts AND g.origin = 'gateway' AND g.value = e.value)
       AND NOT EXISTS (SELECT FROM reading r WHERE r.point_id = e.point_id AND r.ts = e.ts AND r.value = e.value)
FROM unnest(CAST(:point_ids AS integer[]), CAST(:from_ats AS timestamptz[]), CAST(:to_ats AS timestamptz[]))
     WITH ORDINALITY AS s(point_id, from_at, to_at, no)
JOIN reading_effective e ON e.point_id = s.point_id AND e.ts >= s.from_at AND e.ts <= s.to_at
WHERE e.ts >= :low_at AND e.ts <= :high_at
ORDER BY s.no, e.ts
"""


def readings(connection: Connection, stretches: Sequence[Stretch]) -> list[list[Reading]]:
    """Return the effective readings of each stretch (point, from, to; both ends included), in order of time."""
    parameters = {
        "point_ids": [s[0] for s in stretches],
        "from_ats": [s[1] for s in stretches],
        "to_ats": [s[2] for s in stretches],
        "low_at": min(s[1] for s in stretches),
        "high_at": max(s[2] for s in stretches),
    }
    found: list[list[Reading]] = [[] for _ in stretches]
    for no, ts, value, quality, is_disputed, is_manual in connection.execute(text(_READINGS), parameters):
        exact: Decimal | None = None if value is None else exact_decimal(value)
        found[no - 1].append(Reading(ts, exact, quality, is_disputed, is_manual))
    return found


def surroundings(
    connection: Connection, stretches: Sequence[Stretch], known: dict[int, Extent]
) -> list[tuple[list[Reading], Reach]]:
    """Return what it takes to judge each stretch: its readings with those around it, and the context they reach."""
    reach = contexts(connection, stretches, known)
    read = [
        (s[0], low_at or min(known[s[0]].from_at, s[1]), high_at or max(known[s[0]].to_at, s[2]))
        for s, (low_at, high_at) in zip(stretches, reach, strict=True)
    ]
    return list(zip(readings(connection, read), reach, strict=True))


def assignments(connection: Connection, point_ids: Sequence[int]) -> list[Assignment]:
    """Return all dated assignments of points."""
    query = text(
        "SELECT point_id, process_unit_id, from_at, to_at, CASE WHEN output_kind IS NOT NULL THEN line_id END"
        " FROM point_assignment WHERE point_id = ANY(:point_ids)"
    )
    return [Assignment(*row) for row in connection.execute(query, {"point_ids": list(point_ids)})]


# A finding that stays keeps its row, so its clock and its note. One that was closed by somebody is not reopened, but
# for a new dispute. A dispute is the same whoever opened it (ingest does, at once): its end and detail do not matter.
_SAME = """
  f.point_id = w.point_id AND f.reason = w.reason AND f.from_at = w.from_at
  AND (f.reason = 'disputed' OR (f.to_at = w.to_at AND f.detail - 'calendar' = w.detail))"""
_WANTED = """
WITH stretch AS (
  SELECT * FROM unnest(CAST(:point_ids AS integer[]), CAST(:from_ats AS timestamptz[]),
                       CAST(:to_ats AS timestamptz[])) AS s(point_id, from_at, to_at)
), wanted AS (
  SELECT * FROM unnest(CAST(:w_point_ids AS integer[]), CAST(:w_reasons AS text[]),
                       CAST(:w_from_ats AS timestamptz[]), CAST(:w_to_ats AS timestamptz[]),
                       CAST(:w_details AS jsonb[])) AS w(point_id, reason, from_at, to_at, detail)
)"""
_DROP_FINDINGS = f"""{_WANTED}
DELETE FROM finding f USING stretch s
WHERE f.point_id = s.point_id AND f.from_at >= s.from_at AND f.from_at < s.to_at
  AND f.reason = ANY(:reasons) AND f.closed_at IS NULL
  AND NOT EXISTS (SELECT FROM wanted w WHERE {_SAME})"""
_ADD_FINDINGS = f"""{_WANTED}
INSERT INTO finding (point_id, reason, from_at, to_at, detail)
SELECT w.point_id, w.reason, w.from_at, w.to_at, w.detail FROM wanted w
WHERE NOT EXISTS (
  SELECT FROM finding f WHERE {_SAME} AND (f.closed_at IS NULL OR f.reason <> 'disputed'))
ORDER BY w.point_id, w.from_at, w.reason"""


def replace_findings(
    connection: Connection, stretches: Sequence[Stretch], findings: Sequence[tuple[int, Finding]]
) -> None:
    """Make `findings` (point_id, finding) the open findings of metering that start in the stretches."""
    if not stretches:
        return
    parameters = {
        "point_ids": [s[0] for s in stretches],
        "from_ats": [s[1] for s in stretches],
        "to_ats": [s[2] for s in stretches],
        "w_point_ids": [point_id for point_id, _ in findings],
        "w_reasons": [finding.reason.value for _, finding in findings],
        "w_from_ats": [finding.from_at for _, finding in findings],
        "w_to_ats": [finding.to_at for _, finding in findings],
        "w_details": [json.dumps(dict(finding.detail)) for _, finding in findings],
    }
    connection.execute(text(_DROP_FINDINGS), parameters | {"reasons": [reason.value for reason in Reason]})
    if findings:
        connection.execute(text(_ADD_FINDINGS), parameters)

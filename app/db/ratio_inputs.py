"""What the figures of lines are made of: indicators, outputs, energy of their subtrees, windows, levels and limits.

Every function takes many lines at once and answers in their order, so that a thousand lines are a few statements.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, text

from app.db.energy import units_of_measure
from app.domain.benchmark import Direction, EnergyAmount, Indicator, Level
from app.domain.quota import Correction, QuotaLimit, Side

# Outputs whose unit is converted keep so many digits.
_CONVERTED = Context(prec=50)
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Line:
    """A production line, what it is compared by, and the process units below it, its own included.

    A line has one of these for its product, and one for each general indicator (energy per output value, per value
    added) whose output was ever reported for it.
    """

    line_id: int
    variant_key: str
    unit: str
    indicator: Indicator
    output_kind: str
    output_unit: str
    from_on: date
    to_on: date | None
    process_unit_ids: tuple[int, ...]


_LINES = """
SELECT l.id, l.variant_key = v.variant_key AS is_own, v.variant_key, v.unit, v.conversion, v.carriers,
    v.feedstock = 'in' AS feedstock, v.base_per_indicator_unit, v.direction, v.judged_on = 'year' AS on_year,
    v.output_kind, v.output_unit, l.from_on, l.to_on, l.process_unit_id
FROM production_line l JOIN catalogue_variant v ON v.variant_key = l.variant_key
    OR (v.output_kind IN ('output_value', 'value_added') AND EXISTS (SELECT 1 FROM output o
        WHERE o.line_id = l.id AND o.kind = v.output_kind))
WHERE l.id = ANY(:lines) ORDER BY l.id, is_own DESC, v.variant_key"""

_SUBTREES = """
WITH RECURSIVE below AS (SELECT id AS root, id FROM process_unit WHERE id = ANY(:roots)
    UNION ALL SELECT b.root, u.id FROM below b JOIN process_unit u ON u.parent_id = b.id)
SELECT root, array_agg(id ORDER BY id) FROM below GROUP BY root"""


def lines(connection: Connection, line_ids: Sequence[int]) -> list[Line]:
    """Return lines by every indicator they have, each line's own first; unknown ids are left out."""
    rows = connection.execute(text(_LINES), {"lines": list(line_ids)}).all()
    roots = sorted({row.process_unit_id for row in rows})
    below = {root: tuple(ids) for root, ids in connection.execute(text(_SUBTREES), {"roots": roots})}
    return [
        Line(
            line_id=row.id,
            variant_key=row.variant_key,
            unit=row.unit,
            indicator=Indicator(
                conversion=row.conversion,
                carriers=None if row.carriers is None else frozenset(row.carriers),
                feedstock_counts=row.feedstock,
                base_per_unit=row.base_per_indicator_unit,
                direction=Direction(row.direction),
                is_judged_on_year=row.on_year,
            ),
            output_kind=row.output_kind,
            output_unit=row.output_unit,
            from_on=row.from_on,
            to_on=row.to_on,
            process_unit_ids=below[row.process_unit_id],
        )
        for row in rows
    ]


def line(connection: Connection, line_id: int) -> Line | None:
    """Return a line by its own indicator, or None when it is not there."""
    return next(iter(lines(connection, [line_id])), None)


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a month in the indicator's unit; None where its own unit does not convert to it.

    `days`: the days whose figures it is the sum of; empty for a figure of the whole month. `windows` are those of the
    meter (expected, received) that counted it; None for what was reported.
    """

    month: date
    value: Decimal | None
    days: tuple[date, ...] = ()
    windows: tuple[int, int] | None = None


# Days are listed one by one only where some are missing between the first and the last.
_REPORTED = """
SELECT line_id, kind, date_trunc('month', period::timestamp)::date AS month, sum(value), unit,
    CASE WHEN grain = 'day' THEN min(period) END, max(period),
    CASE WHEN grain = 'day' AND count(*) <= max(period) - min(period) THEN array_agg(period ORDER BY period) END,
    NULL::int AS expected, NULL::int AS received
FROM output_current WHERE line_id = ANY(:lines) AND kind = ANY(:kinds) AND grain IN ('day', 'month')
    AND period >= :first AND period < :last
GROUP BY line_id, kind, grain, month, unit"""

# A day belongs to the earliest assignment that reaches into it, as an hour of energy does. A meter's negative day (it
# was put right) is no output.
METERED_DAYS = """
FROM point_assignment a JOIN point p ON p.id = a.point_id JOIN unit_of_measure m ON m.unit = p.unit
    JOIN gateway g ON g.id = p.gateway_id LEFT JOIN carrier c ON c.carrier_key = p.carrier_key
    JOIN usage_day u ON u.point_id = a.point_id AND u.day >= :first AND u.day < :last AND u.quantity >= 0
    CROSS JOIN LATERAL (SELECT u.day::timestamp AT TIME ZONE 'Asia/Shanghai' AS from_at,
        (u.day + 1)::timestamp AT TIME ZONE 'Asia/Shanghai' AS to_at) d
WHERE a.line_id = ANY(:lines) AND a.output_kind = ANY(:kinds)
    AND a.from_at < d.to_at AND (a.to_at IS NULL OR a.to_at > d.from_at)
    AND NOT EXISTS (SELECT 1 FROM point_assignment b WHERE b.point_id = a.point_id AND b.from_at < a.from_at
        AND (b.to_at IS NULL OR b.to_at > d.from_at))"""
_METERED = f"""
SELECT a.line_id, a.output_kind, date_trunc('month', u.day::timestamp)::date, u.quantity,
    coalesce(c.unit, m.canonical_unit), u.day, u.day, NULL, u.windows_expected, u.windows_received {METERED_DAYS}"""


def outputs(connection: Connection, of: Sequence[Line], first: date, last: date) -> list[list[Output]]:
    """Return per line the current reported and the metered outputs of its kind whose period starts in [first, last)."""
    parameters = {
        "lines": sorted({one.line_id for one in of}),
        "kinds": sorted({one.output_kind for one in of}),
        "first": first,
        "last": last,
    }
    given: dict[tuple[int, str], list[Any]] = defaultdict(list)
    for statement in (_REPORTED, _METERED):
        for row in connection.execute(text(statement), parameters).all():
            given[row[0], row[1]].append(row)
    units: dict[str, tuple[str, Decimal]] = {}
    if any(row[4] != one.output_unit for one in of for row in given[one.line_id, one.output_kind]):
        units = units_of_measure(connection)
    return [
        [
            Output(row[2], _in_unit(row[3], row[4], one.output_unit, units), _output_days(row), _meter_windows(row))
            for row in given[one.line_id, one.output_kind]
        ]
        for one in of
    ]


def _output_days(row: Any) -> tuple[date, ...]:
    if row[5] is None:
        return ()
    return _days_between(row[5], row[6]) if row[7] is None else tuple(row[7])


@lru_cache(maxsize=4096)
def _days_between(first: date, last: date) -> tuple[date, ...]:
    return tuple(first + timedelta(days=n) for n in range((last - first).days + 1))


def yearly_outputs(
    connection: Connection, of: Sequence[Line], years: Sequence[date]
) -> dict[tuple[int, date], Decimal | None]:
    """Return the current outputs of whole years (their first days) in the indicator's unit, by place of the line."""
    rows = connection.execute(
        text(
            "SELECT line_id, kind, period, value, unit FROM output_current"
            " WHERE line_id = ANY(:lines) AND grain = 'year' AND period = ANY(:years)"
        ),
        {"lines": sorted({one.line_id for one in of}), "years": list(years)},
    ).all()
    places = {(one.line_id, one.output_kind): place for place, one in enumerate(of)}
    units = units_of_measure(connection) if rows else {}
    found: dict[tuple[int, date], Decimal | None] = {}
    for line_id, kind, period, value, unit in rows:
        place = places.get((line_id, kind))
        if place is not None:
            found[place, period] = _in_unit(value, unit, of[place].output_unit, units)
    return found


def _in_unit(value: Decimal, unit: str, wanted: str, units: Mapping[str, tuple[str, Decimal]]) -> Decimal | None:
    if unit == wanted:
        return value
    canonical, per_unit = units.get(unit, ("", Decimal(1)))
    of_wanted, per_wanted = units.get(wanted, (None, Decimal(1)))
    if canonical != of_wanted:
        return None
    return _CONVERTED.divide(_CONVERTED.multiply(value, per_unit), per_wanted)


def _meter_windows(row: Any) -> tuple[int, int] | None:
    return None if row[8] is None else (row[8], row[9])


@dataclass(frozen=True, slots=True)
class EnergyOfMonth:
    """Energy of a subtree over a month, or over the days of it that have an output."""

    amounts: tuple[EnergyAmount, ...] = ()
    received: int = 0
    estimated: int = 0
    factor_sets: frozenset[str] = frozenset()
    has_recalled_factor: bool = False


@dataclass(frozen=True, slots=True)
class EnergyAsked:
    """Whose energy is asked for: of whole months, and of the given days of other months."""

    line: Line
    whole_months: Sequence[date]
    days: Sequence[date]


_ENERGY = """
SELECT w.place, {month} AS month, e.carrier_key, c.unit, e.flow, sum(e.quantity),
    CASE WHEN count(e.equivalent_kgce) = count(*) THEN sum(e.equivalent_kgce) END,
    CASE WHEN count(e.equal_kgce) = count(*) THEN sum(e.equal_kgce) END,
    sum(e.windows_received), sum(e.windows_estimated), min(e.factor_set), max(e.factor_set),
    CASE WHEN min(e.factor_set) <> max(e.factor_set) THEN array_agg(DISTINCT e.factor_set) END,
    bool_or(e.has_recalled_factor)
FROM unnest(CAST(:places AS int[]), CAST(:periods AS date[])) AS w(place, period)
    JOIN unnest(CAST(:owners AS int[]), CAST(:units AS bigint[])) AS o(place, unit) USING (place)
    JOIN {table} e ON e.process_unit_id = o.unit AND {period} = w.period
    JOIN carrier c USING (carrier_key)
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 5"""
_ENERGY_OF_MONTHS = _ENERGY.format(month="e.month", table="energy_month", period="e.month")
_ENERGY_OF_DAYS = _ENERGY.format(
    month="date_trunc('month', e.day::timestamp)::date", table="energy_day", period="e.day"
)


def energy(connection: Connection, asked: Sequence[EnergyAsked]) -> list[dict[date, EnergyOfMonth]]:
    """Return per question the indicator's energy by month."""
    found: list[dict[date, list[Any]]] = [defaultdict(list) for _ in asked]
    for statement, periods in (
        (_ENERGY_OF_MONTHS, [one.whole_months for one in asked]),
        (_ENERGY_OF_DAYS, [one.days for one in asked]),
    ):
        if not any(periods):
            continue
        units = [(place, unit) for place, one in enumerate(asked) for unit in one.line.process_unit_ids]
        parameters = {
            "places": [place for place, starts in enumerate(periods) for _ in starts],
            "periods": [start for starts in periods for start in starts],
            "owners": [place for place, _ in units],
            "units": [unit for _, unit in units],
        }
        for row in connection.execute(text(statement), parameters).all():
            if asked[row[0]].line.indicator.counts(row[2], row[4]):
                found[row[0]][row[1]].append(row)
    return [{month: _energy_of_month(rows) for month, rows in of_line.items()} for of_line in found]


def _energy_of_month(rows: Sequence[Any]) -> EnergyOfMonth:
    sets = [_names(tuple(row[12] or (row[10],))) for row in rows]
    return EnergyOfMonth(
        amounts=tuple(
            EnergyAmount(row[2], row[3], row[4], row[5], row[6], row[7], names)
            for row, names in zip(rows, sets, strict=True)
        ),
        received=sum(row[8] for row in rows),
        estimated=sum(row[9] for row in rows),
        factor_sets=frozenset(name for names in sets for name in names),
        has_recalled_factor=any(row[13] for row in rows),
    )


@lru_cache(maxsize=4096)
def _names(sets: tuple[str, ...]) -> tuple[str, ...]:
    """A row over a change of sets names both, joined."""
    return tuple(name for joined in sets for name in joined.split(" + "))


@dataclass(frozen=True, slots=True)
class Service:
    """When a point counted to a process unit: (from, to or None, expected interval) in microseconds since 1970, one for
    each meter and assignment."""

    carrier_key: str
    flow: str
    stretches: tuple[tuple[int, int | None, int], ...]

    def windows(self, from_us: int, to_us: int) -> int:
        """Return how many windows it owes to [from, to), rounded once, a half up."""
        numerator, denominator = 0, 1
        for since_us, until_us, interval_us in self.stretches:
            inside = (to_us if until_us is None else min(to_us, until_us)) - max(from_us, since_us)
            if inside > 0 and denominator in (1, interval_us):
                numerator, denominator = numerator + inside, interval_us
            elif inside > 0:
                numerator, denominator = numerator * interval_us + inside * denominator, denominator * interval_us
        return (2 * numerator + denominator) // (2 * denominator)


_SERVICES = """
SELECT a.process_unit_id, a.point_id, p.carrier_key, a.flow,
    (extract(epoch FROM greatest(a.from_at, i.from_at)) * 1000000)::bigint,
    (extract(epoch FROM least(a.to_at, i.to_at)) * 1000000)::bigint, a.expected_interval_s * 1000000::bigint
FROM point_assignment a JOIN point p ON p.id = a.point_id AND p.carrier_key IS NOT NULL
JOIN meter_installation i ON i.point_id = a.point_id
    AND (i.to_at IS NULL OR i.to_at > a.from_at) AND (a.to_at IS NULL OR a.to_at > i.from_at)
WHERE a.process_unit_id = ANY(:units) AND a.in_boundary"""


def services(connection: Connection, of: Sequence[Line]) -> list[list[Service]]:
    """Return per line the service of the points that its indicator counts.

    In service is what counts, not what arrived: a point that never spoke lowers the completeness too.
    """
    units = sorted({unit for one in of for unit in one.process_unit_ids})
    stretches: dict[tuple[int, int, str, str], list[tuple[int, int | None, int]]] = defaultdict(list)
    for *key, since_us, until_us, interval_us in connection.execute(text(_SERVICES), {"units": units}):
        stretches[key[0], key[1], key[2], key[3]].append((since_us, until_us, interval_us))
    by_unit: dict[int, list[Service]] = defaultdict(list)
    for (unit, _, carrier_key, flow), of_point in stretches.items():
        by_unit[unit].append(Service(carrier_key, flow, tuple(of_point)))
    return [
        [
            service
            for unit in one.process_unit_ids
            for service in by_unit[unit]
            if one.indicator.counts(service.carrier_key, service.flow)
        ]
        for one in of
    ]


def windows_expected(served: Sequence[Service], stretches: Sequence[tuple[datetime, datetime]]) -> int:
    """Return how many windows the points should have sent over stretches."""
    bounds = [(_us(from_at), _us(to_at)) for from_at, to_at in stretches]
    return sum(service.windows(*bound) for service in served for bound in bounds)


def _us(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class Yardsticks:
    """What the figures of one variant are compared with, of all dates and editions."""

    levels: tuple[Level, ...]
    limits: tuple[QuotaLimit, ...]
    corrections: tuple[Correction, ...]


def yardsticks(connection: Connection, of: Sequence[Line]) -> dict[str, Yardsticks]:
    """Return levels, limits and corrections by variant; rows that were superseded are left out."""
    keys = sorted({one.variant_key for one in of})
    levels, limits, corrections = defaultdict(list), defaultdict(list), defaultdict(list)
    current = "superseded_at IS NULL AND variant_key = ANY(:keys)"
    for key, *level in connection.execute(
        text(
            "SELECT variant_key, id, benchmark, baseline, confidence, valid_from, valid_to, recorded_at"
            f" FROM efficiency_level WHERE {current}"
        ),
        {"keys": keys},
    ):
        levels[key].append(Level(*level))
    for key, *limit in connection.execute(
        text(
            f"SELECT variant_key, id, level_1, level_2, level_3, valid_from, valid_to FROM quota_limit WHERE {current}"
        ),
        {"keys": keys},
    ):
        limits[key].append(QuotaLimit(*limit))
    for key, input_key, level, side, *row in connection.execute(
        text(
            "SELECT variant_key, input_key, level, side, base, per_point, most_points, valid_from, valid_to"
            f" FROM level_correction WHERE {current}"
        ),
        {"keys": keys},
    ):
        corrections[key].append(Correction(input_key, level, Side(side), *row))
    return {key: Yardsticks(tuple(levels[key]), tuple(limits[key]), tuple(corrections[key])) for key in keys}


def correction_inputs(connection: Connection, line_ids: Sequence[int]) -> dict[int, list[tuple[str, date, Decimal]]]:
    """Return by line its conditions (key, first month, value), oldest first; withdrawn ones are left out."""
    found: dict[int, list[tuple[str, date, Decimal]]] = defaultdict(list)
    rows = connection.execute(
        text(
            "SELECT line_id, input_key, from_month, value FROM correction_input_current"
            " WHERE line_id = ANY(:lines) AND value IS NOT NULL ORDER BY line_id, input_key, from_month"
        ),
        {"lines": list(line_ids)},
    )
    for line_id, *row in rows:
        found[line_id].append((row[0], row[1], row[2]))
    return found

"""What a line's figure is made of, and the figure itself: outputs, energy of its subtree, windows, levels, ratio."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from app.domain.benchmark import Direction, EnergyAmount, Indicator, Level
from app.domain.calendar import next_month

Bounds = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Line:
    """A production line, what it is compared by, and the process units below it, its own included."""

    line_id: int
    variant_key: str
    unit: str
    indicator: Indicator
    output_kind: str
    output_unit: str
    from_on: date
    to_on: date | None
    process_unit_ids: tuple[int, ...]


def line(connection: Connection, line_id: int) -> Line | None:
    """Return a line, or None when it is not there."""
    row = connection.execute(
        text(
            "SELECT l.id, l.variant_key, v.unit, v.conversion, v.carriers, v.feedstock = 'in',"
            " v.base_per_indicator_unit, v.direction, v.judged_on = 'year', v.output_kind, v.output_unit,"
            " l.from_on, l.to_on, l.process_unit_id"
            " FROM production_line l JOIN catalogue_variant v USING (variant_key) WHERE l.id = :line"
        ),
        {"line": line_id},
    ).first()
    if row is None:
        return None
    _, variant_key, unit, conversion, carriers, feedstock, base, direction, on_year, *rest = row
    output_kind, output_unit, from_on, to_on, process_unit_id = rest
    return Line(
        line_id=line_id,
        variant_key=variant_key,
        unit=unit,
        indicator=Indicator(
            conversion=conversion,
            carriers=None if carriers is None else frozenset(carriers),
            feedstock_counts=feedstock,
            base_per_unit=base,
            direction=Direction(direction),
            is_judged_on_year=on_year,
        ),
        output_kind=output_kind,
        output_unit=output_unit,
        from_on=from_on,
        to_on=to_on,
        process_unit_ids=_subtree(connection, process_unit_id),
    )


def _subtree(connection: Connection, process_unit_id: int) -> tuple[int, ...]:
    return tuple(
        connection.execute(
            text(
                "WITH RECURSIVE below AS (SELECT CAST(:unit AS bigint) AS id"
                " UNION ALL SELECT u.id FROM process_unit u JOIN below ON u.parent_id = below.id) SELECT id FROM below"
            ),
            {"unit": process_unit_id},
        ).scalars()
    )


@dataclass(frozen=True, slots=True)
class Output:
    """A reported output in the indicator's unit; None where its own unit does not convert to it."""

    grain: str
    period: date
    value: Decimal | None


def outputs(connection: Connection, of: Line, first: date, last: date) -> list[Output]:
    """Return the current outputs of the line's kind whose period starts in [first, last)."""
    rows = connection.execute(
        text(
            "SELECT o.grain, o.period, CASE WHEN o.unit = :unit THEN o.value"
            " WHEN given.canonical_unit = wanted.canonical_unit"
            " THEN o.value * given.canonical_per_unit / wanted.canonical_per_unit END"
            " FROM output_current o LEFT JOIN unit_of_measure given ON given.unit = o.unit"
            " LEFT JOIN unit_of_measure wanted ON wanted.unit = :unit"
            " WHERE o.line_id = :line AND o.kind = :kind AND o.grain IN ('day', 'month')"
            " AND o.period >= :first AND o.period < :last"
        ),
        {"line": of.line_id, "kind": of.output_kind, "unit": of.output_unit, "first": first, "last": last},
    )
    return [Output(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class EnergyOfMonth:
    """Energy of a subtree over a month, or over the days of it that have an output."""

    amounts: tuple[EnergyAmount, ...] = ()
    received: int = 0
    estimated: int = 0
    factor_sets: frozenset[str] = frozenset()
    has_recalled_factor: bool = False


_ENERGY = """
SELECT {month} AS month, e.carrier_key, c.unit, e.flow, sum(e.quantity),
    CASE WHEN count(e.equivalent_kgce) = count(*) THEN sum(e.equivalent_kgce) END,
    CASE WHEN count(e.equal_kgce) = count(*) THEN sum(e.equal_kgce) END,
    sum(e.windows_received), sum(e.windows_estimated), array_agg(DISTINCT e.factor_set), bool_or(e.has_recalled_factor)
FROM {table} e JOIN carrier c USING (carrier_key)
WHERE e.process_unit_id = ANY(:units) AND {period} = ANY(:periods) GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 4"""
_ENERGY_OF_MONTHS = _ENERGY.format(month="e.month", table="energy_month", period="e.month")
_ENERGY_OF_DAYS = _ENERGY.format(
    month="date_trunc('month', e.day::timestamp)::date", table="energy_day", period="e.day"
)


def energy(
    connection: Connection, of: Line, whole_months: Sequence[date], days: Sequence[date]
) -> dict[date, EnergyOfMonth]:
    """Return by month the indicator's energy: of whole months, and of the given days of other months."""
    found: dict[date, list[tuple[Any, ...]]] = defaultdict(list)
    for statement, periods in ((_ENERGY_OF_MONTHS, whole_months), (_ENERGY_OF_DAYS, days)):
        if periods:
            rows = connection.execute(text(statement), {"units": list(of.process_unit_ids), "periods": list(periods)})
            for month, *row in rows:
                if of.indicator.counts(row[0], row[2]):
                    found[month].append(tuple(row))
    return {month: _energy_of_month(rows) for month, rows in found.items()}


def _energy_of_month(rows: Sequence[tuple[Any, ...]]) -> EnergyOfMonth:
    return EnergyOfMonth(
        amounts=tuple(EnergyAmount(*(*row[:6], _names(row[8]))) for row in rows),
        received=sum(row[6] for row in rows),
        estimated=sum(row[7] for row in rows),
        factor_sets=frozenset(name for row in rows for name in _names(row[8])),
        has_recalled_factor=any(row[9] for row in rows),
    )


def _names(sets: Sequence[str]) -> tuple[str, ...]:
    """A row over a change of sets names both, joined."""
    return tuple(name for joined in sets for name in joined.split(" + "))


_EXPECTED = """
SELECT q.month, p.carrier_key, a.flow, sum(round(extract(epoch FROM
    least(coalesce(a.to_at, 'infinity'), coalesce(i.to_at, 'infinity'), q.to_at)
    - greatest(a.from_at, i.from_at, q.from_at)) / a.expected_interval_s))::bigint
FROM unnest(CAST(:months AS date[]), CAST(:from_at AS timestamptz[]), CAST(:to_at AS timestamptz[]))
    AS q(month, from_at, to_at)
JOIN point_assignment a ON a.process_unit_id = ANY(:units) AND a.in_boundary
    AND a.from_at < q.to_at AND (a.to_at IS NULL OR a.to_at > q.from_at)
JOIN point p ON p.id = a.point_id AND p.carrier_key IS NOT NULL
JOIN meter_installation i ON i.point_id = a.point_id AND i.from_at < q.to_at
    AND (i.to_at IS NULL OR i.to_at > q.from_at) AND (i.to_at IS NULL OR i.to_at > a.from_at)
    AND (a.to_at IS NULL OR a.to_at > i.from_at)
GROUP BY 1, 2, 3"""


def windows_expected(
    connection: Connection, of: Line, periods: Sequence[tuple[date, datetime, datetime]]
) -> dict[date, int]:
    """Return by month how many windows the indicator's points should have sent over (month, from_at, to_at).

    In service is what counts, not what arrived: a point that never spoke lowers the completeness too.
    """
    expected: dict[date, int] = defaultdict(int)
    if not periods:
        return expected
    rows = connection.execute(
        text(_EXPECTED),
        {
            "units": list(of.process_unit_ids),
            "months": [month for month, _, _ in periods],
            "from_at": [from_at for _, from_at, _ in periods],
            "to_at": [to_at for _, _, to_at in periods],
        },
    )
    for month, carrier_key, flow, windows in rows:
        if of.indicator.counts(carrier_key, flow):
            expected[month] += windows
    return expected


def levels(connection: Connection, variant_key: str) -> list[Level]:
    """Return all levels of a variant, of all editions."""
    rows = connection.execute(
        text(
            "SELECT id, benchmark, baseline, confidence, valid_from, valid_to, recorded_at"
            " FROM efficiency_level WHERE variant_key = :variant"
        ),
        {"variant": variant_key},
    )
    return [Level(*row) for row in rows]


_FIGURES = (
    "actual", "unit", "energy", "output", "level_id", "benchmark", "baseline", "level_confidence", "status", "ratio",
    "position", "reason", "is_provisional", "windows_expected", "windows_received", "windows_estimated", "factor_set",
    "has_recalled_factor",
)  # fmt: skip
_UPSERT = (
    f"INSERT INTO ratio AS r (line_id, variant_key, grain, period, computed_at, {', '.join(_FIGURES)})"
    f" VALUES (:line_id, :variant_key, 'month', :period, :computed_at, {', '.join(f':{name}' for name in _FIGURES)})"
    " ON CONFLICT (line_id, variant_key, grain, period) DO UPDATE SET computed_at = excluded.computed_at,"
    f" {', '.join(f'{name} = excluded.{name}' for name in _FIGURES)}"
    f" WHERE ({', '.join(f'r.{name}' for name in _FIGURES)})"
    f" IS DISTINCT FROM ({', '.join(f'excluded.{name}' for name in _FIGURES)}) RETURNING 1"
)


def write(connection: Connection, of: Line, month: date, figures: Mapping[str, Any], now: datetime) -> bool:
    """Write a month's ratio (figures by column) when it differs from what is there; return whether it did."""
    values = {
        **figures,
        "line_id": of.line_id,
        "variant_key": of.variant_key,
        "unit": of.unit,
        "period": month,
        "computed_at": now,
    }
    return connection.execute(text(_UPSERT), values).first() is not None


def remove(connection: Connection, line_id: int, months: Sequence[date]) -> int:
    """Remove the ratios of months in which the line was not in service; return how many there were."""
    return connection.execute(
        text("DELETE FROM ratio WHERE line_id = :line AND grain = 'month' AND period = ANY(:months)"),
        {"line": line_id, "months": list(months)},
    ).rowcount


def mark_closed(connection: Connection, month: date, bounds: Bounds) -> int:
    """Mark lines whose figure of a closed month was last computed while it was open, or never; return how many."""
    return connection.execute(
        text(
            "INSERT INTO stale (stage, subject_id, from_at, to_at, cause)"
            " SELECT 'benchmark', l.id, :from_at, :to_at, 'month_closed' FROM production_line l"
            " LEFT JOIN ratio r ON r.line_id = l.id AND r.variant_key = l.variant_key AND r.grain = 'month'"
            " AND r.period = :month WHERE l.from_on < :last AND (l.to_on IS NULL OR l.to_on > :month)"
            " AND (r.line_id IS NULL OR r.computed_at < :to_at)"
        ),
        {"month": month, "from_at": bounds[0], "to_at": bounds[1], "last": next_month(month)},
    ).rowcount


def mark_alerts(connection: Connection, bounds: Bounds) -> int:
    """Mark every line for the alert stage: months close and holds run out without any reading."""
    return connection.execute(
        text(
            "INSERT INTO stale (stage, subject_id, from_at, to_at, cause)"
            " SELECT 'alert', id, :from_at, :to_at, 'clock' FROM production_line"
        ),
        {"from_at": bounds[0], "to_at": bounds[1]},
    ).rowcount

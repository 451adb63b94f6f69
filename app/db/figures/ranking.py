"""Lines among their peers in a period, with the lists, districts and industries of that period, whenever it is asked.

What would be saved by reaching the benchmark is (actual - benchmark) x output of the lines above it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, text

from app.db.assignments import assignment_on
from app.db.figures import ratios
from app.db.scope import Scope
from app.domain import peers
from app.domain.benchmark import Direction
from app.domain.rounding import plain

MOST_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Question:
    """Which lines are compared in which period; `variant_key` or `domain_no` is given, None leaves a filter open."""

    grain: str
    period: date
    end: date
    variant_key: str | None = None
    domain_no: int | None = None
    district_code: str | None = None
    industry_code: str | None = None
    tier: str | None = None
    is_key_unit: bool | None = None
    is_two_high: bool | None = None
    as_of: datetime | None = None


def ranking(
    connection: Connection, scope: Scope, question: Question, figures: Sequence[dict[str, Any]] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Return `ranked` lines, best first, `left_out` ones with the reason, and `peers`: each variant's group figures.

    `figures`: the lines' figures of the period, where they are not to be read as they stand in the table.

    Order: position (1 at the benchmark, 0 at the baseline, the same for every product and for negative levels), then
    the ratio for lines whose level has no two distinct values. Provisional figures are never ranked.
    """
    if figures is None:
        figures = _stored(connection, scope, question)
    rows = _placed(connection, figures, question)
    counted = [row for row in rows if _left_out_because(row) is None]
    ranked = [{"rank": rank, **row} for rank, row in peers.ranks(sorted(counted, key=_order), _rank_key)]
    left_out = [{**row, "left_out_because": reason} for row in rows if (reason := _left_out_because(row))]
    return {"ranked": ranked, "left_out": left_out, "peers": _groups(ranked)}


def subjects(connection: Connection, scope: Scope) -> list[dict[str, Any]]:
    """Return the products of the lines in scope with their domain: what may be ranked."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT v.domain_no, v.domain_zh, v.domain_en, v.variant_key, v.product_zh, v.product_en,"
            " v.indicator_zh FROM production_line l JOIN process_unit u ON u.id = l.process_unit_id"
            " JOIN enterprise e ON e.id = u.enterprise_id JOIN catalogue_variant v ON v.variant_key = l.variant_key"
            f" WHERE {scope.enterprises_sql()} ORDER BY v.domain_no NULLS LAST, v.variant_key"
        ),
        scope.parameters(),
    ).mappings()
    return [dict(row) for row in rows]


def periods(connection: Connection, scope: Scope) -> list[tuple[str, date]]:
    """Return the periods (grain, first day) of which lines in scope have a figure, the newest first."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT x.grain, x.period FROM ratio x JOIN production_line l ON l.id = x.line_id"
            " JOIN process_unit u ON u.id = l.process_unit_id JOIN enterprise e ON e.id = u.enterprise_id"
            f" WHERE {scope.enterprises_sql()} ORDER BY x.period DESC, x.grain"
        ),
        scope.parameters(),
    )
    return [(grain, period) for grain, period in rows]


def _stored(connection: Connection, scope: Scope, question: Question) -> list[dict[str, Any]]:
    return ratios.list_ratios(
        connection,
        scope,
        limit=MOST_ROWS,
        grain=question.grain,
        start=question.period,
        end=question.end,
        variant_key=question.variant_key,
        domain_no=question.domain_no,
        as_of=question.as_of,
    )


def _placed(connection: Connection, rows: Sequence[dict[str, Any]], question: Question) -> list[dict[str, Any]]:
    """Return the lines of the period with what their enterprises were then, as far as they are asked for."""
    standings = _standings(connection, {row["enterprise_id"] for row in rows}, question)
    weights = _kgce_per_output_unit(connection, {row["variant_key"] for row in rows}, question.period)
    placed = [{**row, **standings[row["enterprise_id"]]} for row in rows]
    return [_with_distance(row, weights[row["variant_key"]]) for row in placed if _is_asked(row, question)]


def _standings(connection: Connection, enterprise_ids: set[int], question: Question) -> dict[int, dict[str, Any]]:
    """Return district and industry of enterprises on the period's last day, and their place on its year's list."""
    rows = connection.execute(
        text(
            "SELECT e.id, c.district_code, d.name_zh AS district_name_zh, d.name_en AS district_name_en,"
            " c.industry_code, i.name_zh AS industry_name_zh, i.name_en AS industry_name_en, k.tier AS key_unit_tier,"
            " coalesce(k.two_high, false) AS is_two_high FROM enterprise e"
            f" CROSS JOIN {assignment_on('CAST(:last AS date)')} c LEFT JOIN district d ON d.code = c.district_code"
            " LEFT JOIN industry i ON i.code = c.industry_code"
            " LEFT JOIN key_unit_list k ON k.enterprise_id = e.id AND k.year = :year WHERE e.id = ANY(:ids)"
        ),
        {"ids": sorted(enterprise_ids), "last": question.end - timedelta(days=1), "year": question.period.year},
    ).mappings()
    return {row["id"]: {name: row[name] for name in row if name != "id"} for row in rows}


def _is_asked(row: dict[str, Any], question: Question) -> bool:
    tier, is_two_high = row["key_unit_tier"], row["is_two_high"]
    return (
        question.district_code in (None, row["district_code"])
        and row["industry_code"].startswith(question.industry_code or "")
        and question.tier in (None, tier)
        and question.is_key_unit in (None, tier is not None)
        and question.is_two_high in (None, is_two_high)
    )


def _kgce_per_output_unit(
    connection: Connection, variant_keys: set[str], on: date
) -> dict[str, tuple[Decimal, Decimal | None]]:
    """Return of each variant its base units in one of the indicator, and the kgce in one base unit.

    A physical indicator has one carrier: its equivalent factor turns what is saved into standard coal.
    """
    rows = connection.execute(
        text(
            "SELECT v.variant_key, v.base_per_indicator_unit,"
            " CASE WHEN v.conversion = 'physical' THEN f.kgce_per_unit ELSE 1 END FROM catalogue_variant v"
            " LEFT JOIN carrier t ON t.carrier_key = v.carriers[1] LEFT JOIN LATERAL"
            " (SELECT s.kgce_per_unit FROM standard_coal_factor s WHERE s.factor_key = t.equivalent_factor_key"
            "  AND s.superseded_at IS NULL AND s.unit = t.unit"
            "  AND coalesce(s.valid_from <= :on, true) AND coalesce(s.valid_to > :on, true)"
            "  ORDER BY s.valid_from DESC NULLS LAST LIMIT 1) f ON true WHERE v.variant_key = ANY(:keys)"
        ),
        {"keys": sorted(variant_keys), "on": on},
    )
    return {key: (base, kgce) for key, base, kgce in rows}


def _with_distance(row: dict[str, Any], weight: tuple[Decimal, Decimal | None]) -> dict[str, Any]:
    """Add how far the line is from the benchmark, in the indicator's unit and as standard coal."""
    base, kgce_per_base = weight
    if row["actual"] is None or row["benchmark"] is None or row["output"] is None:
        return {**row, "gap": None, "distance_tce": None}
    actual, benchmark, output = (Decimal(row[name]) for name in ("actual", "benchmark", "output"))
    saved = peers.distance(actual, benchmark, output, base, Direction(row["direction"]))
    return {
        **row,
        "gap": plain(actual - benchmark),
        "distance_tce": None if kgce_per_base is None else plain(saved * Fraction(kgce_per_base) / 1000),
    }


def _left_out_because(row: dict[str, Any]) -> str | None:
    if row["is_provisional"] or row["actual"] is None:
        return str(row["reason"] or "provisional")
    if row["position"] is None and row["ratio"] is None:
        return "no_level"
    return None


def _rank_key(row: dict[str, Any]) -> tuple[bool, Decimal]:
    has_position = row["position"] is not None
    return (not has_position, -Decimal(row["position"]) if has_position else Decimal(row["ratio"]))


def _order(row: dict[str, Any]) -> tuple[bool, Decimal, int]:
    return (*_rank_key(row), row["line_id"])


def _groups(ranked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return of each variant what its ranked lines come to together: a line's peers are those of its own product."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in ranked:
        groups[row["variant_key"]].append(row)
    return [_group(key, rows) for key, rows in sorted(groups.items())]


def _group(variant_key: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    shared = (
        "product_zh",
        "product_en",
        "indicator_zh",
        "unit",
        "benchmark",
        "baseline",
        "level_edition",
        "level_confidence",
    )
    actuals = sorted(Fraction(row["actual"]) for row in rows)
    if Direction(rows[0]["direction"]) is Direction.HIGHER_IS_BETTER:
        actuals.reverse()
    mean = peers.weighted_mean((Decimal(row["actual"]), Decimal(row["output"])) for row in rows)
    middle = len(actuals) // 2
    median = actuals[middle] if len(actuals) % 2 else (actuals[middle - 1] + actuals[middle]) / 2
    distances = [row["distance_tce"] for row in rows if row["distance_tce"] is not None]
    return {
        "variant_key": variant_key,
        **{name: rows[0][name] for name in shared},
        "lines": len(rows),
        "lines_at_benchmark": sum(row["status"] == "at_benchmark" for row in rows),
        "best": plain(actuals[0]),
        "median": plain(median),
        "mean": plain(mean),
        "worst": plain(actuals[-1]),
        "distance_tce": plain(sum((Fraction(one) for one in distances), Fraction(0))) if distances else None,
    }

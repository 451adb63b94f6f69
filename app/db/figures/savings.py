"""Energy saved by the product method of GB/T 13234: (base unit energy - present unit energy) x present output."""

from collections import defaultdict
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, text

from app.db.assignments import assignment_on
from app.db.figures.sums import RATIO_LAST_DAY, exact
from app.db.scope import Scope
from app.domain import targets
from app.domain.rounding import plain


def saved(
    connection: Connection,
    scope: Scope,
    *,
    base_year: int,
    year: int,
    district_code: str | None = None,
    enterprise_id: int | None = None,
) -> list[dict[str, Any]]:
    """Return each enterprise in scope with what its lines saved in `year` against `base_year`, line by line.

    A line counts when both years have a figure that is not provisional; others are listed with the reason. Indicators
    in physical units (kWh/t, PUE) are no kgce and are left out.
    """
    rows = connection.execute(
        text(
            "SELECT e.id AS enterprise_id, e.uscc, e.name_zh AS enterprise_name_zh, e.name_en AS enterprise_name_en,"
            " c.district_code, l.id AS line_id, l.code AS line_code, x.variant_key, x.unit, v.conversion,"
            f" v.base_per_indicator_unit AS base_per_unit, {exact('b.actual')} AS base_actual,"
            f" {exact('x.actual')} AS actual, {exact('x.output')} AS output,"
            " coalesce(b.is_provisional, true) AS is_base_provisional, x.is_provisional"
            " FROM ratio x JOIN production_line l ON l.id = x.line_id JOIN process_unit u ON u.id = l.process_unit_id"
            f" JOIN enterprise e ON e.id = u.enterprise_id CROSS JOIN {assignment_on(RATIO_LAST_DAY)} c"
            " JOIN catalogue_variant v ON v.variant_key = x.variant_key"
            " LEFT JOIN ratio b ON b.line_id = x.line_id AND b.variant_key = x.variant_key AND b.grain = 'year'"
            "  AND b.period = make_date(:base_year, 1, 1)"
            f" WHERE x.grain = 'year' AND x.period = make_date(:year, 1, 1) AND {scope.enterprises_sql()}"
            " AND (CAST(:district AS text) IS NULL OR c.district_code = :district)"
            " AND (CAST(:enterprise AS bigint) IS NULL OR e.id = :enterprise) ORDER BY e.id, l.id"
        ),
        {
            "base_year": base_year, "year": year, "district": district_code, "enterprise": enterprise_id,
            **scope.parameters(),
        },
    ).mappings()  # fmt: skip
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["enterprise_id"]].append(dict(row))
    return [_enterprise(lines, base_year, year) for lines in groups.values()]


def _enterprise(lines: list[dict[str, Any]], base_year: int, year: int) -> dict[str, Any]:
    shown = [_line(line) for line in lines]
    counted = [Fraction(line["saved_tce"]) for line in shown if line["saved_tce"] is not None]
    named = ("enterprise_id", "uscc", "enterprise_name_zh", "enterprise_name_en", "district_code")
    return {
        **{name: lines[0][name] for name in named},
        "base_year": base_year,
        "year": year,
        "method": "product",
        "saved_tce": plain(sum(counted, Fraction(0))) if counted else None,
        "lines": shown,
    }


def _line(line: dict[str, Any]) -> dict[str, Any]:
    reason = _left_out_because(line)
    answer = {
        name: line[name] for name in ("line_id", "line_code", "variant_key", "unit", "base_actual", "actual", "output")
    }
    if reason is not None:
        return {**answer, "saved_tce": None, "left_out_because": reason}
    base_unit, unit = (Fraction(line[name]) * Fraction(line["base_per_unit"]) for name in ("base_actual", "actual"))
    saved_kgce = targets.energy_saved_kgce([(base_unit, unit, Fraction(line["output"]))])
    return {**answer, "saved_tce": plain(saved_kgce / 1000), "left_out_because": None}


def _left_out_because(line: dict[str, Any]) -> str | None:
    if line["conversion"] == "physical":
        return "not_in_standard_coal"
    if line["base_actual"] is None or line["is_base_provisional"]:
        return "no_base_year"
    return "provisional" if line["actual"] is None or line["is_provisional"] else None

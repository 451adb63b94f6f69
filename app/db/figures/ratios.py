"""How far each line is from the official levels, with the level's citation and how much of the figure was measured."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from app.db.figures.as_of import source
from app.db.figures.sums import (
    CURRENT_ASSIGNMENT,
    ESTIMATED_SHARE,
    LATEST_RATIO,
    MEASURED_SHARE,
    exact,
)
from app.db.scope import Scope

_DECIMALS = ", ".join(
    f"{exact(f'x.{column}')} AS {column}"
    for column in ("actual", "energy", "output", "benchmark", "baseline", "ratio", "position")
)
_COLUMNS = (
    "e.id AS enterprise_id, e.uscc, e.name_zh AS enterprise_name_zh, e.name_en AS enterprise_name_en,"
    " c.district_code, l.id AS line_id, l.code AS line_code, l.name_zh AS line_name_zh, l.name_en AS line_name_en,"
    " v.variant_key, v.domain_no, v.domain_zh, v.domain_en, v.product_zh, v.product_en, v.indicator_zh, v.direction,"
    f" v.judged_on, x.period, coalesce(x.unit, v.unit) AS unit, {_DECIMALS}, coalesce(x.status, 'unknown') AS status,"
    " CASE WHEN x.line_id IS NULL THEN 'not_computed' ELSE x.reason END AS reason,"
    " coalesce(x.is_provisional, true) AS is_provisional,"
    " x.windows_expected, x.windows_received, x.windows_estimated,"
    f" {MEASURED_SHARE} AS measured_share, {ESTIMATED_SHARE} AS estimated_share,"
    " x.factor_set, coalesce(x.has_recalled_factor, false) AS has_recalled_factor, x.computed_at,"
    " s.edition AS level_edition, s.source AS level_source, x.level_confidence, s.valid_from AS level_valid_from,"
    " s.referenced_standard AS level_referenced_standard"
)


def _tables(ratio: str, join: str) -> str:
    return (
        "production_line l JOIN process_unit u ON u.id = l.process_unit_id"
        f" JOIN enterprise e ON e.id = u.enterprise_id CROSS JOIN {CURRENT_ASSIGNMENT} c"
        f" {join} {ratio} ON x.line_id = l.id"
        " JOIN catalogue_variant v ON v.variant_key = coalesce(x.variant_key, l.variant_key)"
        " LEFT JOIN efficiency_level s ON s.id = x.level_id"
    )


def list_ratios(
    connection: Connection,
    scope: Scope,
    *,
    limit: int,
    start: date | None = None,
    end: date | None = None,
    enterprise_id: int | None = None,
    line_id: int | None = None,
    district_code: str | None = None,
    variant_key: str | None = None,
    domain_no: int | None = None,
    status: str | None = None,
    as_of: datetime | None = None,
) -> list[dict[str, Any]]:
    """Return the ratio rows of months in [start, end) as they are, or were known at `as_of`, newest month first."""
    rows = connection.execute(
        text(
            f"SELECT {_COLUMNS}, d.name_zh AS district_name_zh, d.name_en AS district_name_en"
            f" FROM {_tables(source('ratio', 'x', as_of), 'JOIN')} LEFT JOIN district d ON d.code = c.district_code"
            f" WHERE x.grain = 'month' AND {scope.enterprises_sql()}"
            " AND (CAST(:start AS date) IS NULL OR x.period >= :start)"
            " AND (CAST(:end AS date) IS NULL OR x.period < :end)"
            " AND (CAST(:enterprise AS bigint) IS NULL OR e.id = :enterprise)"
            " AND (CAST(:line AS bigint) IS NULL OR l.id = :line)"
            " AND (CAST(:district AS text) IS NULL OR c.district_code = :district)"
            " AND (CAST(:variant AS text) IS NULL OR v.variant_key = :variant)"
            " AND (CAST(:domain AS smallint) IS NULL OR v.domain_no = :domain)"
            " AND (CAST(:status AS text) IS NULL OR x.status = :status)"
            " ORDER BY x.period DESC, e.id, l.id LIMIT :limit"
        ),
        {
            "start": start,
            "end": end,
            "enterprise": enterprise_id,
            "line": line_id,
            "district": district_code,
            "variant": variant_key,
            "domain": domain_no,
            "status": status,
            "limit": limit,
            **({"as_of": as_of} if as_of else {}),
            **scope.parameters(),
        },
    ).mappings()
    return [dict(row) for row in rows]


def latest_ratios(
    connection: Connection, scope: Scope, *, limit: int, enterprise_id: int | None = None
) -> list[dict[str, Any]]:
    """Return every line in scope with its latest month that counts; a line never computed has status unknown."""
    rows = connection.execute(
        text(
            f"SELECT {_COLUMNS}, d.name_zh AS district_name_zh, d.name_en AS district_name_en"
            f" FROM {_tables(f'{LATEST_RATIO} x', 'LEFT JOIN')} JOIN district d ON d.code = c.district_code"
            f" WHERE {scope.enterprises_sql()} AND (CAST(:enterprise AS bigint) IS NULL OR e.id = :enterprise)"
            " ORDER BY (x.status = 'below_baseline') DESC NULLS LAST, x.position NULLS LAST, e.id, l.id LIMIT :limit"
        ),
        {"enterprise": enterprise_id, "limit": limit, **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]


def ranking(
    connection: Connection,
    scope: Scope,
    month: date,
    *,
    district_code: str | None = None,
    variant_key: str | None = None,
    domain_no: int | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the ranked lines of one domain or variant in a month, best first, and those left out with the reason.

    Order: position (1 at the benchmark, 0 at the baseline, the same for every product and for negative levels), then
    the ratio for lines whose level has no two distinct values. Provisional figures are never ranked.
    """
    rows = list_ratios(
        connection,
        scope,
        limit=10_000,
        start=month,
        end=month.replace(day=2),
        district_code=district_code,
        variant_key=variant_key,
        domain_no=domain_no,
    )
    ranked = [row for row in rows if _left_out_because(row) is None]
    ranked.sort(key=_rank_key)
    left_out = [
        {**row, "left_out_because": _left_out_because(row)} for row in rows if _left_out_because(row) is not None
    ]
    return _with_rank(ranked), left_out


def _left_out_because(row: dict[str, Any]) -> str | None:
    if row["is_provisional"] or row["actual"] is None:
        return str(row["reason"] or "provisional")
    if row["position"] is None and row["ratio"] is None:
        return "no_level"
    return None


def _rank_key(row: dict[str, Any]) -> tuple[bool, Decimal, int]:
    has_position = row["position"] is not None
    return (not has_position, -Decimal(row["position"]) if has_position else Decimal(row["ratio"]), row["line_id"])


def _with_rank(ranked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Number the rows from 1; equal figures share a rank."""
    numbered: list[dict[str, Any]] = []
    for index, row in enumerate(ranked, start=1):
        is_tie = bool(numbered) and _rank_key(numbered[-1])[:2] == _rank_key(row)[:2]
        numbered.append({"rank": numbered[-1]["rank"] if is_tie else index, **row})
    return numbered

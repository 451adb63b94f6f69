"""How far each line is from the official levels, with the level's citation and how much of the figure was measured."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db.assignments import CURRENT_ASSIGNMENT, assignment_on
from app.db.figures.as_of import source
from app.db.figures.sums import (
    ESTIMATED_SHARE,
    LATEST_RATIO,
    MEASURED_SHARE,
    MISSING_SHARE,
    RATIO_LAST_DAY,
    exact,
)
from app.db.scope import Scope

_DECIMALS = ", ".join(
    f"{exact(f'x.{column}')} AS {column}"
    for column in (
        *("actual", "energy", "output", "benchmark", "baseline", "ratio", "position"),
        *("quota_level_1", "quota_level_2", "quota_level_3"),
    )
)
COLUMNS = (
    "e.id AS enterprise_id, e.uscc, e.name_zh AS enterprise_name_zh, e.name_en AS enterprise_name_en,"
    " c.district_code, l.id AS line_id, l.code AS line_code, l.name_zh AS line_name_zh, l.name_en AS line_name_en,"
    " v.variant_key, v.domain_no, v.domain_zh, v.domain_en, v.product_zh, v.product_en, v.indicator_zh, v.direction,"
    f" v.judged_on, x.period, coalesce(x.unit, v.unit) AS unit, {_DECIMALS}, coalesce(x.status, 'unknown') AS status,"
    " CASE WHEN x.line_id IS NULL THEN 'not_computed' ELSE x.reason END AS reason,"
    " coalesce(x.is_provisional, true) AS is_provisional,"
    " x.windows_expected, x.windows_received, x.windows_estimated,"
    f" {MEASURED_SHARE} AS measured_share, {ESTIMATED_SHARE} AS estimated_share, {MISSING_SHARE} AS missing_share,"
    " x.factor_set, coalesce(x.has_recalled_factor, false) AS has_recalled_factor, x.computed_at,"
    " s.edition AS level_edition, s.source AS level_source, x.level_confidence, s.valid_from AS level_valid_from,"
    " s.referenced_standard AS level_referenced_standard,"
    " x.quota_grade, q.standard AS quota_standard, q.edition AS quota_edition, q.confidence AS quota_confidence,"
    " coalesce(x.corrections, '[]') AS corrections, x.output_source"
)


def tables(ratio: str, join: str = "JOIN", assignment: str = CURRENT_ASSIGNMENT) -> str:
    """Return the tables behind COLUMNS over ratio rows `x`; `assignment` says of which day the district `c` is."""
    return (
        "production_line l JOIN process_unit u ON u.id = l.process_unit_id"
        " JOIN enterprise e ON e.id = u.enterprise_id"
        f" {join} {ratio} ON x.line_id = l.id CROSS JOIN {assignment} c"
        " JOIN catalogue_variant v ON v.variant_key = coalesce(x.variant_key, l.variant_key)"
        " LEFT JOIN efficiency_level s ON s.id = x.level_id LEFT JOIN quota_limit q ON q.id = x.quota_limit_id"
    )


def list_ratios(
    connection: Connection,
    scope: Scope,
    *,
    limit: int,
    grain: str = "month",
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
    """Return the ratio rows of periods that begin in [start, end), newest first; months also as known at `as_of`.

    The district is that of each period's last day: an enterprise that moved keeps its past where it was.
    """
    of_period = tables(source("ratio", "x", as_of), "JOIN", assignment_on(RATIO_LAST_DAY))
    rows = connection.execute(
        text(
            f"SELECT {COLUMNS}, d.name_zh AS district_name_zh, d.name_en AS district_name_en"
            f" FROM {of_period} LEFT JOIN district d ON d.code = c.district_code"
            f" WHERE x.grain = :grain AND {scope.enterprises_sql()}"
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
            "grain": grain,
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
            f"SELECT {COLUMNS}, d.name_zh AS district_name_zh, d.name_en AS district_name_en"
            f" FROM {tables(f'{LATEST_RATIO} x', 'LEFT JOIN')} JOIN district d ON d.code = c.district_code"
            f" WHERE {scope.enterprises_sql()} AND (CAST(:enterprise AS bigint) IS NULL OR e.id = :enterprise)"
            " ORDER BY (x.status = 'below_baseline') DESC NULLS LAST, x.position NULLS LAST, e.id, l.id LIMIT :limit"
        ),
        {"enterprise": enterprise_id, "limit": limit, **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]

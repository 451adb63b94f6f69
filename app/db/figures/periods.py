"""What figures of longer periods are made of: months of lines as they are or were known, lines in service, capacity."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from app.db.assignments import assignment_on
from app.db.figures.as_of import source
from app.db.figures.ratios import COLUMNS, tables
from app.db.figures.sums import exact
from app.db.scope import Scope

# Outputs by which every line that reports them has a figure, beside that of its product.
GENERAL_KINDS = "('output_value', 'value_added')"


@dataclass(frozen=True, slots=True)
class Question:
    """Whose months are asked for, in [start, end); None leaves a filter open. `end` tells the district too."""

    start: date
    end: date
    enterprise_id: int | None = None
    line_id: int | None = None
    district_code: str | None = None
    variant_key: str | None = None
    domain_no: int | None = None
    as_of: datetime | None = None

    def conditions(self, scope: Scope) -> str:
        """Return the conditions over `e`, `l`, `v` and the district `c` of the period's last day."""
        return (
            f"{scope.enterprises_sql()}"
            " AND (CAST(:enterprise AS bigint) IS NULL OR e.id = :enterprise)"
            " AND (CAST(:line AS bigint) IS NULL OR l.id = :line)"
            " AND (CAST(:district AS text) IS NULL OR c.district_code = :district)"
            " AND (CAST(:variant AS text) IS NULL OR v.variant_key = :variant)"
            " AND (CAST(:domain AS smallint) IS NULL OR v.domain_no = :domain)"
        )

    def parameters(self, scope: Scope) -> dict[str, object]:
        """Return the bind parameters of `conditions`, `start` and `end`, and of `source`."""
        return {
            "start": self.start,
            "end": self.end,
            "enterprise": self.enterprise_id,
            "line": self.line_id,
            "district": self.district_code,
            "variant": self.variant_key,
            "domain": self.domain_no,
            **({"as_of": self.as_of} if self.as_of else {}),
            **scope.parameters(),
        }


_OF_LAST_DAY = assignment_on("(CAST(:end AS date) - 1)")


def lines(connection: Connection, scope: Scope, asked: Question) -> list[dict[str, Any]]:
    """Return lines in service in the period, each by its own product (or by the general one that is asked for)."""
    rows = connection.execute(
        text(
            "SELECT e.id AS enterprise_id, e.uscc, e.name_zh AS enterprise_name_zh, e.name_en AS enterprise_name_en,"
            " c.district_code, d.name_zh AS district_name_zh, d.name_en AS district_name_en, l.id AS line_id,"
            " l.code AS line_code, l.name_zh AS line_name_zh, l.name_en AS line_name_en, l.from_on, l.to_on,"
            " v.variant_key, v.domain_no, v.domain_zh, v.domain_en, v.product_zh, v.product_en, v.indicator_zh, v.unit,"
            " v.direction, v.judged_on, v.conversion, v.base_per_indicator_unit, v.output_kind, v.output_unit,"
            " v.feedstock = 'in' AS feedstock_counts, v.carriers, v.variant_key = l.variant_key AS is_own"
            " FROM production_line l JOIN process_unit u ON u.id = l.process_unit_id"
            f" JOIN enterprise e ON e.id = u.enterprise_id CROSS JOIN {_OF_LAST_DAY} c"
            " LEFT JOIN district d ON d.code = c.district_code"
            " JOIN catalogue_variant v ON v.variant_key = l.variant_key"
            f"  OR (v.variant_key = :variant AND v.output_kind IN {GENERAL_KINDS})"
            " WHERE l.from_on < :end AND (l.to_on IS NULL OR l.to_on > :start)"
            f" AND {asked.conditions(scope)} ORDER BY e.id, l.id"
        ),
        asked.parameters(scope),
    ).mappings()
    return [dict(row) for row in rows]


def months(
    connection: Connection, asked: Question, line_ids: Sequence[int], variant_keys: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the months of lines that were already found in scope, in order of time, with the ids they cite."""
    rows = connection.execute(
        text(
            f"SELECT {COLUMNS}, x.level_id, x.quota_limit_id FROM {tables(source('ratio', 'x', asked.as_of))}"
            " WHERE x.grain = 'month' AND x.period >= :start AND x.period < :end"
            " AND x.line_id = ANY(:lines) AND x.variant_key = ANY(:variants) ORDER BY x.period, l.id"
        ),
        {
            "start": asked.start,
            "end": asked.end,
            "lines": list(line_ids),
            "variants": list(variant_keys),
            **({"as_of": asked.as_of} if asked.as_of else {}),
        },
    ).mappings()
    return [dict(row) for row in rows]


def yearly_outputs(
    connection: Connection, line_ids: Sequence[int], year: date, as_of: datetime | None
) -> dict[tuple[int, str], tuple[Decimal, str]]:
    """Return by (line, kind) the output reported for a whole year with its unit, as known at `as_of`."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT ON (line_id, kind) line_id, kind, value, unit FROM output WHERE grain = 'year'"
            " AND period = :year AND line_id = ANY(:lines)"
            " AND reported_at <= coalesce(CAST(:as_of AS timestamptz), 'infinity')"
            " ORDER BY line_id, kind, revision DESC"
        ),
        {"year": year, "lines": list(line_ids), "as_of": as_of},
    )
    return {(line_id, kind): (value, unit) for line_id, kind, value, unit in rows}


def capacities(
    connection: Connection, line_ids: Sequence[int], last_day: date, as_of: datetime | None
) -> dict[int, tuple[Decimal, str]]:
    """Return by line the capacity that holds on a day with its unit: the latest reported one, else the registry's."""
    rows = connection.execute(
        text(
            "SELECT l.id, coalesce(r.value, l.capacity), coalesce(r.unit, l.capacity_unit) FROM production_line l"
            " LEFT JOIN LATERAL (SELECT o.value, o.unit FROM output o WHERE o.line_id = l.id AND o.kind = 'capacity'"
            "  AND o.period <= :day AND o.reported_at <= coalesce(CAST(:as_of AS timestamptz), 'infinity')"
            "  ORDER BY o.period DESC, o.revision DESC LIMIT 1) r ON true"
            " WHERE l.id = ANY(:lines) AND coalesce(r.value, l.capacity) > 0"
            " AND coalesce(r.unit, l.capacity_unit) IS NOT NULL"
        ),
        {"lines": list(line_ids), "day": last_day, "as_of": as_of},
    )
    return {line_id: (value, unit) for line_id, value, unit in rows}


def target(connection: Connection, target_key: str) -> dict[str, Any] | None:
    """Return a policy target with its citation, or None when it is not loaded."""
    row = (
        connection.execute(
            text(
                f"SELECT target_key, name_zh, name_en, operator, {exact('value')} AS value, unit, source, confidence"
                " FROM policy_target WHERE target_key = :key"
            ),
            {"key": target_key},
        )
        .mappings()
        .first()
    )
    return None if row is None else dict(row)

"""Energy as standard coal and CO2, of an enterprise, a district or everything in scope."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db.assignments import district_on
from app.db.figures.as_of import source
from app.db.figures.sums import SIGNED, complete_sum, energy_sums, exact
from app.db.scope import Scope

# grain: (table, column of the step's start, the business day by which a district owns the step)
TABLES = {
    "hour": ("energy_hour", "hour_at", "(x.hour_at AT TIME ZONE 'Asia/Shanghai')::date"),
    "day": ("energy_day", "day", "x.day"),
    "month": ("energy_month", "month", "(x.month + interval '1 month' - interval '1 day')::date"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a grain, a half-open range of its steps, and whose energy; None leaves a condition open."""

    grain: str
    start: date | datetime
    end: date | datetime
    enterprise_id: int | None = None
    district_code: str | None = None
    carrier_key: str | None = None
    flow: str | None = None
    as_of: datetime | None = None

    def rows_sql(self, scope: Scope) -> str:
        """Return FROM and WHERE over energy rows `x` that this asks for, inside the scope."""
        table, column, day = TABLES[self.grain]
        in_district = f" AND {district_on(day)} = :district" if self.district_code else ""
        return (
            f"FROM {source(table, 'x', self.as_of)} JOIN process_unit u ON u.id = x.process_unit_id"
            f" JOIN enterprise e ON e.id = u.enterprise_id WHERE x.{column} >= :start AND x.{column} < :end"
            f" AND {scope.enterprises_sql()}"
            " AND (CAST(:enterprise AS bigint) IS NULL OR e.id = :enterprise)"
            " AND (CAST(:carrier AS text) IS NULL OR x.carrier_key = :carrier)"
            f" AND (CAST(:flow AS text) IS NULL OR x.flow = :flow){in_district}"
        )

    def parameters(self, scope: Scope) -> dict[str, object]:
        """Return the bind parameters of `rows_sql`."""
        return {
            "start": self.start,
            "end": self.end,
            "enterprise": self.enterprise_id,
            "carrier": self.carrier_key,
            "flow": self.flow,
            **({"district": self.district_code} if self.district_code else {}),
            **({"as_of": self.as_of} if self.as_of else {}),
            **scope.parameters(),
        }


_FACTORS = (
    "array_remove(array_agg(DISTINCT x.factor_set), NULL) AS factor_sets,"
    " array_remove(array_agg(DISTINCT x.emission_set), NULL) AS emission_sets,"
    " coalesce(bool_or(x.has_recalled_factor), false) AS has_recalled_factor,"
    " coalesce(bool_or(x.is_co2_provisional), false) AS is_co2_provisional"
)
_WINDOWS = (
    "coalesce(sum(x.windows_expected), 0)::bigint AS windows_expected,"
    " coalesce(sum(x.windows_received), 0)::bigint AS windows_received,"
    " coalesce(sum(x.windows_estimated), 0)::bigint AS windows_estimated"
)


def total(connection: Connection, scope: Scope, question: Question) -> dict[str, Any]:
    """Return the signed total over the range, the factor sets behind it, and the carriers without a factor."""
    missing = ", ".join(
        f"array_remove(array_agg(DISTINCT x.carrier_key) FILTER (WHERE x.{column} IS NULL), NULL)"
        f" AS carriers_without_{name}"
        for column, name in (
            ("equivalent_kgce", "equivalent_factor"),
            ("equal_kgce", "equal_factor"),
            ("co2_kg", "co2_factor"),
        )
    )
    row = connection.execute(
        text(
            f"SELECT {energy_sums(scale='1', unit='kgce', mass='kg')}, {_FACTORS}, {_WINDOWS}, {missing}"
            f" {question.rows_sql(scope)}"
        ),
        question.parameters(scope),
    ).mappings()
    found = dict(row.one())
    return {key: [] if value is None and key.startswith("carriers_") else value for key, value in found.items()}


def steps(connection: Connection, scope: Scope, question: Question) -> list[dict[str, Any]]:
    """Return the signed total of each step that has rows, in order of time."""
    column = TABLES[question.grain][1]
    rows = connection.execute(
        text(
            f"SELECT x.{column} AS start, {energy_sums(scale='1', unit='kgce', mass='kg')}, {_WINDOWS}"
            f" {question.rows_sql(scope)} GROUP BY 1 ORDER BY 1"
        ),
        question.parameters(scope),
    ).mappings()
    return [dict(row) for row in rows]


def by_carrier(connection: Connection, scope: Scope, question: Question) -> list[dict[str, Any]]:
    """Return each carrier and flow over the range, unsigned: how much of it, and what it is worth."""
    sums = ", ".join(
        f"CASE WHEN count(*) = count(x.{column}) THEN {exact(f'sum(x.{column})')} END AS {column}"
        for column in ("equivalent_kgce", "equal_kgce", "co2_kg")
    )
    rows = connection.execute(
        text(
            f"SELECT k.*, c.name_zh, c.name_en, c.unit FROM (SELECT x.carrier_key, x.flow,"
            f" {exact('sum(x.quantity)')} AS quantity, {sums}, {_FACTORS}, {_WINDOWS}"
            f" {question.rows_sql(scope)} GROUP BY 1, 2) k JOIN carrier c USING (carrier_key) ORDER BY 1, 2"
        ),
        question.parameters(scope),
    ).mappings()
    return [dict(row) for row in rows]


def parts(connection: Connection, scope: Scope, question: Question) -> list[dict[str, Any]]:
    """Return what a total is the sum of: its enterprises, or the rows of the one enterprise asked for, with signs."""
    if question.enterprise_id is None:
        columns = "e.id AS enterprise_id, e.uscc, e.name_zh, e.name_en, 1 AS sign"
        sums = complete_sum("equivalent_kgce")
        statement = (
            f"SELECT {columns}, CAST({sums} AS numeric) AS equivalent_kgce {question.rows_sql(scope)}"
            " GROUP BY e.id ORDER BY e.uscc"
        )
    else:
        statement = (
            f"SELECT u.id AS process_unit_id, u.code AS process_unit, x.carrier_key, x.flow, {SIGNED} AS sign,"
            f" x.quantity, x.equivalent_kgce, x.factor_set {question.rows_sql(scope)} ORDER BY 2, 3, 4"
        )
    return [dict(row) for row in connection.execute(text(statement), question.parameters(scope)).mappings()]


def kgce_of_days(connection: Connection, enterprise_id: int, start: date, end: date) -> dict[date, str | None]:
    """Return the enterprise's equivalent energy in kgce of each day in [start, end) that has rows."""
    rows = connection.execute(
        text(
            f"SELECT x.day, {complete_sum('equivalent_kgce')} FROM energy_day x"
            " JOIN process_unit u ON u.id = x.process_unit_id"
            " WHERE u.enterprise_id = :id AND x.day >= :start AND x.day < :end GROUP BY x.day"
        ),
        {"id": enterprise_id, "start": start, "end": end},
    )
    return {row.day: row[1] for row in rows}

"""Energy of regions over whole years, as measured at the monitored units: for intensity, coal and non-fossil share."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sqlalchemy import Connection, text

from app.db.assignments import district_on
from app.db.figures.sums import FACTOR_SETS, SIGNED
from app.db.scope import Scope
from app.domain.benchmark import COMPLETENESS_MIN

MONTHS = 12
_LAST_DAY = "(x.month + interval '1 month' - interval '1 day')::date"
# The region of a row: the district in which the enterprise is on the month's last day, and the city over all.
_REGIONS = f"""
FROM energy_month x JOIN process_unit u ON u.id = x.process_unit_id JOIN enterprise e ON e.id = u.enterprise_id
CROSS JOIN LATERAL (SELECT {district_on(_LAST_DAY)} AS code
    UNION ALL SELECT d.code FROM district d WHERE d.level = 'municipality') r
"""


@dataclass(frozen=True, slots=True)
class MeasuredYear:
    """Energy of a region's monitored units in a year; None where a carrier has no factor of that conversion."""

    region: str
    year: int
    energy_tce: Decimal | None
    feedstock_tce: Decimal
    enterprises: int
    months: int
    windows_expected: int
    windows_received: int
    factor_sets: list[str]

    @property
    def is_whole(self) -> bool:
        """Whether the year has all its months and 90 % of their windows: else it is too low to be compared."""
        return self.months == MONTHS and self.windows_received >= COMPLETENESS_MIN * self.windows_expected


def energy_of_years(connection: Connection, scope: Scope, years: Sequence[int], conversion: str) -> list[MeasuredYear]:
    """Return the energy (in + feedstock - out - recovered) of each region with rows, in the conversion asked for.

    `conversion`: equivalent or equal. The city's row sums what the scope shows: whole only for who sees the city.
    """
    column = {"equivalent": "x.equivalent_kgce", "equal": "x.equal_kgce"}[conversion]
    rows = connection.execute(
        text(
            "SELECT r.code, extract(year FROM x.month)::integer,"
            f" CASE WHEN count(*) = count({column}) THEN sum({SIGNED} * {column}) * 0.001 END,"
            f" coalesce(sum({column}) FILTER (WHERE x.flow = 'feedstock'), 0) * 0.001,"
            " count(DISTINCT e.id), count(DISTINCT x.month), sum(x.windows_expected)::bigint,"
            f" sum(x.windows_received)::bigint, {FACTOR_SETS} {_REGIONS}"
            f" WHERE extract(year FROM x.month) = ANY(:years) AND {scope.enterprises_sql()} GROUP BY 1, 2"
        ),
        {"years": list(years), **scope.parameters()},
    )
    return [MeasuredYear(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class ClassOfYear:
    """What a class of carriers (coal, non_fossil) came to in a region's year; mass of those that are counted in kg."""

    region: str
    year: int
    counts_as: str
    quantity_kg: Decimal | None
    equivalent_tce: Decimal | None


def classes_of_years(connection: Connection, scope: Scope, years: Sequence[int]) -> list[ClassOfYear]:
    """Return coal and metered non-fossil carriers of each region: used (in, feedstock) less passed on (out)."""
    rows = connection.execute(
        text(
            "SELECT r.code, extract(year FROM x.month)::integer, k.counts_as,"
            f" sum({SIGNED} * x.quantity) FILTER (WHERE c.unit = 'kg'), CASE WHEN count(*) = count(x.equivalent_kgce)"
            f" THEN sum({SIGNED} * x.equivalent_kgce) * 0.001 END {_REGIONS}"
            " JOIN carrier c ON c.carrier_key = x.carrier_key JOIN carrier_class k ON k.carrier_key = x.carrier_key"
            f" WHERE extract(year FROM x.month) = ANY(:years) AND {scope.enterprises_sql()} GROUP BY 1, 2, 3"
        ),
        {"years": list(years), **scope.parameters()},
    )
    return [ClassOfYear(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class EnergyOfDays:
    """Energy of an enterprise over the days of a year so far."""

    enterprise_id: int
    energy_tce: Decimal | None
    feedstock_tce: Decimal
    days: int
    windows_expected: int
    windows_received: int
    windows_estimated: int
    factor_sets: list[str]


def energy_of_days(
    connection: Connection, scope: Scope, enterprise_ids: Sequence[int], first: date, last: date, conversion: str
) -> dict[int, EnergyOfDays]:
    """Return the energy of enterprises over the days [first, last], by id; those without rows are left out."""
    column = {"equivalent": "x.equivalent_kgce", "equal": "x.equal_kgce"}[conversion]
    rows = connection.execute(
        text(
            f"SELECT e.id, CASE WHEN count(*) = count({column}) THEN sum({SIGNED} * {column}) * 0.001 END,"
            f" coalesce(sum({column}) FILTER (WHERE x.flow = 'feedstock'), 0) * 0.001, count(DISTINCT x.day),"
            " sum(x.windows_expected)::bigint, sum(x.windows_received)::bigint, sum(x.windows_estimated)::bigint,"
            f" {FACTOR_SETS}"
            " FROM energy_day x JOIN process_unit u ON u.id = x.process_unit_id"
            " JOIN enterprise e ON e.id = u.enterprise_id WHERE e.id = ANY(:ids) AND x.day BETWEEN :first AND :last"
            f" AND {scope.enterprises_sql()} GROUP BY e.id"
        ),
        {"ids": list(enterprise_ids), "first": first, "last": last, **scope.parameters()},
    )
    return {row[0]: EnergyOfDays(*row) for row in rows}

"""The official figures that everything is judged and converted by, with source, edition and confidence."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db.figures.sums import exact

_CITATION = "x.source, x.edition, x.confidence, x.valid_from, x.valid_to, x.note"


# As the rows stood at the bind parameter `as_of`, or stand.
_KNOWN = (
    "(CASE WHEN CAST(:as_of AS timestamptz) IS NULL THEN x.superseded_at IS NULL"
    " ELSE x.recorded_at <= :as_of AND coalesce(x.superseded_at > :as_of, true) END)"
)
_IN_FORCE = "(CAST(:on AS date) IS NULL OR (coalesce(x.valid_from <= :on, true) AND coalesce(x.valid_to > :on, true)))"
_RECORDED = "x.recorded_at, x.recorded_by, x.superseded_at"


def levels(
    connection: Connection, *, domain_no: int | None, on: date | None, as_of: datetime | None = None
) -> list[dict[str, Any]]:
    """Return benchmark and baseline of each product by process, all editions; `on`: the one in force on a day.

    `as_of`: as the catalogue was known then; rows that were put right since have the figures of then.
    """
    rows = connection.execute(
        text(
            f"SELECT * FROM (SELECT {'DISTINCT ON (v.variant_key)' if on else ''}"
            " v.variant_key, v.domain_no, v.domain_zh, v.domain_en, v.product_zh, v.product_en, v.indicator_zh,"
            " v.unit, v.direction, v.judged_on,"
            f" {exact('x.benchmark')} AS benchmark, {exact('x.baseline')} AS baseline,"
            f" x.referenced_standard, x.deadline_on, {_CITATION}, {_RECORDED}"
            " FROM efficiency_level x JOIN catalogue_variant v USING (variant_key)"
            f" WHERE (CAST(:domain AS smallint) IS NULL OR v.domain_no = :domain) AND {_IN_FORCE} AND {_KNOWN}"
            " ORDER BY v.variant_key, x.valid_from DESC NULLS LAST) found"
            " ORDER BY domain_no NULLS LAST, variant_key, valid_from NULLS FIRST"
        ),
        {"domain": domain_no, "on": on, "as_of": as_of},
    ).mappings()
    return [dict(row) for row in rows]


def quota_limits(connection: Connection, *, on: date | None, as_of: datetime | None = None) -> list[dict[str, Any]]:
    """Return the limits of the GB quota standards, of products outside the catalogue too."""
    limits = ", ".join(f"{exact(f'x.{name}')} AS {name}" for name in ("level_1", "level_2", "level_3"))
    rows = connection.execute(
        text(
            "SELECT x.variant_key, x.standard, x.industry_code, x.domain_zh, x.domain_en, x.product_zh, x.product_en,"
            f" x.indicator_zh, x.unit, x.direction, {limits}, {_CITATION}, {_RECORDED} FROM quota_limit x"
            f" WHERE {_IN_FORCE} AND {_KNOWN} ORDER BY x.standard, x.id"
        ),
        {"on": on, "as_of": as_of},
    ).mappings()
    return [dict(row) for row in rows]


def level_corrections(
    connection: Connection, *, on: date | None, as_of: datetime | None = None
) -> list[dict[str, Any]]:
    """Return what the standards add to their levels for the conditions of a line."""
    numbers = ", ".join(f"{exact(f'x.{name}')} AS {name}" for name in ("base", "per_point", "most_points"))
    rows = connection.execute(
        text(
            "SELECT x.variant_key, v.product_zh, v.product_en, v.unit, x.input_key, x.input_zh, x.input_en,"
            f" x.input_unit, x.level, x.side, {numbers}, {_CITATION}, {_RECORDED}"
            " FROM level_correction x JOIN catalogue_variant v USING (variant_key)"
            f" WHERE {_IN_FORCE} AND {_KNOWN} ORDER BY x.variant_key, x.input_key, x.level, x.valid_from NULLS FIRST"
        ),
        {"on": on, "as_of": as_of},
    ).mappings()
    return [dict(row) for row in rows]


def carriers(connection: Connection) -> list[dict[str, Any]]:
    """Return the energy carriers with their canonical unit and the factors they are converted by."""
    rows = connection.execute(
        text(
            "SELECT x.carrier_key, x.name_zh, x.name_en, x.unit, x.kind, x.equivalent_factor_key, x.equal_factor_key,"
            f" x.emission_type, x.emission_key, {_CITATION} FROM carrier x ORDER BY x.carrier_key"
        )
    ).mappings()
    return [dict(row) for row in rows]


def standard_coal_factors(connection: Connection, *, as_of: datetime | None = None) -> list[dict[str, Any]]:
    """Return the conversions to standard coal; null where the source gives a range or nothing."""
    decimals = ", ".join(f"{exact(f'x.{c}')} AS {c}" for c in ("kgce_per_unit", "kgce_min", "kgce_max", "lhv"))
    rows = connection.execute(
        text(
            f"SELECT x.factor_key, x.factor_set, x.name_zh, x.name_en, x.unit, {decimals}, x.lhv_unit, x.basis,"
            f" {_CITATION}, {_RECORDED} FROM standard_coal_factor x WHERE {_KNOWN}"
            " ORDER BY x.factor_set, x.factor_key, x.valid_from NULLS FIRST"
        ),
        {"as_of": as_of},
    ).mappings()
    return [dict(row) for row in rows]


def emission_factors(connection: Connection, *, as_of: datetime | None = None) -> list[dict[str, Any]]:
    """Return the CO2 factors of fuels, electricity and heat."""
    decimals = ", ".join(
        f"{exact(f'x.{c}')} AS {c}" for c in ("lhv", "carbon_content_tc_per_gj", "oxidation_rate_pct", "factor_value")
    )
    rows = connection.execute(
        text(
            f"SELECT x.factor_type, x.factor_key, x.factor_set, x.year, x.name_zh, x.name_en, {decimals}, x.lhv_unit,"
            f" x.factor_unit, {_CITATION}, {_RECORDED} FROM emission_factor x WHERE {_KNOWN}"
            " ORDER BY x.factor_type, x.factor_key, x.year NULLS FIRST"
        ),
        {"as_of": as_of},
    ).mappings()
    return [dict(row) for row in rows]

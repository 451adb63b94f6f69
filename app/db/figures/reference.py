"""The official figures that everything is judged and converted by, with source, edition and confidence."""

from datetime import date
from typing import Any

from sqlalchemy import Connection, text

from app.db.figures.sums import exact

_CITATION = "x.source, x.edition, x.confidence, x.valid_from, x.valid_to, x.note"


def levels(connection: Connection, *, domain_no: int | None, on: date | None) -> list[dict[str, Any]]:
    """Return benchmark and baseline of each product by process; `on` asks for the edition in force on a day."""
    rows = connection.execute(
        text(
            "SELECT v.variant_key, v.domain_no, v.domain_zh, v.domain_en, v.product_zh, v.product_en, v.indicator_zh,"
            f" v.unit, v.direction, v.judged_on,"
            f" {exact('x.benchmark')} AS benchmark, {exact('x.baseline')} AS baseline,"
            f" x.referenced_standard, x.deadline_on, {_CITATION}"
            " FROM efficiency_level x JOIN catalogue_variant v USING (variant_key)"
            " WHERE (CAST(:domain AS smallint) IS NULL OR v.domain_no = :domain)"
            " AND (CAST(:on AS date) IS NULL"
            "  OR (coalesce(x.valid_from <= :on, true) AND coalesce(x.valid_to > :on, true)))"
            " ORDER BY v.domain_no NULLS LAST, v.variant_key, x.valid_from NULLS FIRST"
        ),
        {"domain": domain_no, "on": on},
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


def standard_coal_factors(connection: Connection) -> list[dict[str, Any]]:
    """Return the conversions to standard coal; null where the source gives a range or nothing."""
    decimals = ", ".join(f"{exact(f'x.{c}')} AS {c}" for c in ("kgce_per_unit", "kgce_min", "kgce_max", "lhv"))
    rows = connection.execute(
        text(
            f"SELECT x.factor_key, x.factor_set, x.name_zh, x.name_en, x.unit, {decimals}, x.lhv_unit, x.basis,"
            f" {_CITATION} FROM standard_coal_factor x ORDER BY x.factor_set, x.factor_key, x.valid_from NULLS FIRST"
        )
    ).mappings()
    return [dict(row) for row in rows]


def emission_factors(connection: Connection) -> list[dict[str, Any]]:
    """Return the CO2 factors of fuels, electricity and heat."""
    decimals = ", ".join(
        f"{exact(f'x.{c}')} AS {c}" for c in ("lhv", "carbon_content_tc_per_gj", "oxidation_rate_pct", "factor_value")
    )
    rows = connection.execute(
        text(
            f"SELECT x.factor_type, x.factor_key, x.factor_set, x.year, x.name_zh, x.name_en, {decimals}, x.lhv_unit,"
            f" x.factor_unit, {_CITATION} FROM emission_factor x"
            " ORDER BY x.factor_type, x.factor_key, x.year NULLS FIRST"
        )
    ).mappings()
    return [dict(row) for row in rows]

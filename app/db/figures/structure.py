"""The structure of a region's energy against the plan: how far coal fell, and the share of non-fossil energy."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection

from app.db import entered
from app.db.figures.regions import classes_of_years, energy_of_years
from app.db.scope import Scope
from app.domain import targets
from app.domain.rounding import plain

# Targets of the plan for the whole city; the text has none for districts.
COAL_TARGET, NON_FOSSIL_TARGET = "coal_consumption", "non_fossil_share"
KG_PER_T = 1000
Pair = tuple[Any, Any]  # the base year's figure and the year's


@dataclass(frozen=True, slots=True)
class _Figures:
    """Entered figures and metered carriers of the two years, by region."""

    years: tuple[int, int]
    entered: Mapping[tuple[str, str, int], Mapping[str, Any]]
    metered: Mapping[tuple[str, str, int], Decimal | None]
    whole: frozenset[tuple[str, int]]  # region and year of which the meters tell everything

    def is_comparable(self, code: str, basis: str) -> bool:
        """Whether two years on a basis may be compared: half a year beside a whole one would be a reduction."""
        return basis == "entered" or all((code, year) in self.whole for year in self.years)

    def pair(self, code: str, kind: str, default: Decimal | None = None) -> tuple[Pair, str]:
        """Return two years' figures on one basis: entered where either year is, so that a lone one shows as missing."""
        stated = [self.entered.get((code, kind, year)) for year in self.years]
        if any(stated):
            first, second = (row["value"] if row else None for row in stated)
            return (first, second), "entered"
        first, second = (self.metered.get((code, kind, year), default) for year in self.years)
        return (first, second), "measured"

    def sources(self, code: str) -> list[dict[str, Any]]:
        """Return where the entered figures of a region come from."""
        return [
            {name: row[name] for name in ("kind", "year", "source", "revision")}
            for kind in ("coal", "non_fossil_energy", "energy")
            for year in self.years
            if (row := self.entered.get((code, kind, year)))
        ]


def structure(
    connection: Connection, scope: Scope, *, base_year: int, year: int, conversion: str
) -> list[dict[str, Any]]:
    """Return each region in scope with coal (t) and the non-fossil share of two years and how both moved.

    Of each figure the entered statistics where the region has them, else the carriers as metered: in both years.
    """
    figures = _figures(connection, scope, (base_year, year), conversion)
    plan = {key: entered.policy_target(connection, key) for key in (COAL_TARGET, NON_FOSSIL_TARGET)}
    return [
        {
            **{name: region[name] for name in ("code", "name_zh", "name_en")},
            "base_year": base_year,
            "year": year,
            **_coal(figures, code),
            **_non_fossil(figures, code, conversion),
            "reason": _reason(figures, code),
            "targets": [_target(row) for row in plan.values()] if region["level"] == "municipality" else [],
            "sources": figures.sources(code),
        }
        for code, region in entered.regions(connection, scope).items()
    ]


def _figures(connection: Connection, scope: Scope, years: tuple[int, int], conversion: str) -> _Figures:
    stated = entered.regional_figures(connection, years)
    metered: dict[tuple[str, str, int], Decimal | None] = {}
    for one in classes_of_years(connection, scope, years):
        if one.counts_as == "coal":
            metered[one.region, "coal", one.year] = None if one.quantity_kg is None else one.quantity_kg / KG_PER_T
        else:
            metered[one.region, "non_fossil_energy", one.year] = one.equivalent_tce
    totals = energy_of_years(connection, scope, years, conversion)
    metered |= {(total.region, "energy", total.year): total.energy_tce for total in totals}
    whole = frozenset((total.region, total.year) for total in totals if total.is_whole)
    return _Figures(years, {(row["district_code"], row["kind"], row["year"]): row for row in stated}, metered, whole)


def _coal(figures: _Figures, code: str) -> dict[str, Any]:
    (base, now), basis = figures.pair(code, "coal")
    is_comparable = base is not None and now is not None and base > 0 and figures.is_comparable(code, basis)
    return {
        "coal_basis": basis,
        "coal_base_t": plain(base),
        "coal_t": plain(now),
        "coal_reduction_pct": plain(targets.reduction_pct(base, now)) if is_comparable else None,
    }


def _non_fossil(figures: _Figures, code: str, conversion: str) -> dict[str, Any]:
    parts, basis = figures.pair(code, "non_fossil_energy", Decimal(0))
    wholes, whole_basis = figures.pair(code, "energy")
    is_comparable = figures.is_comparable(code, whole_basis)
    base, now = (
        Fraction(part) / Fraction(whole) * 100 if basis == whole_basis and part is not None and whole else None
        for part, whole in zip(parts, wholes, strict=True)
    )
    return {
        "non_fossil_basis": basis if basis == whole_basis else None,
        "conversion": conversion if whole_basis == "measured" else None,
        "non_fossil_base_share_pct": plain(base),
        "non_fossil_share_pct": plain(now),
        "non_fossil_rise_points": None if base is None or now is None or not is_comparable else plain(now - base),
    }


def _reason(figures: _Figures, code: str) -> str | None:
    bases = {basis for kind in ("coal", "energy") for _, basis in [figures.pair(code, kind)]}
    return None if all(figures.is_comparable(code, basis) for basis in bases) else "incomplete_year"


def _target(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "value": plain(row["value"])}

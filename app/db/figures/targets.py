"""Regions against the plan: intensity, what was required by a year, what was reached, the warning level."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, text

from app.db import entered
from app.db.figures.regions import MeasuredYear, energy_of_years
from app.db.scope import Scope
from app.domain import targets, warning
from app.domain.rounding import plain
from app.domain.targets import NoFigure, ProgressMethod, RegionYear
from app.domain.warning import RuleSet
from app.errors import Invalid

CITY_CODE_LEVEL = "municipality"


@dataclass(frozen=True, slots=True)
class Measure:
    """What a target of the plan is measured by: kinds of entered figures, and whether meters can stand in."""

    energy_kind: str
    product_kind: str
    is_measured: bool


MEASURES = {
    "city_energy_intensity": Measure("energy", "gdp", is_measured=True),
    # The monitored units are not the above-scale industry, so their sum does not stand in for its energy.
    "industrial_va_energy_intensity": Measure("industrial_energy", "value_added", is_measured=False),
}


def rule_sets(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return the rule sets of early warning with their citation, by key."""
    rows = connection.execute(
        text(
            "SELECT key, title_zh, title_en, rules, source, edition, confidence, valid_from, valid_to, note"
            " FROM warning_rule_set ORDER BY valid_from NULLS FIRST, key"
        )
    ).mappings()
    return {row["key"]: dict(row) for row in rows}


def progress(
    connection: Connection,
    scope: Scope,
    *,
    target_key: str,
    year: int,
    conversion: str,
    rule_set_key: str | None = None,
) -> list[dict[str, Any]]:
    """Return every region in scope with its target, the two years compared, and how it stands in `year`."""
    known = rule_sets(connection)
    chosen = _rule_set(known, rule_set_key, year)
    own = _own_targets(connection, scope, target_key, year)
    plan = entered.policy_target(connection, target_key)
    regions = entered.regions(connection, scope)
    bases = {target["base_year"] for target in own.values()} | {plan["base_year"]}
    years = _Years(connection, scope, MEASURES[target_key], sorted({*bases, year}), conversion)
    rows = []
    for code, region in regions.items():
        target = own.get(code) or _of_plan(region, plan)
        base_year = target["base_year"] if target else plan["base_year"]
        base, now = years.of(code, base_year), years.of(code, year)
        basis = years.common_basis(code, base_year, year)
        rows.append(
            {
                **{name: region[name] for name in ("code", "name_zh", "name_en")},
                "target": target,
                "year": year,
                "base": years.shown(code, base_year, base[basis]),
                "now": years.shown(code, year, now[basis]),
                **_standing(base[basis], now[basis], target, year, chosen),
                "rule_set": _citation(known[chosen.key]) if chosen else None,
            }
        )
    return rows


def _citation(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in row if name != "rules"}


def _rule_set(known: Mapping[str, Mapping[str, Any]], key: str | None, year: int) -> RuleSet | None:
    sets = {k: warning.rule_set(k, row["rules"], row["valid_from"], row["valid_to"]) for k, row in known.items()}
    if key is None:
        return warning.in_force(sets.values(), date(year, 12, 31))
    if key not in sets:
        raise Invalid(
            f"there is no rule set {key!r}; known are {', '.join(sets)}",
            detail_zh=f"没有预警规则集 {key}；已有 {'、'.join(sets)}",
            errors=[{"location": ["query", "rule_set"], "message": "unknown rule set"}],
        )
    return sets[key]


def _own_targets(connection: Connection, scope: Scope, target_key: str, year: int) -> dict[str, dict[str, Any]]:
    """Return each region's target whose span holds the year; of several the one that ends first."""
    found: dict[str, dict[str, Any]] = {}
    for row in entered.targets(connection, scope, target_key):
        if row["base_year"] <= year <= row["target_year"]:
            held = found.get(row["district_code"])
            if held is None or row["target_year"] < held["target_year"]:
                found[row["district_code"]] = row
    return {
        code: {
            **{name: row[name] for name in ("target_key", "base_year", "target_year", "source", "confidence")},
            "revision": row["revision"],
            "reduction_pct": plain(row["reduction_pct"]),
        }
        for code, row in found.items()
    }


def _of_plan(region: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """The plan's own figure is the city's; no district has one in the text."""
    if region["level"] != CITY_CODE_LEVEL:
        return None
    return {
        **{name: plan[name] for name in ("target_key", "base_year", "target_year", "source", "confidence")},
        "revision": None,
        "reduction_pct": plain(plan["value"]),
    }


class _Years:
    """Entered and measured figures of the years in question, by region."""

    def __init__(
        self, connection: Connection, scope: Scope, measure: Measure, years: list[int], conversion: str
    ) -> None:
        self._measure = measure
        self._conversion = conversion
        self._entered = {
            (row["district_code"], row["year"], row["kind"]): row for row in entered.regional_figures(connection, years)
        }
        measured = energy_of_years(connection, scope, years, conversion) if measure.is_measured else []
        self._measured = {(row.region, row.year): row for row in measured}

    def of(self, code: str, year: int) -> dict[str, RegionYear]:
        """Return a region's year on both bases: entered statistics, and the meters of the monitored units."""
        product = self._entered.get((code, year, self._measure.product_kind))
        shared = {
            "new_renewables_tce": self._value(code, year, "new_renewable_energy"),
            "gdp": product["value"] if product else None,
            "price_base_year": product["price_base_year"] if product else None,
        }
        energy, feedstock = (
            self._value(code, year, self._measure.energy_kind),
            self._value(code, year, "feedstock_energy"),
        )
        found = self._measured.get((code, year))
        return {
            "entered": RegionYear(energy, "entered", feedstock, **shared),
            "measured": RegionYear(
                found.energy_tce if found and found.is_whole else None,
                "measured",
                found.feedstock_tce if found else None,
                **shared,
                missing=_why_missing(found),
            ),
        }

    def _value(self, code: str, year: int, kind: str) -> Any:
        row = self._entered.get((code, year, kind))
        return row["value"] if row else None

    def common_basis(self, code: str, base_year: int, year: int) -> str:
        """Entered statistics where the region has them of either year, else the meters: never one of each."""
        kinds = [(code, one, self._measure.energy_kind) for one in (base_year, year)]
        is_entered = any(key in self._entered for key in kinds) or not self._measure.is_measured
        return "entered" if is_entered else "measured"

    def shown(self, code: str, year: int, figures: RegionYear) -> dict[str, Any]:
        """Return a region's year as a reader sees it, with the sources of what was entered."""
        kinds = ["new_renewable_energy", self._measure.product_kind]
        kinds += [self._measure.energy_kind, "feedstock_energy"] if figures.basis == "entered" else []
        found = self._measured.get((code, year)) if figures.basis == "measured" else None
        intensity = figures.intensity
        share = Fraction(found.windows_received, found.windows_expected) if found and found.windows_expected else None
        return {
            "year": year,
            "basis": figures.basis,
            "conversion": self._conversion if figures.basis == "measured" else None,
            "energy_tce": plain(figures.energy_tce),
            "feedstock_tce": plain(figures.feedstock_tce),
            "new_renewables_tce": plain(figures.new_renewables_tce),
            "counted_tce": plain(figures.counted_tce),
            "product_10k_yuan": plain(figures.gdp),
            "price_base_year": figures.price_base_year,
            "intensity": None if isinstance(intensity, NoFigure) else plain(intensity),
            "enterprises": found.enterprises if found else None,
            "months": found.months if found else None,
            "measured_share": plain(share, 4),
            "factor_sets": found.factor_sets if found else [],
            "sources": [
                {"kind": kind, "source": row["source"], "revision": row["revision"]}
                for kind in kinds
                if (row := self._entered.get((code, year, kind)))
            ],
        }


def _why_missing(found: MeasuredYear | None) -> NoFigure:
    if found is None:
        return NoFigure.NO_ENERGY
    return NoFigure.NO_FACTOR if found.energy_tce is None else NoFigure.INCOMPLETE_YEAR


def _standing(
    base: RegionYear, now: RegionYear, target: Mapping[str, Any] | None, year: int, rules: RuleSet | None
) -> dict[str, Any]:
    """Return how a region stands in a year; where something is missing the reason says what."""
    reached = targets.intensity_reduction_pct(base, now)
    figure = None if isinstance(reached, NoFigure) else reached
    answer: dict[str, Any] = {
        "reduction_pct": plain(figure),
        "reason": reached.value if isinstance(reached, NoFigure) else None,
        "yearly_rate_pct": None, "required_pct": None, "gap_pct": None, "warning_level": None, "progress": [],
    }  # fmt: skip
    if target is None:
        return answer | {"reason": answer["reason"] or "no_target"}
    aim, span = Fraction(target["reduction_pct"]), target["target_year"] - target["base_year"]
    passed = year - target["base_year"]
    if not 0 <= passed <= span:
        return answer | {"reason": "outside_plan"}
    required = targets.required_cumulative_pct(aim, passed, span)
    answer |= {"yearly_rate_pct": plain(targets.yearly_rate_pct(aim, span)), "required_pct": plain(required)}
    if figure is None or passed == 0:
        return answer
    return answer | {
        "gap_pct": plain(warning.gap_pct(required, figure)),
        "warning_level": warning.level(rules, required, figure) if rules else None,
        "progress": [
            {
                "method": method.value,
                "done_pct": plain(found.done_pct),
                "time_pct": plain(found.time_pct),
                "of_schedule_pct": plain(found.of_schedule_pct),
            }
            for method in ProgressMethod
            for found in [targets.progress(method, figure, aim, passed, span)]
        ],
    }

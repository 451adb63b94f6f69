"""Enterprises against their energy budgets: used against time over, and where the year is heading."""

from datetime import date
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, text

from app.db import entered
from app.db.figures.regions import EnergyOfDays, energy_of_days
from app.db.scope import Scope
from app.domain import budget
from app.domain.benchmark import COMPLETENESS_MIN
from app.domain.budget import ProjectionMethod, Use
from app.domain.rounding import plain


def use_of_budgets(
    connection: Connection, scope: Scope, *, year: int, through: date, enterprise_id: int | None = None
) -> list[dict[str, Any]]:
    """Return each budget of a year in scope with the energy used through a day, that day included.

    Feedstock and newly added renewables (an entered figure of the enterprise) do not use up a budget.
    """
    budgets = entered.budgets(connection, scope, year=year, enterprise_id=enterprise_id)
    renewables = _renewables(connection, [row["enterprise_id"] for row in budgets], year)
    rows = []
    for conversion in ("equivalent", "equal"):
        of_conversion = [row for row in budgets if row["conversion"] == conversion]
        ids = [row["enterprise_id"] for row in of_conversion]
        energy = energy_of_days(connection, scope, ids, date(year, 1, 1), through, conversion)
        rows += [
            {
                **row,
                "budget_tce": plain(row["budget_tce"]),
                "through": through,
                **_standing(
                    energy.get(row["enterprise_id"]), renewables.get(row["enterprise_id"]), row["budget_tce"], through
                ),
            }
            for row in of_conversion
        ]
    return sorted(rows, key=lambda row: (row["ahead_points"] is None, -Fraction(row["ahead_points"] or 0), row["uscc"]))


def _renewables(connection: Connection, enterprise_ids: list[int], year: int) -> dict[int, Any]:
    rows = connection.execute(
        text(
            "SELECT enterprise_id, value FROM entered_figure_current WHERE kind = 'new_renewable_energy'"
            " AND year = :year AND enterprise_id = ANY(:ids)"
        ),
        {"year": year, "ids": enterprise_ids},
    )
    return {row.enterprise_id: row.value for row in rows}


def _standing(energy: EnergyOfDays | None, renewables: Any, budget_tce: Any, through: date) -> dict[str, Any]:
    days_over, days_in_year = budget.day_of_year(through), budget.days_in_year(through.year)
    answer: dict[str, Any] = {
        "days_over": days_over, "days_in_year": days_in_year, "days_with_energy": energy.days if energy else 0,
        "measured_share": _share(energy), "new_renewables_tce": plain(renewables),
        "feedstock_tce": plain(energy.feedstock_tce) if energy else None,
        "factor_sets": energy.factor_sets if energy else [],
        "time_pct": plain(Fraction(days_over, days_in_year) * 100),
    }  # fmt: skip
    missing = _why_missing(energy)
    if energy is None or energy.energy_tce is None:
        return answer | {
            "used_tce": None, "used_pct": None, "ahead_points": None, "projected_tce": None, "projected_pct": None,
            "projection_method": ProjectionMethod.LINEAR_BY_DAYS, "is_provisional": True, "reason": missing,
        }  # fmt: skip
    used = Fraction(energy.energy_tce) - Fraction(energy.feedstock_tce) - Fraction(renewables or 0)
    use = Use(used, budget_tce, days_over, days_in_year)
    projected = use.projected_tce()
    if missing is None and energy.days < COMPLETENESS_MIN * days_over:
        missing = "missing_days"
    return answer | {
        "used_tce": plain(used),
        "used_pct": plain(use.used_pct),
        "ahead_points": plain(use.ahead_points),
        "projected_tce": plain(projected),
        "projected_pct": None if projected is None else plain(projected / Fraction(budget_tce) * 100),
        "projection_method": ProjectionMethod.LINEAR_BY_DAYS,
        "is_provisional": missing is not None,
        "reason": missing,
    }


def _share(energy: EnergyOfDays | None) -> str | None:
    if energy is None or not energy.windows_expected:
        return None
    return plain(Fraction(energy.windows_received, energy.windows_expected), 4)


def _why_missing(energy: EnergyOfDays | None) -> str | None:
    if energy is None:
        return "no_readings"
    if energy.energy_tce is None:
        return "no_factor"
    return "incomplete_readings" if energy.windows_received < COMPLETENESS_MIN * energy.windows_expected else None

"""The figures of the simulated city by hand: from the law of its meters and the official CSV files, in plain Python.

Nothing of the service is imported here. Keys are the city's own codes. Stored figures have twelve decimals; what the
service makes of stored figures (a distance) is made of the rounded ones here too, and nothing else is rounded.
"""

import csv
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

from simulators.plan import LinePlan
from simulators.truth import DAY_S, City, day_start_s, number_of

FIRST, END = date(2026, 9, 29), date(2026, 10, 2)
SEPTEMBER, OCTOBER = date(2026, 9, 1), date(2026, 10, 1)
FROM_S, TO_S = day_start_s(number_of(FIRST)), day_start_s(number_of(END))
EDGE_S = day_start_s(number_of(OCTOBER))
Span = tuple[int, int]
SPANS: dict[date, Span] = {SEPTEMBER: (FROM_S, EDGE_S), OCTOBER: (EDGE_S, TO_S)}
REFERENCE = Path(__file__).resolve().parents[2] / "app" / "reference"
SIGNS = {"in": 1, "feedstock": 1, "out": -1, "recovered": -1}
ELECTRICITY_KGCE = Fraction("0.1229")
SHARE_TARGET_PCT = 30
LineKey = tuple[str, str]  # uscc, code of the line


def table(name: str) -> list[dict[str, str]]:
    """Return the rows of an official table."""
    with (REFERENCE / name).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def half_even(value: Fraction, places: int = 12) -> Decimal:
    """Round a fraction once, half to even, and write it as a decimal."""
    with localcontext() as context:
        context.prec = 100
        return (Decimal(round(value * 10**places)) / 10**places).normalize()


@dataclass(frozen=True)
class LineFigure:
    """What a line comes to over some months."""

    line: LinePlan
    energy: Fraction  # kgce, or the physical unit
    output: Decimal
    actual: Fraction
    status: str
    ratio: Decimal | None
    position: Decimal | None

    def shown(self) -> tuple[Any, ...]:
        return half_even(self.actual), self.output, self.status, self.ratio, self.position


@dataclass
class Hand:
    """The second computation."""

    city: City
    kgce: dict[str, Decimal] = field(default_factory=dict)  # carrier -> kgce per canonical unit
    co2: dict[str, Fraction] = field(default_factory=dict)  # carrier -> kgCO2 per canonical unit

    def __post_init__(self) -> None:
        self.variants = {row["variant_key"]: row for row in table("catalogue_variants.csv")}
        self.levels = {row["variant_key"]: row for row in table("efficiency_levels.csv")}
        factors = {row["factor_key"]: row["kgce_per_unit"] for row in table("standard_coal_factors.csv")}
        emissions = {
            (row["factor_type"], row["factor_key"], row["year"]): row
            for row in table("emission_factors.csv")
            if row["factor_set"] in ("guideline_default", "MEE/NBS average")
        }
        for carrier in table("carriers.csv"):
            if factors[carrier["equivalent_factor_key"]]:
                self.kgce[carrier["carrier_key"]] = Decimal(factors[carrier["equivalent_factor_key"]])
            fuel = emissions.get((carrier["emission_type"], carrier["emission_key"], ""))
            if fuel and fuel["lhv"] and carrier["emission_type"] == "fuel_combustion":
                per_unit = {"GJ/t": 1000, "GJ/10^4 Nm3": 10_000}[fuel["lhv_unit"]]
                tonnes = (
                    Fraction(fuel["lhv"]) * Fraction(fuel["carbon_content_tc_per_gj"])
                    * Fraction(fuel["oxidation_rate_pct"]) / 100 * Fraction(44, 12)
                )  # fmt: skip
                # The service cuts a computed coefficient to twelve decimals once; so does this one.
                self.co2[carrier["carrier_key"]] = Fraction(half_even(tonnes * 1000 / per_unit))
        # The latest published factor of the grid, for a data year without one.
        self.co2["electricity"] = Fraction(emissions["grid_electricity", "CN-120000", "2023"]["factor_value"])

    def co2_kg(self, carrier: str, flow: str, quantity: Decimal) -> Decimal | None:
        """What is burnt or drawn from the grid emits; feedstock is not burnt, and media have no factor."""
        if flow == "feedstock" or carrier not in self.co2:
            return None
        return half_even(Fraction(quantity) * self.co2[carrier], 30)

    def usage(self, span: Span) -> dict[tuple[str, str], Decimal]:
        points = [point for enterprise in self.city.plan for point in enterprise.points]
        return {(p.gateway, p.code): self.city.usage_between(p.gateway, p.code, *span) for p in points}

    def energy(self, span: Span) -> dict[tuple[str, str, str, str], Decimal]:
        """Return (uscc, process unit, carrier, flow) -> quantity of the points inside the boundary."""
        used = self.usage(span)
        found: dict[tuple[str, str, str, str], Decimal] = defaultdict(Decimal)
        for enterprise in self.city.plan:
            for point in enterprise.points:
                if point.in_boundary:
                    key = (enterprise.uscc, point.process_unit, point.carrier, point.flow)
                    found[key] += used[point.gateway, point.code]
        return found

    def totals(self, span: Span) -> dict[str, tuple[Decimal, Decimal]]:
        """Return by enterprise its comprehensive energy (kgce) and CO2 (kg): added when taken in, less when given."""
        found: dict[str, tuple[Decimal, Decimal]] = {}
        with localcontext() as context:
            context.prec = 100
            for (uscc, _, carrier, flow), quantity in self.energy(span).items():
                kgce, co2 = found.get(uscc, (Decimal(0), Decimal(0)))
                emitted = self.co2_kg(carrier, flow, quantity) or Decimal(0)
                found[uscc] = kgce + SIGNS[flow] * quantity * self.kgce[carrier], co2 + SIGNS[flow] * emitted
        return found

    def lines(self, *spans: Span) -> dict[LineKey, LineFigure]:
        """Return the figures of all lines over one or more months: sums of energy and output, judged once."""
        below = {
            (enterprise.uscc, unit["code"]): unit.get("parent")
            for enterprise in self.city.plan
            for unit in enterprise.process_units
        }
        energies = [self.energy(span) for span in spans]
        # A business day starts at 16:00 UTC of the day before.
        days = [day for span in spans for day in range(span[0] // DAY_S + 1, span[1] // DAY_S + 1)]
        found = {}
        for line in self.city.lines:
            total = sum((self._of_line(line, energy, below) for energy in energies), Fraction(0))
            output = sum((self.city.output_of(line, day) for day in days), Decimal(0))
            base = Fraction(self.variants[line.variant_key]["base_per_indicator_unit"])
            actual = total / base / Fraction(output)
            judged = judge(actual, self.levels.get(line.variant_key))
            found[line.uscc, line.code] = LineFigure(line, total, output, actual, *judged)
        return found

    def _of_line(self, line: LinePlan, energy: dict[tuple[str, str, str, str], Decimal], below: Any) -> Fraction:
        variant, total = self.variants[line.variant_key], Fraction(0)
        for (uscc, unit, carrier, flow), quantity in energy.items():
            is_below = unit == line.process_unit or below[uscc, unit] == line.process_unit
            is_counted = not variant["carriers"] or carrier in variant["carriers"].split("|")
            if uscc != line.uscc or not is_below or not is_counted:
                continue
            if flow == "feedstock" and variant["feedstock"] == "out":
                continue
            weight = Fraction(1) if variant["conversion"] == "physical" else Fraction(self.kgce[carrier])
            total += SIGNS[flow] * Fraction(quantity) * weight
        return total

    def is_whole(self, line: LinePlan) -> bool:
        """Whether a figure of these months is final: a yearly indicator wants twelve of them."""
        return self.variants[line.variant_key]["judged_on"] != "year"

    def benchmark(self, line: LinePlan) -> Fraction | None:
        level = self.levels.get(line.variant_key)
        return Fraction(level["benchmark"]) if level and level["benchmark"] else None

    def ranked(self, domain_no: str, *spans: Span) -> list[tuple[int, LineKey, Decimal]]:
        """Return (rank, line, distance to the benchmark in tce) of a domain, the best position first."""
        counted = [
            figure
            for figure in self.lines(*spans).values()
            if self.variants[figure.line.variant_key]["domain_no"] == domain_no
            and self.is_whole(figure.line)
            and figure.position is not None
        ]
        order = sorted(counted, key=lambda figure: -(figure.position or 0))
        places = [1 + sum((o.position or 0) > (figure.position or 0) for o in counted) for figure in order]
        return [
            (place, (figure.line.uscc, figure.line.code), self._distance_tce(figure))
            for place, figure in zip(places, order, strict=True)
        ]

    def _distance_tce(self, figure: LineFigure) -> Decimal:
        variant = self.variants[figure.line.variant_key]
        level = self.benchmark(figure.line) or Fraction(0)
        missing = max(Fraction(half_even(figure.actual)) - level, Fraction(0))
        kgce = missing * Fraction(figure.output) * Fraction(variant["base_per_indicator_unit"])
        return half_even(kgce * (ELECTRICITY_KGCE if variant["conversion"] == "physical" else 1) / 1000)

    def capacity_shares(self, *spans: Span) -> dict[tuple[str, str], tuple[Any, ...]]:
        """Return by domain and unit: capacity, that at the benchmark, the share in percent, whether it is over 30."""
        found: dict[tuple[str, str], list[Decimal]] = {}
        for figure in self.lines(*spans).values():
            key = self.variants[figure.line.variant_key]["domain_no"], figure.line.capacity_unit
            sums = found.setdefault(key, [Decimal(0), Decimal(0)])
            sums[0] += figure.line.capacity
            if figure.status == "at_benchmark" and self.is_whole(figure.line):
                sums[1] += figure.line.capacity
        return {
            key: (
                whole,
                reached,
                half_even(Fraction(reached) / Fraction(whole) * 100),
                reached * 100 > whole * SHARE_TARGET_PCT,
            )
            for key, (whole, reached) in found.items()
        }

    def index(self, uscc: str, *spans: Span) -> Decimal | None:
        """Return an enterprise's actual energy over its output at the benchmark, both in kgce."""
        actual = allowed = Fraction(0)
        for (owner, _), figure in self.lines(*spans).items():
            variant, level = self.variants[figure.line.variant_key], self.benchmark(figure.line)
            if owner == uscc and level is not None and variant["conversion"] != "physical":
                actual += Fraction(half_even(figure.energy, 60))
                allowed += Fraction(figure.output) * level * Fraction(variant["base_per_indicator_unit"])
        return half_even(actual / allowed) if actual > 0 and allowed > 0 else None


def judge(actual: Fraction, level: dict[str, str] | None) -> tuple[Any, ...]:
    """Return status, ratio and position as rules section 4 defines them, lower being better."""
    if level is None or not level["benchmark"]:
        return "unknown", None, None
    low, high = Fraction(level["benchmark"]), Fraction(level["baseline"])
    status = "at_benchmark" if actual <= low else "between" if actual <= high else "below_baseline"
    if actual > 0 and low > 0:
        ratio: Fraction | None = actual / low
    else:
        ratio = low / actual if actual < 0 and low < 0 else None
    return status, None if ratio is None else half_even(ratio), half_even((high - actual) / (high - low))

"""Figures of regions and enterprises, targets of regions, energy budgets: entered with a source, kept as revisions."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from sqlalchemy import Connection

from app.db import entered
from app.db.scope import Scope
from app.domain import budget
from app.domain.accounting import to_decimal
from app.domain.calendar import business_day
from app.intake.outputs import MONEY_UNIT
from app.intake.registry_file import Breach, CreditCode, Entry, Path, refusal
from app.intake.rows import Report, Row, bring_in_revisions, repeated

# What may be entered and the one unit it is entered in.
UNITS = {
    "gdp": MONEY_UNIT,
    "value_added": MONEY_UNIT,
    "energy": "tce",
    "industrial_energy": "tce",
    "feedstock_energy": "tce",
    "new_renewable_energy": "tce",
    "non_fossil_energy": "tce",
    "coal": "t",
}
FigureKind = Literal[
    "gdp", "value_added", "energy", "industrial_energy", "feedstock_energy", "new_renewable_energy",
    "non_fossil_energy", "coal",
]  # fmt: skip
TargetKey = Literal["city_energy_intensity", "industrial_va_energy_intensity"]
Year = Annotated[int, Field(ge=2000, le=2100, examples=[2025])]
Source = Annotated[
    str, Field(min_length=1, max_length=500, description="document it is taken from", examples=["统计公报 2025"])
]
Amount = Annotated[Decimal, Field(ge=0, max_digits=30)]
DistrictCode = Annotated[str, Field(pattern=r"^\d{6}$", examples=["120110"])]


class FigureEntry(Entry):
    """One figure of a region (`district_code`; 120000 is the city) or of an enterprise (`uscc`) in a year."""

    district_code: DistrictCode | None = None
    uscc: CreditCode | None = None
    kind: FigureKind = Field(examples=["gdp"])
    year: Year
    value: Amount = Field(examples=["9104200"])
    unit: Annotated[str, Field(max_length=40, description="10^4 yuan, tce or t, as the kind says")] = Field(
        examples=["10^4 yuan"]
    )
    price_base_year: Year | None = Field(
        default=None, description="whose constant prices, for gdp and value_added", examples=[2020]
    )
    source: Source

    @model_validator(mode="after")
    def _whole(self) -> "FigureEntry":
        if (self.district_code is None) == (self.uscc is None):
            raise ValueError("name one whose figure it is: district_code or uscc")
        if self.unit != UNITS[self.kind]:
            raise ValueError(f"{self.kind} is entered in {UNITS[self.kind]}, not {self.unit!r}")
        if (self.price_base_year is None) == (UNITS[self.kind] == MONEY_UNIT):
            raise ValueError("price_base_year goes with gdp and value_added, and only with them")
        return self


class TargetEntry(Entry):
    """A region's own target under a target of the plan."""

    district_code: DistrictCode
    target_key: TargetKey = Field(default="city_energy_intensity", description="the target of the plan it belongs to")
    base_year: Year = Field(examples=[2020])
    target_year: Year = Field(examples=[2025])
    reduction_pct: Annotated[Decimal, Field(gt=0, lt=100, max_digits=20)] = Field(examples=["14.0"])
    source: Source
    confidence: Literal["confirmed", "recalled"] = "confirmed"

    @model_validator(mode="after")
    def _in_order(self) -> "TargetEntry":
        if self.target_year <= self.base_year:
            raise ValueError(f"target_year {self.target_year} is not after base_year {self.base_year}")
        return self


def _split(value: Any) -> Any:
    """Read `26000|24000` of a CSV cell as a list."""
    return value.split("|") if isinstance(value, str) else value


Amounts = Annotated[list[Annotated[Decimal, Field(ge=0, max_digits=30)]], BeforeValidator(_split)]


class BudgetEntry(Entry):
    """An enterprise's energy budget of a year: the figure itself, or what its method makes it of, or both.

    baseline: `outputs` (t) with `unit_kgce` (kgce/t), as many of each; historical: `past_tce` and `factor`.
    """

    uscc: CreditCode
    year: Year
    method: Literal["baseline", "historical"]
    conversion: Literal["equivalent", "equal"] = Field(
        default="equivalent", description="in which standard coal it is set; its use is measured likewise"
    )
    budget_tce: Annotated[Decimal, Field(gt=0, max_digits=30)] | None = Field(
        default=None, description="tce; with the method's figures it must be what they make", examples=["24500"]
    )
    outputs: Amounts = Field(default=[], description="of each product, t", examples=[["985000"]])
    unit_kgce: Amounts = Field(default=[], description="of each product, kgce/t", examples=[["102"]])
    past_tce: Amounts = Field(default=[], description="of past years, tce", examples=[["26000", "24000"]])
    factor: Annotated[Decimal, Field(gt=0, max_digits=20)] | None = Field(
        default=None, description="times the mean of `past_tce`", examples=["0.98"]
    )
    source: Source

    @model_validator(mode="after")
    def _whole(self) -> "BudgetEntry":
        if len(self.outputs) != len(self.unit_kgce):
            raise ValueError("outputs and unit_kgce go together, one unit energy for each output")
        others = (self.past_tce or self.factor) if self.method == "baseline" else self.outputs
        if others:
            raise ValueError(f"the {self.method} method takes {_FED[self.method]}")
        made = self.made_tce
        if made is None and self.budget_tce is None:
            raise ValueError(f"give budget_tce, or {_FED[self.method]}")
        if made is not None and self.budget_tce is not None and made != self.budget_tce:
            raise ValueError(f"budget_tce {self.budget_tce} is not what the method makes of the rest: {made:f}")
        if made is not None and made <= 0:
            raise ValueError("the method makes a budget of nothing")
        return self

    @property
    def made_tce(self) -> Decimal | None:
        """What the method makes of what it was fed with, to six decimals of a tonne; None when fed with nothing."""
        if self.outputs:
            made = budget.baseline_budget_tce(list(zip(self.outputs, self.unit_kgce, strict=True)))
        elif self.past_tce:
            made = budget.historical_budget_tce(self.past_tce, self.factor or 1)
        else:
            return None
        return to_decimal(made, 6)

    @property
    def basis(self) -> dict[str, Any]:
        """What the method was fed with, numbers as strings."""
        fed = self.model_dump(mode="json", include={"outputs", "unit_kgce", "past_tce", "factor"})
        return {name: value for name, value in fed.items() if value}


_FED = {"baseline": "outputs and unit_kgce", "historical": "past_tce and, if wanted, factor"}


def report_figures(
    connection: Connection, scope: Scope, entries: Sequence[FigureEntry], *, actor: str, now: datetime,
    places: Mapping[Path, str] | None = None, is_dry_run: bool = False,
) -> Report:  # fmt: skip
    """Enter figures; any breach raises Invalid with all of them and nothing is written."""
    known = _Known(connection, scope, [entry.uscc for entry in entries if entry.uscc])
    rows = [
        {
            **entry.model_dump(include={"district_code", "kind", "year", "value", "unit", "price_base_year", "source"}),
            "enterprise_id": known.enterprises.get(entry.uscc or ""),
        }
        for entry in entries
    ]
    breaches = [b for number, entry in enumerate(entries) for b in known.breaches("figures", number, entry)]
    breaches += _years_ahead("figures", [entry.year for entry in entries], business_day(now).year)
    breaches += repeated("figures", [(e.district_code, e.uscc, e.kind, e.year) for e in entries])
    _refuse(breaches, places)
    names = {row["enterprise_id"]: entry.uscc for row, entry in zip(rows, entries, strict=True)}
    return bring_in_revisions(
        connection, "entered_figure", rows, actor=actor, is_dry_run=is_dry_run,
        named=lambda row: (
            f"{row['kind']} {row['year']} of {row['district_code'] or names[row['enterprise_id']]}:"
            f" {row['value']} {row['unit']}"
        ),
    )  # fmt: skip


def report_targets(
    connection: Connection, scope: Scope, entries: Sequence[TargetEntry], *, actor: str, now: datetime,
    places: Mapping[Path, str] | None = None, is_dry_run: bool = False,
) -> Report:  # fmt: skip
    """Enter targets of regions; any breach raises Invalid with all of them and nothing is written."""
    known = _Known(connection, scope, [])
    rows: list[Row] = [entry.model_dump() for entry in entries]
    breaches = [b for number, entry in enumerate(entries) for b in known.breaches("targets", number, entry)]
    breaches += repeated("targets", [entered.key_of("intensity_target", row) for row in rows])
    _refuse(breaches, places)
    return bring_in_revisions(
        connection, "intensity_target", rows, actor=actor, is_dry_run=is_dry_run,
        named=lambda row: (
            f"{row['target_key']} of {row['district_code']} {row['base_year']}-{row['target_year']}:"
            f" {row['reduction_pct']} %"
        ),
    )  # fmt: skip


def report_budgets(
    connection: Connection, scope: Scope, entries: Sequence[BudgetEntry], *, actor: str, now: datetime,
    places: Mapping[Path, str] | None = None, is_dry_run: bool = False,
) -> Report:  # fmt: skip
    """Enter energy budgets; any breach raises Invalid with all of them and nothing is written."""
    known = _Known(connection, scope, [entry.uscc for entry in entries])
    breaches = [b for number, entry in enumerate(entries) for b in known.breaches("budgets", number, entry)]
    breaches += repeated("budgets", [(entry.uscc, entry.year) for entry in entries])
    _refuse(breaches, places)
    rows = [
        {
            **entry.model_dump(include={"year", "method", "conversion", "source"}),
            "enterprise_id": known.enterprises[entry.uscc],
            "budget_tce": entry.budget_tce or entry.made_tce,
            "basis": entry.basis,
        }
        for entry in entries
    ]
    names = {row["enterprise_id"]: entry.uscc for row, entry in zip(rows, entries, strict=True)}
    return bring_in_revisions(
        connection, "energy_budget", rows, actor=actor, is_dry_run=is_dry_run,
        named=lambda row: f"budget {row['year']} of {names[row['enterprise_id']]}: {row['budget_tce']} tce",
    )  # fmt: skip


class _Known:
    """The enterprises and regions that entries may name, under the lock of one report at a time."""

    def __init__(self, connection: Connection, scope: Scope, usccs: Sequence[str]) -> None:
        entered.lock(connection)
        self.enterprises = entered.enterprise_ids(connection, scope, sorted(set(usccs)))
        self.regions = entered.regions(connection, scope)

    def breaches(self, list_name: str, number: int, entry: FigureEntry | TargetEntry | BudgetEntry) -> Iterator[Breach]:
        """Yield a breach where an entry names what is not there or not the caller's."""
        uscc, district_code = getattr(entry, "uscc", None), getattr(entry, "district_code", None)
        if uscc is not None and uscc not in self.enterprises:
            yield (list_name, number, "uscc"), f"there is no enterprise {uscc} that you may report for"
        if district_code is not None and district_code not in self.regions:
            yield (list_name, number, "district_code"), f"there is no region {district_code} that you may report for"


def _years_ahead(list_name: str, years: Sequence[int], this_year: int) -> Iterator[Breach]:
    for number, year in enumerate(years):
        if year > this_year:
            yield (list_name, number, "year"), f"{year} has not begun"


def _refuse(breaches: list[Breach], places: Mapping[Path, str] | None) -> None:
    if breaches:
        raise refusal(breaches, places)

"""The shapes of explanations of sums: energy of a process unit, the ratio of a line, totals."""

from datetime import date

from pydantic import Field

from app.api.explanations import Assignment, Explanation, PointEvent, Revision
from app.api.shapes import Answer, Exact, Instant


class EnergyRow(Answer):
    """Energy of one carrier and flow."""

    quantity: Exact
    equivalent_kgce: Exact | None
    equal_kgce: Exact | None
    co2_kg: Exact | None
    factor_set: str
    windows_received: int
    windows_estimated: int


class PointPart(Answer):
    """What one point gave."""

    point_id: int
    gateway_code: str
    code: str
    quantity: Exact
    assignments: list[Assignment]
    events: list[PointEvent]
    explain: str


class Coefficients(Answer):
    """What multiplied the quantity, per canonical unit."""

    equivalent: Exact | None
    equal: Exact | None
    factor_set: str
    co2_kg: Exact | None
    emission_set: str | None
    is_co2_provisional: bool
    has_recalled_factor: bool


class FactorRow(Answer):
    """A row of a factor table with its citation."""

    factor_key: str
    factor_set: str
    lhv: Exact | None = Field(description="lower heating value, in lhv_unit")
    lhv_unit: str | None
    edition: str | None
    confidence: str
    source: str


class CoalFactorRow(FactorRow):
    """A row of the standard coal table."""

    kgce_per_unit: Exact | None
    unit: str
    basis: str
    valid_from: date | None
    valid_to: date | None


class EmissionFactorRow(FactorRow):
    """A row of the CO2 table."""

    year: int | None
    factor_value: Exact | None
    factor_unit: str
    carbon_content_tc_per_gj: Exact | None
    oxidation_rate_pct: Exact | None


class MeasuredLot(Answer):
    """A lot whose heating value went before the annex."""

    process_unit_id: int
    carrier_key: str
    month: date
    lot: str
    revision: int
    mass: Exact
    lhv_kj: Exact
    sampled_on: date | None
    evidence: str
    reason: str
    reported_by: str
    reported_at: Instant


class ConversionStretch(Answer):
    """A stretch with one set of coefficients, and the rows behind them."""

    from_at: Instant
    to_at: Instant
    coefficients: Coefficients
    equivalent_factor: CoalFactorRow | None
    equal_factor: CoalFactorRow | None
    emission_factor: EmissionFactorRow | None
    measured_lots: list[MeasuredLot]


class Owner(Explanation):
    """Of whom a figure is."""

    id: int
    code: str
    name_zh: str
    name_en: str
    enterprise_id: int
    uscc: str
    enterprise_name_zh: str
    enterprise_name_en: str


class EnergyExplanation(Owner):
    """Energy of a process unit, carrier and flow."""

    carrier_key: str
    flow: str
    stored: EnergyRow | None
    derived: EnergyRow | None
    points: list[PointPart]
    conversions: list[ConversionStretch]
    revisions: list[Revision]


class RatioRow(Answer):
    """A ratio with everything that qualifies it."""

    actual: Exact | None
    energy: Exact | None
    output: Exact | None
    benchmark: Exact | None = Field(description="as corrected by the line's conditions")
    baseline: Exact | None
    status: str
    ratio: Exact | None
    position: Exact | None
    reason: str | None
    is_provisional: bool
    factor_set: str | None
    windows_expected: int
    windows_received: int
    windows_estimated: int


class IndicatorRow(Answer):
    """How a catalogue variant makes its figure."""

    variant_key: str
    product_zh: str
    product_en: str
    indicator_zh: str
    unit: str
    direction: str
    carriers: list[str] | None
    conversion: str
    feedstock: str
    base_per_indicator_unit: Exact
    output_kind: str
    output_unit: str
    confidence: str
    source: str
    note: str


class LevelRow(Answer):
    """The level that judged it."""

    id: int
    variant_key: str
    benchmark: Exact | None
    baseline: Exact | None
    edition: str | None
    valid_from: date | None
    valid_to: date | None
    confidence: str
    source: str
    referenced_standard: str


class OutputRow(Answer):
    """A reported output; the highest revision counts, and a month's before its days'."""

    grain: str
    period: date
    revision: int
    value: Exact
    unit: str
    reported_by: str
    reported_at: Instant
    reason: str


class MeteredOutput(Answer):
    """A day's output as a meter counted it; a reported day or month goes before it."""

    point_id: int
    gateway_code: str
    code: str
    grain: str
    start: date
    quantity: Exact
    unit: str
    windows_expected: int
    windows_received: int
    explain: str


class Condition(Answer):
    """A condition of the line that holds in the month and corrects its levels."""

    input_key: str = Field(examples=["clinker_share"])
    from_month: date
    revision: int
    value: Exact
    evidence: str
    reported_by: str
    reported_at: Instant


class EnergyPart(Answer):
    """A row of energy that the ratio sums."""

    process_unit_id: int
    process_unit: str
    grain: str
    start: date
    carrier_key: str
    flow: str
    sign: int
    quantity: Exact
    unit: str
    equivalent_kgce: Exact | None
    equal_kgce: Exact | None
    factor_set: str
    explain: str


class RatioExplanation(Owner):
    """A ratio of a line and month."""

    stored: RatioRow | None
    derived: RatioRow | None
    computed_at: Instant | None
    indicator: IndicatorRow
    level: LevelRow | None
    conditions: list[Condition]
    outputs: list[OutputRow]
    metered_outputs: list[MeteredOutput]
    parts: list[EnergyPart]
    revisions: list[Revision]


class TotalRow(Answer):
    """A total in standard coal."""

    equivalent_kgce: Exact


class TotalPart(Answer):
    """An enterprise of a district, or a row of an enterprise."""

    enterprise_id: int | None = None
    uscc: str | None = None
    name_zh: str | None = None
    name_en: str | None = None
    process_unit_id: int | None = None
    process_unit: str | None = None
    carrier_key: str | None = None
    flow: str | None = None
    sign: int
    quantity: Exact | None = None
    equivalent_kgce: Exact | None
    factor_set: str | None = None
    explain: str


class TotalExplanation(Explanation):
    """A total as the sum of its parts."""

    stored: TotalRow | None
    derived: TotalRow | None
    parts: list[TotalPart]

"""The shapes of explanations: a figure, the same figure derived again, and what it rests on."""

from datetime import date
from typing import Any

from pydantic import Field

from app.api.shapes import Answer, Exact, Instant

Start = Instant | date


class Explanation(Answer):
    """What every explanation begins with."""

    grain: str = Field(description="hour, day or month", examples=["day"])
    start: Start = Field(description="instant of an hour, the day, or the first day of the month")
    agrees: bool = Field(description="whether the stored figure equals the one derived again")
    differing: list[str] = Field(description="fields of `stored` and `derived` that differ")


class Revision(Answer):
    """A value that a published figure had."""

    revision: int = Field(description="0 is what was published")
    value: dict[str, Any] | None
    cause: str = Field(examples=["reading"])
    recorded_at: Instant
    was_known: bool = Field(description="false: there was no figure before")


class Installation(Answer):
    """A meter that was in place."""

    id: int
    serial: str
    from_at: Instant
    to_at: Instant | None
    multiplier: Exact = Field(examples=["80"])
    digits: int | None
    rated_load: Exact | None
    initial_register: Exact | None
    final_register: Exact | None
    verified_until: date | None


class Assignment(Answer):
    """Where a point counted."""

    from_at: Instant
    to_at: Instant | None
    process_unit_id: int
    process_unit: str = Field(examples=["kiln"])
    flow: str = Field(examples=["in"])
    in_boundary: bool
    expected_interval_s: int


class Finding(Answer):
    """A doubt that reaches into the period."""

    id: int
    reason: str = Field(examples=["backward_step"])
    from_at: Instant
    to_at: Instant
    detail: dict[str, Any]
    closed_at: Instant | None
    closed_by: str | None
    note: str | None


class Step(Answer):
    """An accepted step: a running total in canonical units goes from one value to another."""

    from_at: Instant
    to_at: Instant
    from_total: Exact = Field(description="register times multiplier; 0 for an interval or a gauge")
    to_total: Exact
    quantity_inside: Exact = Field(description="what of it lies in the period")
    is_measured: bool = Field(description="false: longer than 1.5 expected intervals, its split over time is estimated")


class Reading(Answer):
    """One entry of an instant, as it was sent or entered, and the message that brought it."""

    ts: Instant
    value: Exact | None = Field(description="in the point's unit on the wire; null: withdrawn by an edit")
    quality: int = Field(description="0 good, 1 uncertain, 2 bad")
    counts: bool = Field(description="whether this is the entry that counts; of a dispute none does")
    rank: int = Field(description="the gateway's revision, 1,000,000 and more for edits")
    origin: str = Field(description="gateway or edit")
    actor: str | None
    reason: str | None
    evidence: str | None
    recorded_at: Instant | None
    receipt_id: int | None
    gateway_code: str | None = Field(examples=["gw-clinker-01"])
    epoch: str | None
    lane: str | None = Field(examples=["live"])
    seq: int | None
    sent_at: Instant | None
    received_at: Instant | None
    committed_at: Instant | None


class UsageRow(Answer):
    """Usage in canonical units, and its windows."""

    quantity: Exact | None
    windows_expected: int
    windows_received: int
    windows_estimated: int


class UsagePart(Answer):
    """An hour of a day, or a day of a month."""

    grain: str
    start: Start
    quantity: Exact
    explain: str = Field(description="where it is explained itself")


class UsageExplanation(Explanation):
    """Usage of a point, down to the raw readings."""

    point_id: int
    gateway_code: str
    code: str
    name_zh: str
    name_en: str
    signal: str = Field(description="register, interval or gauge")
    wire_unit: str
    canonical_per_unit: Exact
    carrier_key: str | None
    unit: str = Field(description="canonical unit of the quantities")
    enterprise_id: int
    uscc: str
    enterprise_name_zh: str
    enterprise_name_en: str
    stored: UsageRow | None
    derived: UsageRow | None
    installations: list[Installation]
    assignments: list[Assignment]
    steps: list[Step] = Field(description="of an hour or a day; they may begin before and end after it")
    readings: list[Reading] = Field(description="of an hour or a day, from where the first step begins")
    parts: list[UsagePart]
    findings: list[Finding]
    revisions: list[Revision]


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


class EnergyPart(Answer):
    """A row of energy that the ratio sums."""

    process_unit_id: int
    process_unit: str
    grain: str
    start: date
    carrier_key: str
    carrier_name_zh: str
    carrier_name_en: str
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
    outputs: list[OutputRow]
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

"""The shapes of explanations: a figure, the same figure derived again, and what it rests on; usage down to readings."""

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


class PointEvent(Answer):
    """An event that made or altered a meter or an assignment, as it was entered, often long after it happened."""

    id: int
    kind: str = Field(description="replacement, multiplier_change, meter_correction or move", examples=["replacement"])
    at: Instant
    stated: dict[str, Any]
    actor: str
    reason: str
    evidence: str | None
    recorded_at: Instant


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
    events: list[PointEvent]
    steps: list[Step] = Field(description="of an hour or a day; they may begin before and end after it")
    readings: list[Reading] = Field(description="of an hour or a day, from where the first step begins")
    has_more_readings: bool = Field(description="more than 10,000: the rest is told by the parts, hour by hour")
    parts: list[UsagePart]
    findings: list[Finding]
    revisions: list[Revision]

"""What is stated of an event of a meter or a point. The same models check the bodies of the API."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from app.intake.registry_file import Day, Entry, Moment, Positive

Code = Annotated[str, Field(min_length=1, max_length=64)]
Digits = Annotated[int, Field(ge=1, le=14)]
Register = Annotated[Decimal, Field(ge=0, max_digits=20)]


class Event(Entry):
    """What every event states."""

    gateway: Code = Field(examples=["gw-clinker-01"])
    point: Code = Field(examples=["E001"])
    at: Moment = Field(examples=["2026-10-01T10:30:00+08:00"])
    reason: Annotated[str, Field(min_length=1, max_length=500)] = Field(examples=["meter burnt out"])
    evidence: Annotated[str, Field(max_length=500)] | None = Field(default=None, examples=["work order 2026-1013"])


class Replacement(Event):
    """Another meter took over at `at`. What is not stated of the new one is as it was with the old one."""

    kind: Literal["replacement"] = "replacement"
    final_register: Register | None = Field(
        description="what the old meter showed last; null: not known, its energy since the last reading stays empty",
        examples=["88421.6"],
    )
    initial_register: Register | None = Field(
        description="what the new meter showed first; null: not known, it counts from its first reading",
        examples=["0"],
    )
    serial: Annotated[str, Field(min_length=1, max_length=64)] = Field(examples=["S2"])
    multiplier: Positive | None = None
    digits: Digits | None = None
    rated_load: Positive | None = None
    verified_until: Day | None = None


class MultiplierChange(Event):
    """The same meter was read with another multiplier from `at` on, as after an exchange of transformers."""

    kind: Literal["multiplier_change"] = "multiplier_change"
    multiplier: Positive = Field(examples=["120"])
    register_at: Register | None = Field(
        default=None,
        description="what the meter showed then; may be left out where a reading of that very instant counts",
        examples=["88421.6"],
    )
    rated_load: Positive | None = None


class MeterCorrection(Event):
    """The meter in place at `at` was registered wrongly from its first day: all it measured is computed again."""

    kind: Literal["meter_correction"] = "meter_correction"
    serial: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    multiplier: Positive | None = None
    digits: Digits | None = None
    rated_load: Positive | None = None
    initial_register: Register | None = None
    final_register: Register | None = None
    verified_until: Day | None = None


class Move(Event):
    """From `at` on the point counts to another process unit. What is not stated stays as it was."""

    kind: Literal["move"] = "move"
    process_unit: Code = Field(examples=["mill"])
    flow: Literal["in", "out", "recovered", "feedstock"] | None = None
    in_boundary: bool | None = None
    expected_interval_s: Annotated[int, Field(ge=1, le=2_678_400)] | None = None
    parent_point: str | None = None
    checks_point: str | None = None
    line: str | None = Field(default=None, description="where its usage is an output: a code, or kiln/kiln-1")
    output_kind: Literal["production", "output_value", "value_added", "it_electricity"] | None = None


AnyEvent = Annotated[Replacement | MultiplierChange | MeterCorrection | Move, Field(discriminator="kind")]

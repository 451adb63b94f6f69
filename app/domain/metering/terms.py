"""What metering talks about: readings, meters, accepted steps, findings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

# Used where no assignment states the expected interval of a point.
DEFAULT_INTERVAL_S = 900


class Signal(StrEnum):
    """What a value means: a counter's state, the energy of an interval (start-tagged), or a momentary load."""

    REGISTER = "register"
    INTERVAL = "interval"
    GAUGE = "gauge"


class Reason(StrEnum):
    """Why a reading or a step gives no usage, or usage with a doubt. Public: stored in `finding.reason`."""

    BACKWARD_STEP = "backward_step"
    RESET = "reset"
    METER_EXCHANGE_WITHOUT_EVENT = "meter_exchange_without_event"
    IMPLAUSIBLE_JUMP = "implausible_jump"
    UNIT_FLIP = "unit_flip"
    DROPPED_TO_ZERO = "dropped_to_zero"
    JITTER = "jitter"
    ROLLOVER = "rollover"
    DISPUTED = "disputed"
    BAD_QUALITY = "bad_quality"
    UNCERTAIN_QUALITY = "uncertain_quality"
    NO_INSTALLATION = "no_installation"
    OVERLAPPING_INTERVAL = "overlapping_interval"
    NEGATIVE_INTERVAL = "negative_interval"
    NEGATIVE_LOAD = "negative_load"


GOOD, UNCERTAIN, BAD = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Reading:
    """The entry that counts at an instant. `value` in the point's unit; None: disputed, or withdrawn by an edit.

    `is_manual`: a person entered a value that no meter sent (inputType 5); usage that rests on it is estimated.
    """

    at: datetime
    value: Decimal | None
    quality: int = GOOD
    is_disputed: bool = False
    is_manual: bool = False


@dataclass(frozen=True, slots=True)
class Installation:
    """One meter with one multiplier at a point, in [from_at, to_at).

    `digits`: integer digits of the register, it rolls at 10^digits; None: it never rolls. `rated_load`: canonical
    units per hour. `initial_register` is what the meter showed at from_at, `final_register` at to_at.
    """

    from_at: datetime
    to_at: datetime | None = None
    multiplier: Decimal = Decimal(1)
    digits: int | None = None
    rated_load: Decimal | None = None
    initial_register: Decimal | None = None
    final_register: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """A stretch in which readings are expected every `interval_s` seconds (a dated assignment of the point)."""

    from_at: datetime
    to_at: datetime | None = None
    interval_s: int = DEFAULT_INTERVAL_S


@dataclass(frozen=True, slots=True)
class Meter:
    """All that is known of a point but its readings. No services at all: always in service, every 900 s."""

    signal: Signal
    installations: tuple[Installation, ...]
    services: tuple[Service, ...] = ()
    canonical_per_unit: Decimal = Decimal(1)

    def interval_s(self, at: datetime) -> int:
        """Return the expected interval in force at an instant, in seconds."""
        for service in self.services:
            if service.from_at <= at and (service.to_at is None or at < service.to_at):
                return service.interval_s
        return DEFAULT_INTERVAL_S


@dataclass(frozen=True, slots=True)
class Step:
    """Usage from `from_at` to `to_at`, in canonical units: a running total goes from `start` to `end`.

    Between the two it rises linearly (register, interval), or by a linearly changing load (gauge: `start_load` and
    `end_load`, canonical units per hour). `is_measured`: at most 1.5 x the expected interval; else its split over
    the hours is an estimate, its total is exact.
    """

    from_at: datetime
    to_at: datetime
    start: Decimal
    end: Decimal
    is_measured: bool
    start_load: Decimal | None = None
    end_load: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A doubt about a stretch: steps that begin in one hour, or readings of one hour, from the first to the last."""

    reason: Reason
    from_at: datetime
    to_at: datetime
    detail: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Accepted steps in order of time, and findings in order of (from_at, reason)."""

    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]

"""Registers: which readings stand, and which steps between them are energy.

The series is what one meter showed: its readings that count, between its initial and its final register. Two
questions in order. Which readings left the course of the register and came back (drop to zero, spike, flip, jitter)?
They are left out, the total over them is kept by the readings around them. Then, between neighbours that stand: is
the step energy? A step that is not gives a finding and no usage, and the reading after it is the new baseline.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import pairwise

from app.domain.metering import rules
from app.domain.metering.rules import EXACT
from app.domain.metering.terms import Finding, Installation, Meter, Reason, Step

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a meter showed. `is_event`: stated by a dated event, never left out. `is_manual`: see Reading."""

    at: datetime
    value: Decimal
    is_event: bool = False
    is_manual: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A reading that left the course. `held` is the value that counts in its place (jitter), or None."""

    reason: Reason
    held: Decimal | None = None


@dataclass(frozen=True)
class Series:
    """What one meter showed, in order of time, and the questions that two neighbours answer."""

    shown: list[Shown]
    meter: Meter
    installation: Installation

    @cached_property
    def factor(self) -> Decimal:
        """Canonical units per unit of the register."""
        return EXACT.multiply(self.installation.multiplier, self.meter.canonical_per_unit)

    @cached_property
    def modulus(self) -> Decimal | None:
        """Where the register rolls over, from the meter's record, never guessed (section 9, rule 1)."""
        digits = self.installation.digits
        return None if digits is None else Decimal(10) ** digits

    @cached_property
    def still_since(self) -> list[int]:
        """For each reading the first one, at most FROZEN back, since which the register has not moved."""
        starts: list[int] = []
        for i, entry in enumerate(self.shown):
            has_moved = i == 0 or self.shown[i - 1].value != entry.value
            starts.append(i if has_moved else starts[-1])
        return [max(start, i - rules.FROZEN) for i, start in enumerate(starts)]

    def last_digit(self, i: int) -> Decimal:
        """One unit of the last digit around a reading."""
        reach = rules.DIGIT_NEIGHBOURS
        return rules.last_digit([s.value for s in self.shown[max(0, i - reach) : i + reach + 1]])

    def is_within_load(self, i: int, j: int, rise: Decimal) -> bool:
        """Whether the rated load can have collected the rise since the register last moved. True if unrated."""
        rated_load = self.installation.rated_load
        if rated_load is None:
            return True
        seconds = rules.seconds_of(self.shown[j].at - self.shown[self.still_since[i]].at)
        return rules.is_within_load(EXACT.multiply(rise, self.factor), rated_load, seconds)

    def rolled(self, i: int, j: int, start: Decimal, end: Decimal) -> Decimal | None:
        """The rise over a rollover, or None where that is not possible (section 9, rule 2)."""
        modulus = self.modulus
        if modulus is None or not ZERO <= end < start < modulus:
            return None
        rise = end + modulus - start
        if self.installation.rated_load is None:
            return rise if rise * rules.ROLLOVER_SHARE <= modulus else None
        return rise if self.is_within_load(i, j, rise) else None

    def is_possible(self, i: int, j: int) -> bool:
        """Whether the register can have gone from one reading to another later one."""
        start, end = self.shown[i].value, self.shown[j].value
        if end < start:
            return self.rolled(i, j, start, end) is not None
        if self.installation.rated_load is None:
            return not rules.is_unit_flip(start, end)
        return self.is_within_load(i, j, end - start)


def left_out(series: Series) -> dict[int, LeftOut]:
    """Return the readings that left the course of the register and came back, by index.

    An excursion is one to three readings between two that the register can have gone between directly. Short ones
    explain before long ones do.
    """
    broken = [not series.is_possible(i, i + 1) for i in range(len(series.shown) - 1)]
    found: dict[int, LeftOut] = {}
    if not any(broken):
        return found
    for length in range(1, rules.EXCURSION + 1):
        judged: dict[int, LeftOut] = {}
        for before in _starts(broken, length):
            members = range(before + 1, before + length + 1)
            if length > 1 and any(i in found for i in (before, *members, members.stop)):
                continue
            if _is_excursion(series, broken, before, length):
                for i in members:
                    judged.setdefault(i, _explain(series, before, members, i))
        found.update(judged)
    return _without_leaning(found)


def _starts(broken: list[bool], length: int) -> Iterator[int]:
    """Where an excursion may start: only beside a broken pair, at its entry or its return."""
    for i in range(len(broken) - length):
        if broken[i] or broken[i + length]:
            yield i


def _is_excursion(series: Series, broken: list[bool], before: int, length: int) -> bool:
    after = before + length + 1
    members = series.shown[before + 1 : after]
    first, last = series.shown[before].value, series.shown[after].value
    if any(m.is_event for m in members) or not series.is_possible(before, after):
        return False
    if first == last == ZERO:  # a register that shows zero is no witness against one that counts
        return False
    enters, returns = broken[before], broken[after - 1]
    if not enters and members[-1].value - last == series.last_digit(after):
        return False  # the fall of one unit is the later reading's jitter, not this one's spike
    is_one_level = all(m.value == members[0].value for m in members)
    if is_one_level or series.installation.rated_load is None:
        return enters or returns
    return enters and returns


def _explain(series: Series, before: int, members: range, i: int) -> LeftOut:
    first, last = series.shown[before].value, series.shown[members.stop].value
    value = series.shown[i].value
    if all(first - series.shown[m].value == series.last_digit(m) for m in members):
        return LeftOut(Reason.JITTER, held=first)
    if value == ZERO:
        return LeftOut(Reason.DROPPED_TO_ZERO)
    if rules.is_unit_flip(value, first) or rules.is_unit_flip(value, last):
        return LeftOut(Reason.UNIT_FLIP)
    is_small_fall = value > first and last >= value * rules.EXCHANGE_SHARE and series.is_possible(before, i)
    return LeftOut(Reason.BACKWARD_STEP if value < first or is_small_fall else Reason.IMPLAUSIBLE_JUMP)


def _without_leaning(found: dict[int, LeftOut]) -> dict[int, LeftOut]:
    """A jitter holds the value before it; where that one is left out itself, there is nothing to hold."""
    settled = {}
    for i, entry in found.items():
        start = i
        while start in found and found[start].held is not None and start > i - rules.EXCURSION:
            start -= 1
        leans = entry.held is not None and start in found
        settled[i] = LeftOut(entry.reason) if leans else entry
    return settled


def steps_of(series: Series) -> tuple[list[Step], list[Finding], dict[int, LeftOut]]:
    """Return the accepted steps of one meter, the findings about steps, and the readings that were left out."""
    out = left_out(series)
    standing: list[tuple[int, Decimal]] = []
    for i, entry in enumerate(series.shown):
        held = out[i].held if i in out else entry.value
        if held is not None:
            standing.append((i, held))
    steps: list[Step] = []
    findings: list[Finding] = []
    for position, ((i, start), (j, end)) in enumerate(pairwise(standing)):
        if j - i - 1 > rules.BRIDGE:
            continue
        following = standing[position + 2] if position + 2 < len(standing) else None
        rise, reason = _judge(series, (i, start), (j, end), following)
        if rise is not None:
            steps.append(_step(series, i, j, start, rise))
        if reason is not None:
            findings.append(_finding(series, i, j, reason))
    return steps, findings, out


def _judge(
    series: Series,
    before: tuple[int, Decimal],
    after: tuple[int, Decimal],
    following: tuple[int, Decimal] | None,
) -> tuple[Decimal | None, Reason | None]:
    """Return the rise of the register over a step (None: no usage) and the reason for a finding, if any."""
    (i, start), (j, end) = before, after
    if end < start:
        return _judge_fall(series, i, j, start, end)
    rise = EXACT.subtract(end, start)
    if series.installation.rated_load is not None:
        if series.is_within_load(i, j, rise):
            return rise, None
        return None, Reason.UNIT_FLIP if rules.is_unit_flip(start, end) else Reason.IMPLAUSIBLE_JUMP
    if rules.is_unit_flip(start, end):
        return None, Reason.UNIT_FLIP
    if start == ZERO and rise > ZERO and not series.shown[i].is_event:
        is_believed = _is_believed_from_zero(series, i, j, rise, following)
        return (rise, None) if is_believed else (None, Reason.IMPLAUSIBLE_JUMP)
    return rise, None


def _judge_fall(series: Series, i: int, j: int, start: Decimal, end: Decimal) -> tuple[Decimal | None, Reason | None]:
    rise = series.rolled(i, j, start, end)
    if rise is not None:
        return rise, Reason.ROLLOVER
    if start - end == series.last_digit(j) and len(series.shown) - 1 - j < rules.EXCURSION:
        return ZERO, Reason.JITTER  # it may still come back
    if rules.is_unit_flip(start, end):
        return None, Reason.UNIT_FLIP
    if start <= ZERO or end >= start * rules.EXCHANGE_SHARE:
        return None, Reason.BACKWARD_STEP
    return None, Reason.RESET if end < start * rules.RESET_SHARE else Reason.METER_EXCHANGE_WITHOUT_EVENT


def _is_believed_from_zero(
    series: Series, i: int, j: int, rise: Decimal, following: tuple[int, Decimal] | None
) -> bool:
    """Whether a meter without a rated load counted up from zero, rather than having shown zero in error.

    No bound is known, so the next step is the witness: the rise may be a hundred times as fast, no more.
    """
    if rise <= series.last_digit(j) * rules.FROM_ZERO_TIMES:
        return True
    if following is None:
        return False
    next_rise = following[1] - series.shown[j].value
    duration = rules.seconds_of(series.shown[j].at - series.shown[i].at)
    next_duration = rules.seconds_of(series.shown[following[0]].at - series.shown[j].at)
    return EXACT.multiply(rise, next_duration) <= EXACT.multiply(next_rise * rules.FROM_ZERO_TIMES, duration)


def _step(series: Series, i: int, j: int, start: Decimal, rise: Decimal) -> Step:
    from_at, to_at = series.shown[i].at, series.shown[j].at
    longest_s = rules.MEASURED_FACTOR * series.meter.interval_s(from_at)
    return Step(
        from_at,
        to_at,
        EXACT.multiply(start, series.factor),
        EXACT.multiply(EXACT.add(start, rise), series.factor),
        is_measured=rules.seconds_of(to_at - from_at) <= longest_s
        and not (series.shown[i].is_manual or series.shown[j].is_manual),
    )


def _finding(series: Series, i: int, j: int, reason: Reason) -> Finding:
    before, after = series.shown[i], series.shown[j]
    detail = {"from_value": format(before.value, "f"), "to_value": format(after.value, "f")}
    return Finding(reason, before.at, after.at, detail)

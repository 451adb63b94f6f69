"""What readings say against a register that a dated event states: what a meter showed last, or first.

The register of an event is never left out, so one that is typed wrongly bends the readings around it: the step to it is
no energy, or the readings beside it are taken for the error, or all that a register seems to have risen is counted.
Nothing here alters a figure; whoever states a register is told before it counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from app.domain.metering import rules
from app.domain.metering.registers import LeftOut, Series, Shown, steps_of
from app.domain.metering.rules import EXACT
from app.domain.metering.terms import Finding, Reason

# A reading that is left out as one of these is taken for an error because of its neighbours alone.
BENT = {Reason.BACKWARD_STEP, Reason.IMPLAUSIBLE_JUMP}
ALLOWED = {Reason.ROLLOVER, Reason.JITTER}


@dataclass(frozen=True, slots=True)
class Objection:
    """A stated register and the reading beside it (or the meter's other stated register) that speaks against it.

    `is_contradiction`: the meter cannot have shown both, registers do not run backward. Otherwise the register rose
    between the two faster than is believed. `digits`: of the meter, which say where it may roll over.
    """

    is_initial: bool
    register: Shown
    beside: Shown
    is_contradiction: bool
    digits: int | None


def objections(series: Series) -> Iterator[Objection]:
    """Yield what stands against the registers that a meter's events state: the final one, then the initial one."""
    if len(series.shown) < 2:
        return
    _, doubts, out = steps_of(series)
    standing = [i for i in range(len(series.shown)) if i not in out or out[i].held is not None]
    for order, is_initial in ((standing[::-1], False), (standing, True)):
        if series.shown[order[0]].is_event:
            found = _against(series, doubts, out, order)
            if found is not None:
                i, is_contradiction = found
                register, beside = series.shown[order[0]], series.shown[i]
                yield Objection(is_initial, register, beside, is_contradiction, series.installation.digits)


def _against(
    series: Series, doubts: list[Finding], out: dict[int, LeftOut], order: list[int]
) -> tuple[int, bool] | None:
    """Return what stands against the register order[0], and whether it contradicts; `order` leads away from it."""
    register, beside = order[0], order[1]
    bent = _bent(series, out, register, beside)
    if bent is not None and _runs_backward(series, register, bent):
        return bent, True
    first, last = (series.shown[i] for i in sorted((register, beside)))
    doubt = next((d for d in doubts if (d.from_at, d.to_at) == (first.at, last.at)), None)
    if doubt is not None and doubt.reason not in ALLOWED:
        return beside, last.value < first.value
    if series.installation.rated_load is None and last.value > first.value and not _keeps_pace(series, order):
        return beside, False
    return None


def _runs_backward(series: Series, one: int, other: int) -> bool:
    first, last = (series.shown[i] for i in sorted((one, other)))
    return last.value < first.value


def _bent(series: Series, out: dict[int, LeftOut], register: int, beside: int) -> int | None:
    """Return the reading next to the register that stands by the readings behind it, and is left out only because of
    the register.
    """
    towards = 1 if register > beside else -1
    i = beside
    while i + towards != register and series.is_possible(min(i, i + towards), max(i, i + towards)):
        i += towards
    return i if i != beside and out[i].reason in BENT else None


def _keeps_pace(series: Series, order: list[int]) -> bool:
    """Whether a meter without a rated load went to its register about as fast as it went otherwise.

    No bound is known, so the readings that follow (or come before) are the witness, as for a rise from zero.
    """
    register, beside, farthest = order[0], order[1], order[-1]
    if farthest == beside:
        return True
    rise = abs(series.shown[register].value - series.shown[beside].value)
    if rise <= series.last_digit(register) * rules.FROM_ZERO_TIMES:
        return True
    elsewhere = abs(series.shown[farthest].value - series.shown[beside].value)
    duration = abs(rules.seconds_of(series.shown[register].at - series.shown[beside].at))
    witness_duration = abs(rules.seconds_of(series.shown[farthest].at - series.shown[beside].at))
    return EXACT.multiply(rise, witness_duration) <= EXACT.multiply(elsewhere * rules.FROM_ZERO_TIMES, duration)

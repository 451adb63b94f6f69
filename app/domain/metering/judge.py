"""From the readings of one point to accepted steps and findings."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby

from app.domain.calendar import hour_floor
from app.domain.metering.increments import Counted, Note, gauge_steps, interval_steps
from app.domain.metering.objections import Objection, objections
from app.domain.metering.registers import Series, Shown, steps_of
from app.domain.metering.rules import LARGEST
from app.domain.metering.terms import (
    BAD,
    GOOD,
    Finding,
    Installation,
    Judgement,
    Meter,
    Reading,
    Reason,
    Signal,
    Step,
)


def judge(
    meter: Meter,
    readings: Sequence[Reading],
    *,
    known_from: datetime | None = None,
    known_to: datetime | None = None,
) -> Judgement:
    """Return the accepted steps and the findings of one point.

    `readings`: one per instant, in order of time. `known_from` and `known_to` say that readings before or after these
    instants exist but are not given; then registers of dated events out there are not used either, and the result
    holds CONTEXT_BEFORE and CONTEXT_AFTER readings away from these ends.
    """
    counted, notes = _counted(meter, readings)
    findings: list[Finding] = []
    if meter.signal is Signal.REGISTER:
        steps: list[Step] = []
        for series in _series(meter, counted, known_from, known_to):
            more, doubts, out = steps_of(series)
            steps += more
            findings += _steps_per_hour(doubts)
            notes += [(entry.reason, _as_reading(series.shown[i])) for i, entry in out.items()]
    else:
        split = interval_steps if meter.signal is Signal.INTERVAL else gauge_steps
        steps, more_notes = split(meter, counted)
        notes += more_notes
    findings += _per_hour(notes)
    findings.sort(key=lambda f: (f.from_at, f.reason, f.to_at))
    return Judgement(tuple(steps), tuple(findings))


def stated_registers(
    meter: Meter,
    readings: Sequence[Reading],
    *,
    known_from: datetime | None = None,
    known_to: datetime | None = None,
) -> list[Objection]:
    """Return what the readings of a point say against the registers that its dated events state; see `judge`."""
    if meter.signal is not Signal.REGISTER:
        return []
    counted, _ = _counted(meter, readings)
    return [found for series in _series(meter, counted, known_from, known_to) for found in objections(series)]


def _series(
    meter: Meter, counted: list[Counted], known_from: datetime | None, known_to: datetime | None
) -> Iterator[Series]:
    for installation in meter.installations:
        mine = [reading for reading, owner in counted if owner is installation]
        yield Series(_shown(installation, mine, known_from, known_to), meter, installation)


def _counted(meter: Meter, readings: Sequence[Reading]) -> tuple[list[Counted], list[Note]]:
    """Return the readings that count, each with its meter, and why the others do not."""
    counted: list[Counted] = []
    notes: list[Note] = []
    for reading in readings:
        installation = _installed(meter, reading.at)
        if reading.is_disputed:
            notes.append((Reason.DISPUTED, reading))
        elif reading.value is None:
            continue  # withdrawn by an edit, which says who and why
        elif reading.quality >= BAD:
            notes.append((Reason.BAD_QUALITY, reading))
        elif installation is None:
            notes.append((Reason.NO_INSTALLATION, reading))
        elif abs(reading.value * installation.multiplier * meter.canonical_per_unit) >= LARGEST:
            notes.append((Reason.IMPLAUSIBLE_JUMP, reading))
        else:
            counted.append((reading, installation))
            if reading.quality != GOOD:
                notes.append((Reason.UNCERTAIN_QUALITY, reading))
    return counted, notes


def _installed(meter: Meter, at: datetime) -> Installation | None:
    for installation in meter.installations:
        if installation.from_at <= at and (installation.to_at is None or at < installation.to_at):
            return installation
    return None


def _shown(
    installation: Installation,
    readings: list[Reading],
    known_from: datetime | None,
    known_to: datetime | None,
) -> list[Shown]:
    """Return what a meter showed: its readings between its initial and its final register.

    At the very instant of an exchange it cannot be known which meter a reading is of; the event's register counts.
    """
    shown: list[Shown] = []
    initial, final, to_at = installation.initial_register, installation.final_register, installation.to_at
    if initial is not None and (known_from is None or installation.from_at >= known_from):
        shown.append(Shown(installation.from_at, initial, is_event=True))
        readings = [r for r in readings if r.at > installation.from_at]
    shown += [Shown(r.at, r.value, is_manual=r.is_manual) for r in readings if r.value is not None]
    if final is not None and to_at is not None and (known_to is None or to_at <= known_to):
        shown.append(Shown(to_at, final, is_event=True))
    return shown


def _as_reading(shown: Shown) -> Reading:
    return Reading(shown.at, shown.value)


def _per_hour(notes: list[Note]) -> list[Finding]:
    """One finding per hour and reason, so that a chattering meter does not bury the list; a dispute stands alone."""
    ordered = sorted(notes, key=lambda note: (note[0], note[1].at))
    findings = []
    for (reason, _), group in groupby(ordered, key=_together):
        readings = [reading for _, reading in group]
        detail: dict[str, str | int] = {"count": len(readings)}
        if readings[0].value is not None:
            detail["value"] = format(readings[0].value, "f")
        findings.append(Finding(reason, readings[0].at, readings[-1].at, detail))
    return findings


def _steps_per_hour(doubts: list[Finding]) -> list[Finding]:
    """One finding per hour and reason for steps too: a wrong multiplier makes every step of a year a doubt."""
    ordered = sorted(doubts, key=lambda doubt: (doubt.reason, doubt.from_at))
    findings = []
    for _, group in groupby(ordered, key=lambda doubt: (doubt.reason, hour_floor(doubt.from_at))):
        first, *others = group
        if others:
            detail = {**first.detail, "to_value": others[-1].detail["to_value"], "count": 1 + len(others)}
            first = Finding(first.reason, first.from_at, others[-1].to_at, detail)
        findings.append(first)
    return findings


def _together(note: Note) -> tuple[Reason, datetime]:
    reason, reading = note
    return reason, reading.at if reason is Reason.DISPUTED else hour_floor(reading.at)

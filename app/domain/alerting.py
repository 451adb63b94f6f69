"""What becomes of an alert: a pure decision from what was seen, what is alive, and the clock.

    (none) --breach--> pending --still so after the hold--> open --acknowledged by an official--> acknowledged
    pending --clear--> dropped (nobody was told, nobody is told again)
    open, acknowledged --next month (or year) also in breach--> the same alert, extended
    open, acknowledged --clear--> resolved
Bad data neither opens nor resolves a violation: it is held, and the data rule opens its own alert.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from app.domain import calendar, periods

# Own conventions; a rule's params override them. A breach of data quality is told after it has lasted: history that
# is still arriving is incomplete for minutes. Silence is confirmed once more before it is told.
DATA_QUALITY_HOLD = timedelta(minutes=30)
SILENCE_HOLD = timedelta(seconds=20)
# When at least so many gateways, and more than this share of those that were heard, fall silent together, the fault
# is taken to be ours (ingest, broker, network): nothing is opened until they come back or it is mended.
STORM_MIN_GATEWAYS = 5
STORM_SHARE = 0.5


class State(StrEnum):
    """States of an alert; pending, open and acknowledged are alive."""

    PENDING = "pending"
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Verdict(StrEnum):
    """What an observation says about a rule."""

    BREACH = "breach"
    CLEAR = "clear"
    UNJUDGED = "unjudged"  # the data does not allow a judgement
    WITHDRAWN = "withdrawn"  # what the judgement rested on no longer holds


class Change(StrEnum):
    """What to do with the alert."""

    NONE = "none"
    PEND = "pend"
    OPEN = "open"
    UPDATE = "update"
    EXTEND = "extend"
    REPLACE = "replace"  # resolve the alive one, open a new one
    RESOLVE = "resolve"
    DROP = "drop"


class Reason(StrEnum):
    """Why the decision is what it is; kept with the alert."""

    BREACH_FOUND = "breach_found"
    BREACH_CONFIRMED = "breach_confirmed"
    WAITING_FOR_CONFIRMATION = "waiting_for_confirmation"
    STILL_IN_BREACH = "still_in_breach"
    NEXT_PERIOD_IN_BREACH = "next_period_in_breach"
    NOT_CONSECUTIVE = "not_consecutive"
    NO_LONGER_IN_BREACH = "no_longer_in_breach"
    LATER_PERIOD_IN_ORDER = "later_period_in_order"
    LEVEL_CHANGED = "level_changed"
    CLEARED_WHILE_PENDING = "cleared_while_pending"
    IN_ORDER = "in_order"
    DATA_NOT_GOOD_ENOUGH = "data_not_good_enough"
    BASIS_WITHDRAWN = "basis_withdrawn"
    LEVEL_IS_RECALLED = "level_is_recalled"
    RULE_DISABLED = "rule_disabled"


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a subject: the verdict, why, and the month it is about (None for rules without months).

    A breach of months in a row `follows` the month before the first of them. Months or years, each by its first day.
    `baseline`: what a month in order was compared with.
    """

    verdict: Verdict
    reason: Reason
    month: date | None = None
    follows: date | None = None
    baseline: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Alive:
    """The alert that is pending, open or acknowledged for this rule and subject; `baseline`: of its last breach."""

    alert_id: int
    state: State
    pending_at: datetime
    first_month: date | None = None
    last_month: date | None = None
    baseline: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do and why."""

    change: Change
    reason: Reason

    @property
    def opens(self) -> bool:
        """Whether officials are told that something began."""
        return self.change in {Change.OPEN, Change.REPLACE}


def decide(alive: Alive | None, seen: Observation, now: datetime, *, hold: timedelta = timedelta(0)) -> Decision:
    """Return what becomes of the alert of one rule and subject. hold: how long a breach must last to be told."""
    if seen.verdict is Verdict.BREACH:
        return _begin(alive, now, hold) or _continue(alive, seen)
    if alive is None or seen.verdict is Verdict.UNJUDGED:
        return Decision(Change.NONE, seen.reason)
    if alive.state is State.PENDING:
        # It fired and ended before anyone was told: no notice, the receiver never heard of it.
        return Decision(Change.DROP, Reason.CLEARED_WHILE_PENDING)
    return Decision(Change.RESOLVE, _cleared(alive, seen) if seen.verdict is Verdict.CLEAR else seen.reason)


def _cleared(alive: Alive, seen: Observation) -> Reason:
    """Why what was a breach is none: another period is judged now, or by another level, or its figure changed."""
    if seen.month is not None and alive.last_month is not None and seen.month > alive.last_month:
        return Reason.LATER_PERIOD_IN_ORDER
    return Reason.LEVEL_CHANGED if seen.baseline != alive.baseline else Reason.NO_LONGER_IN_BREACH


def _begin(alive: Alive | None, now: datetime, hold: timedelta) -> Decision | None:
    """What to do with a breach nobody was told of yet; None when somebody was."""
    if alive is None and hold > timedelta(0):
        return Decision(Change.PEND, Reason.WAITING_FOR_CONFIRMATION)
    if alive is None:
        return Decision(Change.OPEN, Reason.BREACH_FOUND)
    if alive.state is not State.PENDING:
        return None
    if now - alive.pending_at < hold:
        return Decision(Change.NONE, Reason.WAITING_FOR_CONFIRMATION)
    return Decision(Change.OPEN, Reason.BREACH_CONFIRMED)


def _continue(alive: Alive | None, seen: Observation) -> Decision:
    last_month = alive.last_month if alive else None
    if seen.month is None or last_month is None or seen.month <= last_month:
        return Decision(Change.UPDATE, Reason.STILL_IN_BREACH)
    if seen.follows is not None and seen.follows <= last_month:
        return Decision(Change.EXTEND, Reason.NEXT_PERIOD_IN_BREACH)
    return Decision(Change.REPLACE, Reason.NOT_CONSECUTIVE)


@dataclass(frozen=True, slots=True)
class MonthFigure:
    """A closed month of a line, or a year of twelve `months`, as the rules see it."""

    month: date
    has_value: bool
    is_below_baseline: bool
    is_provisional: bool
    is_level_recalled: bool
    is_complete: bool
    has_missing_outputs: bool = False
    baseline: Decimal | None = None
    months: int = 1

    @property
    def before(self) -> date:
        """The first day of the month or year before."""
        return periods.previous_months(self.month, self.months)


def _breach(
    figure: MonthFigure, figures: Sequence[MonthFigure], is_breach: Callable[[MonthFigure], bool]
) -> Observation:
    """A breach that goes back without a gap: also over what was not judged by itself, as when its output came late."""
    of_month = {one.month: one for one in figures}
    first = figure
    while (earlier := of_month.get(first.before)) is not None and is_breach(earlier):
        first = earlier
    return Observation(Verdict.BREACH, Reason.BREACH_FOUND, figure.month, first.before)


def latest_with_value(figures: Sequence[MonthFigure]) -> MonthFigure | None:
    """Return the latest closed month that has a value."""
    return max((f for f in figures if f.has_value), key=lambda f: f.month, default=None)


def observe_baseline(figures: Sequence[MonthFigure], *, recalled_counts: bool) -> Observation:
    """Return what the closed months of a line say about the baseline rule: the latest with a value is judged.

    A provisional figure is not judged. A level known only from memory is no ground for a violation unless the
    operator says so.
    """
    figure = latest_with_value(figures)
    if figure is None:
        return Observation(Verdict.WITHDRAWN, Reason.BASIS_WITHDRAWN)
    if figure.is_level_recalled and not recalled_counts:
        return Observation(Verdict.WITHDRAWN, Reason.LEVEL_IS_RECALLED, figure.month)
    if figure.is_provisional:
        return Observation(Verdict.UNJUDGED, Reason.DATA_NOT_GOOD_ENOUGH, figure.month)
    if figure.is_below_baseline:
        return _breach(figure, figures, lambda one: one.is_below_baseline and _is_judged(one, recalled_counts))
    return Observation(Verdict.CLEAR, Reason.IN_ORDER, figure.month, baseline=figure.baseline)


def _is_judged(figure: MonthFigure, recalled_counts: bool) -> bool:
    return not figure.is_provisional and (recalled_counts or not figure.is_level_recalled)


def observe_data_quality(figures: Sequence[MonthFigure], now: datetime) -> Observation:
    """Return what the latest closed month says about the data rule.

    Too few readings are a breach; outputs that were not reported become one when the month is published.
    """
    figure = max(figures, key=lambda f: f.month, default=None)
    if figure is None:
        return Observation(Verdict.UNJUDGED, Reason.DATA_NOT_GOOD_ENOUGH)

    def is_breach(one: MonthFigure) -> bool:
        is_late = one.has_missing_outputs and now >= calendar.month_published_at(one.month)
        return is_late or not one.is_complete

    if is_breach(figure):
        return _breach(figure, figures, is_breach)
    return Observation(Verdict.CLEAR, Reason.IN_ORDER, figure.month)


def is_silent(last_heard_at: datetime, now: datetime, *, heartbeat_s: int, missed_heartbeats: int) -> bool:
    """Whether a gateway has missed more than its heartbeats; one never heard counts from its registration."""
    return now - last_heard_at > timedelta(seconds=heartbeat_s * missed_heartbeats)


def is_storm(newly_silent: int, not_yet_alerted: int) -> bool:
    """Whether so many fell silent together that the fault is taken to be on our side (see STORM_SHARE)."""
    return newly_silent >= STORM_MIN_GATEWAYS and newly_silent > STORM_SHARE * not_yet_alerted

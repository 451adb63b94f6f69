"""What becomes of an alert: one table, one line per situation."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import alerting
from app.domain.alerting import Alive, Change, MonthFigure, Observation, Reason, State, Verdict
from app.domain.periods import previous_months

NOW = datetime(2026, 11, 1, 0, 0, 5, tzinfo=UTC)
OCT, SEP, AUG = date(2026, 10, 1), date(2026, 9, 1), date(2026, 8, 1)
HOLD = timedelta(minutes=30)


def breach(month=OCT, follows=None):
    return Observation(Verdict.BREACH, Reason.BREACH_FOUND, month, follows or (month and previous_months(month, 1)))


def clear(month=OCT):
    return Observation(Verdict.CLEAR, Reason.IN_ORDER, month)


def alive(state=State.OPEN, last=OCT, age=timedelta(hours=1)):
    return Alive(7, state, NOW - age, last, last)


def compared(baseline):
    return replace(alive(), baseline=Decimal(baseline))


def compared_clear(baseline):
    return replace(clear(), baseline=None if baseline is None else Decimal(baseline))


UNJUDGED = Observation(Verdict.UNJUDGED, Reason.DATA_NOT_GOOD_ENOUGH, OCT)
WITHDRAWN = Observation(Verdict.WITHDRAWN, Reason.LEVEL_IS_RECALLED, OCT)


@pytest.mark.parametrize(
    ("before", "seen", "hold", "change", "reason"),
    [
        (None, breach(), timedelta(0), Change.OPEN, Reason.BREACH_FOUND),
        (None, breach(), HOLD, Change.PEND, Reason.WAITING_FOR_CONFIRMATION),
        (None, clear(), HOLD, Change.NONE, Reason.IN_ORDER),
        (None, UNJUDGED, timedelta(0), Change.NONE, Reason.DATA_NOT_GOOD_ENOUGH),
        (None, WITHDRAWN, timedelta(0), Change.NONE, Reason.LEVEL_IS_RECALLED),
        # pending
        (alive(State.PENDING, age=HOLD / 2), breach(), HOLD, Change.NONE, Reason.WAITING_FOR_CONFIRMATION),
        (alive(State.PENDING, age=HOLD), breach(), HOLD, Change.OPEN, Reason.BREACH_CONFIRMED),
        (alive(State.PENDING), clear(), HOLD, Change.DROP, Reason.CLEARED_WHILE_PENDING),
        (alive(State.PENDING), UNJUDGED, HOLD, Change.NONE, Reason.DATA_NOT_GOOD_ENOUGH),
        (alive(State.PENDING), WITHDRAWN, HOLD, Change.DROP, Reason.CLEARED_WHILE_PENDING),
        # open
        (alive(), breach(), timedelta(0), Change.UPDATE, Reason.STILL_IN_BREACH),
        (alive(last=SEP), breach(), timedelta(0), Change.EXTEND, Reason.NEXT_PERIOD_IN_BREACH),
        (alive(last=AUG), breach(), timedelta(0), Change.REPLACE, Reason.NOT_CONSECUTIVE),
        (alive(last=AUG), breach(follows=AUG), timedelta(0), Change.EXTEND, Reason.NEXT_PERIOD_IN_BREACH),
        (alive(), breach(SEP), timedelta(0), Change.UPDATE, Reason.STILL_IN_BREACH),
        (alive(last=None), breach(None), timedelta(0), Change.UPDATE, Reason.STILL_IN_BREACH),
        (alive(), clear(), timedelta(0), Change.RESOLVE, Reason.NO_LONGER_IN_BREACH),
        (alive(last=SEP), clear(), timedelta(0), Change.RESOLVE, Reason.LATER_PERIOD_IN_ORDER),
        (compared("117"), compared_clear("125"), timedelta(0), Change.RESOLVE, Reason.LEVEL_CHANGED),
        (compared("117"), compared_clear(None), timedelta(0), Change.RESOLVE, Reason.LEVEL_CHANGED),
        (compared("117"), compared_clear("117.0"), timedelta(0), Change.RESOLVE, Reason.NO_LONGER_IN_BREACH),
        (alive(), UNJUDGED, timedelta(0), Change.NONE, Reason.DATA_NOT_GOOD_ENOUGH),
        (alive(), WITHDRAWN, timedelta(0), Change.RESOLVE, Reason.LEVEL_IS_RECALLED),
        # acknowledged is as alive as open
        (alive(State.ACKNOWLEDGED), breach(), timedelta(0), Change.UPDATE, Reason.STILL_IN_BREACH),
        (alive(State.ACKNOWLEDGED, last=SEP), breach(), HOLD, Change.EXTEND, Reason.NEXT_PERIOD_IN_BREACH),
        (alive(State.ACKNOWLEDGED), clear(), HOLD, Change.RESOLVE, Reason.NO_LONGER_IN_BREACH),
    ],
)
def test_decision(before, seen, hold, change, reason):
    found = alerting.decide(before, seen, NOW, hold=hold)
    assert (found.change, found.reason) == (change, reason)


@given(
    st.one_of(st.none(), st.builds(alive, st.sampled_from([State.PENDING, State.OPEN, State.ACKNOWLEDGED]),
                                   st.sampled_from([None, AUG, SEP, OCT]))),
    st.sampled_from([breach(), breach(SEP), breach(None), clear(), UNJUDGED, WITHDRAWN]),
    st.sampled_from([timedelta(0), HOLD]),
)  # fmt: skip
def test_laws_of_decisions(before, seen, hold):
    found = alerting.decide(before, seen, NOW, hold=hold)
    if found.opens:
        assert seen.verdict is Verdict.BREACH
    if found.change in {Change.RESOLVE, Change.REPLACE}:  # only what officials were told of is taken back
        assert before is not None
        assert before.state is not State.PENDING
    if seen.verdict is Verdict.UNJUDGED:
        assert found.change is Change.NONE


def figure(month=OCT, **changes):
    fields = {
        "has_value": True, "is_below_baseline": True, "is_provisional": False, "is_level_recalled": False,
        "is_complete": True,
    }  # fmt: skip
    return MonthFigure(month, **{**fields, **changes})


def test_the_latest_month_with_a_value_is_judged():
    figures = [figure(SEP), figure(OCT, has_value=False, is_below_baseline=False)]
    assert alerting.observe_baseline(figures, recalled_counts=False) == breach(SEP)
    assert alerting.observe_baseline([figure(SEP), figure(OCT, is_below_baseline=False)], recalled_counts=False) == (
        clear(OCT)
    )
    assert alerting.observe_baseline([], recalled_counts=False).verdict is Verdict.WITHDRAWN


def test_a_breach_goes_on_over_all_that_are_in_breach_without_a_gap():
    months = [figure(AUG), figure(SEP), figure(OCT)]  # October was judged before September had its output
    assert alerting.observe_baseline(months, recalled_counts=False) == breach(OCT, follows=date(2026, 7, 1))
    healed = [figure(AUG), figure(SEP, is_below_baseline=False), figure(OCT)]
    assert alerting.observe_baseline(healed, recalled_counts=False) == breach(OCT, follows=SEP)
    doubtful = [figure(AUG), figure(SEP, is_provisional=True), figure(OCT)]
    assert alerting.observe_baseline(doubtful, recalled_counts=False) == breach(OCT, follows=SEP)


def test_a_year_in_breach_after_a_year_in_breach_is_the_same_matter():
    years = [figure(date(2026, 1, 1), months=12), figure(date(2025, 1, 1), months=12)]
    seen = alerting.observe_baseline(years, recalled_counts=False)
    found = alerting.decide(alive(last=date(2025, 1, 1)), seen, NOW)
    assert (found.change, found.reason) == (Change.EXTEND, Reason.NEXT_PERIOD_IN_BREACH)
    alone = alerting.observe_baseline(years[:1], recalled_counts=False)
    assert alerting.decide(alive(last=date(2025, 1, 1)), alone, NOW).change is Change.EXTEND
    assert alerting.decide(alive(last=date(2024, 1, 1)), alone, NOW).change is Change.REPLACE


def test_bad_data_never_opens_a_violation_but_is_a_breach_of_the_data_rule():
    bad = [figure(is_provisional=True, is_complete=False)]
    assert alerting.observe_baseline(bad, recalled_counts=True).verdict is Verdict.UNJUDGED
    assert alerting.observe_data_quality(bad, NOW).verdict is Verdict.BREACH
    assert alerting.observe_data_quality([figure()], NOW).verdict is Verdict.CLEAR


def test_a_recalled_level_opens_a_violation_only_when_the_operator_says_so():
    recalled = [figure(is_level_recalled=True)]
    assert alerting.observe_baseline(recalled, recalled_counts=False).reason is Reason.LEVEL_IS_RECALLED
    assert alerting.observe_baseline(recalled, recalled_counts=True).verdict is Verdict.BREACH


def test_outputs_may_be_missing_until_the_month_is_published():
    late = [figure(has_missing_outputs=True, is_provisional=True)]
    assert alerting.observe_data_quality(late, NOW).verdict is Verdict.CLEAR
    fifth = datetime(2026, 11, 4, 16, 0, tzinfo=UTC)  # the 5th, 00:00 in Tianjin
    assert alerting.observe_data_quality(late, fifth).verdict is Verdict.BREACH


def test_silence_and_storm():
    heard = NOW - timedelta(seconds=30)
    assert not alerting.is_silent(heard, NOW, heartbeat_s=10, missed_heartbeats=3)
    assert alerting.is_silent(heard - timedelta(seconds=1), NOW, heartbeat_s=10, missed_heartbeats=3)
    assert alerting.is_storm(350, 350)
    assert not alerting.is_storm(1, 24)
    assert not alerting.is_storm(1, 1)  # a city of one gateway can have a silent gateway
    assert not alerting.is_storm(12, 24)
    assert alerting.is_storm(13, 24)

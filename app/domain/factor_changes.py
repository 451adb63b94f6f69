"""From when to when a change of factors changes what a carrier is multiplied by."""

from datetime import date, timedelta
from itertools import pairwise

from app.domain.accounting import Carrier, FactorTables, conversion_on, cut_days

Span = tuple[date, date]


def changed_spans(carrier: Carrier, before: FactorTables, after: FactorTables, first: date, end: date) -> list[Span]:
    """Return the spans of days within [first, end) on which the tables convert a carrier differently.

    A row that is cited anew but gives the same coefficients changes no figure.
    """
    last = end - timedelta(days=1)
    days = [first, *sorted(cut_days(before, first, last) | cut_days(after, first, last))]
    spans: list[Span] = []
    for day, following in pairwise([*days, end]):
        if conversion_on(carrier, before, day) == conversion_on(carrier, after, day):
            continue
        if spans and spans[-1][1] == day:
            spans[-1] = (spans[-1][0], following)
        else:
            spans.append((day, following))
    return spans

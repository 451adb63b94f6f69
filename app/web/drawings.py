"""Geometry of the small drawings on the pages; the templates only write it down as SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

CHART_WIDTH, CHART_HEIGHT, CHART_TOP = 700, 200, 18
TRACK_WIDTH, TRACK_STEP = 120, 40


@dataclass(frozen=True, slots=True)
class Bar:
    """One day's bar in a chart of CHART_WIDTH x CHART_HEIGHT; without a value it is a gap, not a zero."""

    day: date
    value_tce: Decimal | None
    x: float
    y: float
    width: float
    height: float


def bars(days: Sequence[date], kgce_by_day: Mapping[date, str | None]) -> list[Bar]:
    """Return one bar per day, the highest filling the chart; a negative day (more sent out than used) has no height."""
    slot = CHART_WIDTH / max(1, len(days))
    values = [_tce(kgce_by_day.get(day)) for day in days]
    highest = max((v for v in values if v is not None), default=Decimal(0))
    room = CHART_HEIGHT - CHART_TOP
    found = []
    for index, (day, value) in enumerate(zip(days, values, strict=True)):
        height = round(float(value / highest) * room, 1) if value is not None and value > 0 else 0.0
        x = round(index * slot + slot * 0.15, 1)
        found.append(Bar(day, value, x, round(CHART_HEIGHT - height, 1), round(slot * 0.7, 1), height))
    return found


def _tce(kgce: str | None) -> Decimal | None:
    return None if kgce is None else Decimal(kgce) / 1000


def marker_x(position: str | None) -> float | None:
    """Return where a line stands on a track with the baseline at 40 and the benchmark at 80 of 120, cut at its ends."""
    if position is None:
        return None
    return round(min(TRACK_WIDTH - 3.0, max(3.0, TRACK_STEP * (1 + float(position)))), 1)


def share_x(percent: str | None) -> float:
    """Return where a percentage ends on a bar of TRACK_WIDTH, cut at its ends."""
    return 0.0 if percent is None else round(min(100.0, max(0.0, float(percent))) * TRACK_WIDTH / 100, 1)

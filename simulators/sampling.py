"""What gateways write into their messages: samples of the present, and windows of the past as series."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from simulators.faults import Faults
from simulators.truth import DAY_S, QUARTER_S, Meter, day_number, day_start_s

ZONE = ZoneInfo("Asia/Shanghai")


@dataclass(slots=True)
class SentValues:
    """What one message says of one point: first and last (instant, quanta), how many values, their sum in quanta."""

    point: str
    count: int
    first_s: int
    first: int
    last_s: int
    last: int
    total: int


@dataclass(slots=True)
class Body:
    """The members of a message after its seq, the number of readings, and what it says point by point."""

    members: str
    readings: int
    sent: list[SentValues]


def iso(at_s: int) -> str:
    """Return an instant as local time of the city with its offset."""
    return datetime.fromtimestamp(at_s, ZONE).isoformat()


def window_readings(from_s: int, to_s: int) -> int:
    """Return how many quarter-hour edges lie in (from_s, to_s]."""
    return to_s // QUARTER_S - from_s // QUARTER_S


class Sampler:
    """Writes the messages of one gateway."""

    def __init__(self, meters: list[Meter], faults: Faults) -> None:
        self.meters = meters
        first = next((meter for meter in meters if meter.plan.signal == "register"), None)
        self._altered: dict[str, Callable[[int, int], int]] = {
            meter.plan.code: _altering(faults, meter) for meter in meters if faults.alters(meter, meter is first)
        }

    def window(self, from_s: int, to_s: int) -> Body:
        """Return the quarter-hour readings of (from_s, to_s], which lies within one business day.

        A register or gauge is read at the edges; an interval counts with the edge at which it ends.
        """
        day = day_number(from_s + 1)
        start_s = day_start_s(day)
        low, high = (from_s - start_s) // QUARTER_S + 1, min(to_s - start_s, DAY_S) // QUARTER_S
        parts, sent = [], []
        for meter in self.meters:
            first_slot, values = self._values(meter, day, low, high)
            if values:
                first_s = start_s + first_slot * QUARTER_S
                parts.append(_series(meter, first_s, values))
                sent.append(_sent(meter, first_s, values))
        return Body(f'"series":[{",".join(parts)}]', sum(one.count for one in sent), sent)

    def sample(self, at_s: int) -> Body:
        """Return the readings of one instant; intervals only when a quarter hour ends."""
        parts, sent = [], []
        for meter in self.meters:
            ts_s, value = at_s, self._sampled(meter, at_s)
            if meter.plan.signal == "interval":
                ts_s = at_s - QUARTER_S
            if value is not None:
                number = json.dumps(value / 10**meter.plan.decimals)
                parts.append(f'{{"point":"{meter.plan.code}","ts":"{iso(ts_s)}","value":{number}}}')
                sent.append(SentValues(meter.plan.code, 1, ts_s, value, ts_s, value, value))
        return Body(f'"readings":[{",".join(parts)}]', len(sent), sent)

    def _values(self, meter: Meter, day: int, low: int, high: int) -> tuple[int, list[int]]:
        """Return the first slot and the quanta of a window's edges low..high (0..96 of the day)."""
        if meter.plan.signal == "gauge":
            start_s = day_start_s(day)
            return low, [meter.power_quanta(start_s + slot * QUARTER_S) for slot in range(low, high + 1)]
        edges = meter.quarter_edges(day)
        if meter.plan.signal == "interval":
            first = max(low, 1)
            return first - 1, [edges[slot] - edges[slot - 1] for slot in range(first, high + 1)]
        alter = self._altered.get(meter.plan.code)
        if alter is not None:
            start_s = day_start_s(day)
            return low, [alter(edges[slot], start_s + slot * QUARTER_S) for slot in range(low, high + 1)]
        return low, [meter.register(quanta) for quanta in edges[low : high + 1]]

    def _sampled(self, meter: Meter, at_s: int) -> int | None:
        if meter.plan.signal == "gauge":
            return meter.power_quanta(at_s)
        quanta = meter.quanta_until(at_s)
        if meter.plan.signal == "interval":
            return None if at_s % QUARTER_S else quanta - meter.quanta_until(at_s - QUARTER_S)
        alter = self._altered.get(meter.plan.code)
        return meter.register(quanta) if alter is None else alter(quanta, at_s)


def _altering(faults: Faults, meter: Meter) -> Callable[[int, int], int]:
    return lambda quanta, at_s: faults.altered(meter, quanta, at_s)


def _series(meter: Meter, first_s: int, values: list[int]) -> str:
    scale = 10**meter.plan.decimals
    numbers = json.dumps([value / scale for value in values], separators=(",", ":"))
    return f'{{"point":"{meter.plan.code}","start":"{iso(first_s)}","step_s":{QUARTER_S},"values":{numbers}}}'


def _sent(meter: Meter, first_s: int, values: list[int]) -> SentValues:
    last_s = first_s + (len(values) - 1) * QUARTER_S
    return SentValues(meter.plan.code, len(values), first_s, values[0], last_s, values[-1], sum(values))

"""What the meters of the simulated city show, at any instant, without asking anyone.

Every value is a function of (seed, point, instant), in whole numbers of the meter's last decimal, so that what was
sent can be known exactly afterwards: by a test, by another process, after a crash. Instants are whole seconds since
1970 (UTC); business days are Asia/Shanghai days, 8 hours ahead the whole year (no daylight saving since 1991).
"""

import zlib
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

from simulators.plan import INSTALLED_ON, EnterprisePlan, LinePlan, PointPlan, initial_register, load_plan
from simulators.shapes import SLOTS, TEMPLATES, activity, cumulative, draw, temperature_tenths_c

QUARTER_S = 900
DAY_S = 86_400
OFFSET_S = 8 * 3_600
_EPOCH = date(1970, 1, 1)
INSTALLED_DAY = (INSTALLED_ON - _EPOCH).days


def day_number(at_s: int) -> int:
    """Return the business day of an instant, counted from 1970-01-01."""
    return (at_s + OFFSET_S) // DAY_S


def day_start_s(day: int) -> int:
    """Return the first instant of a business day."""
    return day * DAY_S - OFFSET_S


def number_of(day: date) -> int:
    """Return the number of a business day."""
    return (day - _EPOCH).days


def date_of(day: int) -> date:
    """Return the business day with this number."""
    return _EPOCH + timedelta(days=day)


class Meter:
    """The law of one point: quanta (units of its last decimal) as a function of time."""

    def __init__(self, plan: PointPlan, seed: int) -> None:
        self.plan = plan
        self.modulus = int(10 ** (plan.digits + plan.decimals))
        self._key = _key(seed, plan.gateway, plan.code)
        self._driver_key = _key(seed, plan.gateway, plan.driver)
        self._initial = initial_register(plan, self._key)
        self._full_day = int(plan.per_day * 10**plan.decimals / plan.multiplier)
        self._before = [0]  # quanta counted before day INSTALLED_DAY + index

    def quanta_of_day(self, day: int) -> int:
        """Return what is counted on a business day."""
        plan = self.plan
        share = plan.fixed * 1000 + (1000 - plan.fixed) * activity(plan.load, self._driver_key, day)  # millionths
        if plan.weather:  # per mille for each degree away from 12
            share = share * (1000 + plan.weather * (temperature_tenths_c(day) - 120) // 10) // 1000
        noise = 985_000 + draw(self._key, day) % 30_001  # plus or minus 1.5 %
        return self._full_day * share * noise // 10**12

    def quanta_until(self, at_s: int) -> int:
        """Return what was counted from installation to an instant; grows with it, linear inside a quarter hour."""
        day, second = divmod(at_s + OFFSET_S, DAY_S)
        slot, rest = divmod(second, QUARTER_S)
        sums = self._sums(day)
        weight = sums[slot] * QUARTER_S + (sums[slot + 1] - sums[slot]) * rest
        return self._quanta_before(day) + self.quanta_of_day(day) * weight // (sums[SLOTS] * QUARTER_S)

    def quarter_edges(self, day: int) -> list[int]:
        """Return `quanta_until` at the 97 quarter-hour edges of a day, both midnights included."""
        sums, total, before = self._sums(day), self.quanta_of_day(day), self._quanta_before(day)
        whole = sums[SLOTS]
        return [before + total * weight // whole for weight in sums]

    def power_quanta(self, at_s: int) -> int:
        """Return a gauge's reading: the mean of the quarter hour that begins, linear in between."""
        start_s = at_s - at_s % QUARTER_S
        here = self._quarter_power(start_s)
        if at_s == start_s:
            return here
        return here + (self._quarter_power(start_s + QUARTER_S) - here) * (at_s - start_s) // QUARTER_S

    def register(self, quanta: int) -> int:
        """Return the register, in quanta, that shows when so much was counted: it rolls over at its digits."""
        return (self._initial + quanta) % self.modulus

    def shown(self, quanta: int) -> Decimal:
        """Return quanta as the decimal number on the meter's display."""
        return Decimal(quanta).scaleb(-self.plan.decimals)

    def _quarter_power(self, start_s: int) -> int:
        day, second = divmod(start_s + OFFSET_S, DAY_S)
        sums, slot = self._sums(day), second // QUARTER_S
        return self.quanta_of_day(day) * (sums[slot + 1] - sums[slot]) * 4 // sums[SLOTS]

    def _sums(self, day: int) -> tuple[int, ...]:
        return cumulative(self.plan.shape, draw(self._key ^ 0x5AFE, day) % TEMPLATES)

    def _quanta_before(self, day: int) -> int:
        if day < INSTALLED_DAY:
            raise ValueError(f"{date_of(day)}: the meters of this city were installed on {INSTALLED_ON}")
        while len(self._before) <= day - INSTALLED_DAY:
            self._before.append(self._before[-1] + self.quanta_of_day(INSTALLED_DAY + len(self._before) - 1))
        return self._before[day - INSTALLED_DAY]


class City:
    """The whole truth of a seed: meters and outputs."""

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed
        self.plan: list[EnterprisePlan] = load_plan()
        self.meters = {(p.gateway, p.code): Meter(p, seed) for e in self.plan for p in e.points}
        self.lines: list[LinePlan] = [line for enterprise in self.plan for line in enterprise.lines]

    def register_at(self, gateway: str, point: str, at_s: int) -> Decimal:
        """Return the exact register of a point at an instant."""
        meter = self.meters[gateway, point]
        return meter.shown(meter.register(meter.quanta_until(at_s)))

    def usage_between(self, gateway: str, point: str, from_s: int, to_s: int) -> Decimal:
        """Return the exact usage of [from_s, to_s) in canonical units of the carrier, the multiplier applied.

        Register: what was counted. Interval: the sum of the values, bounds on quarter hours. Gauge (kW): the
        trapezoid over readings at quarter hours in kWh; derived, and finer readings give another figure.
        """
        meter = self.meters[gateway, point]
        if meter.plan.signal == "gauge":
            edges = [meter.power_quanta(at_s) for at_s in range(from_s, to_s + 1, QUARTER_S)]
            doubled = sum(a + b for a, b in pairwise(edges))
            return meter.shown(doubled) / 8
        return meter.shown(meter.quanta_until(to_s) - meter.quanta_until(from_s)) * meter.plan.multiplier

    def output_of(self, line: LinePlan, day: int) -> Decimal:
        """Return the reported output of a line on a business day, to one decimal (IT electricity: as metered)."""
        if line.output_point is not None:
            start_s = day_start_s(day)
            return self.usage_between(line.gateway, line.output_point, start_s, start_s + DAY_S)
        key = _key(self.seed, line.gateway, line.process_unit)
        tenths = int(line.output_per_day * 10) * activity(line.load, key, day) // 1000
        return Decimal(tenths * (997 + draw(key ^ 0x0DD, day) % 7) // 1000).scaleb(-1)


def _key(seed: int, gateway: str, name: str) -> int:
    return draw(seed, zlib.crc32(f"{gateway}/{name}".encode()))

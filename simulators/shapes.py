"""How plants run: over the days (loads) and over the quarter hours of a day (shapes). Whole numbers throughout.

Everything here is a function of its arguments: the same key and day give the same figure on every machine.
"""

from functools import cache
from itertools import accumulate, pairwise

SLOTS = 96  # quarter hours of a day
TEMPLATES = 8  # different days of each shape
_MASK = (1 << 64) - 1

# Mean temperature of the months in Tianjin, °C, rounded (for cooling; no figure is published from it).
_MONTH_TEMPERATURE_C = (-3, 0, 7, 15, 21, 25, 27, 26, 21, 14, 5, -1)


def draw(key: int, number: int) -> int:
    """Return 64 reproducible bits for (key, number): the splitmix64 finaliser."""
    z = (key + number * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def activity(load: str, key: int, day: int) -> int:
    """Return how much of its capacity a line uses on a day, per mille. `day` counts from 1970-01-01 (a Thursday)."""
    jitter = draw(key, day) % 61 - 30
    if load == "continuous":  # a kiln or furnace: two days of repair once in 29
        period, place = divmod(day, 29)
        since_stop = place - draw(key ^ 0xD1F, period) % 27
        return (350, 620)[since_stop] if since_stop in (0, 1) else 940 + jitter
    is_sunday = (day + 3) % 7 == 6
    if load == "batch":
        return (720 if is_sunday else 945) + jitter
    if load == "office":
        return (350 if (day + 3) % 7 >= 5 else 950) + jitter
    return 940 + jitter // 3  # steady


def temperature_tenths_c(day: int) -> int:
    """Return the mean temperature of a day in tenths of a degree: months interpolated, and a little weather."""
    month, hundredths = divmod((day - 15) * 1_200 * 10_000 // 3_652_425, 100)
    before, after = _MONTH_TEMPERATURE_C[month % 12], _MONTH_TEMPERATURE_C[(month + 1) % 12]
    return (before * (100 - hundredths) + after * hundredths) // 10 + draw(0xC11A7E, day) % 61 - 30


@cache
def cumulative(shape: str, template: int) -> tuple[int, ...]:
    """Return 97 running sums of the weights of a day's quarter hours, from 0 to the whole day."""
    key = sum(ord(letter) << (8 * place % 56) for place, letter in enumerate(shape))
    weights = [_weight(shape, slot, template) + draw(key, template * SLOTS + slot) % 61 - 30 for slot in range(SLOTS)]
    return tuple(accumulate(weights, initial=0))


def _weight(shape: str, slot: int, template: int) -> int:
    if shape == "batch":  # three quarters of melting, one of tapping and charging
        return (1300, 1340, 1210, 170)[(slot + template) % 4]
    if shape == "day_night":
        return 1350 if 32 <= slot < 80 else 720
    if shape == "afternoon":
        return 1000 + max(0, 130 - 6 * abs(slot - 60))
    return 1000


@cache
def peak_share(shape: str) -> tuple[int, int]:
    """Return the largest (quarter hour, whole day) weights of a shape over all templates, as a fraction."""
    peaks = []
    for template in range(TEMPLATES):
        sums = cumulative(shape, template)
        peaks.append((max(b - a for a, b in pairwise(sums)), sums[-1]))
    return max(peaks, key=lambda peak: peak[0] / peak[1])

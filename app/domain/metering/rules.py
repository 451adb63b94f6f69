"""The numbers of the rules, and how far one judgement looks. Nothing else may look further.

Neighbours are readings that count, within one installation. Whether a reading is left out depends on at most REACH
neighbours on each side; a step goes over at most BRIDGE left-out readings; how long a register has stood still is
looked up over at most FROZEN readings. From these follow the four distances at the end, which let a late reading be
judged without the rest of the history. A property test holds them.
"""

from datetime import timedelta
from decimal import Context, Decimal

# Wide enough for 15 digits x multiplier x unit factor: products here are never rounded.
EXACT = Context(prec=120)
HOUR_S = 3600

# Calculation rules, section 9, rule 2: bound = rated load x interval x 1.25.
LOAD_MARGIN = Decimal("1.25")
# Design, section 6: an interval of at most 1.5 x the expected one is measured, a longer one is split by estimate.
MEASURED_FACTOR = Decimal("1.5")

# A register that leaves its course for so many readings and comes back did not count them (drop to zero, spike, flip).
EXCURSION = 3
# Excursions of three are judged after those of two, and those after single ones (3 + 2 + 1); a jitter leans on the
# reading before its excursion, which must stand itself (3 more).
REACH = 9
# More left-out readings in a row than two excursions can explain: nothing is claimed across them.
BRIDGE = 6
# How far back a register that stands still is followed, to know since when its energy may have been collected.
FROZEN = 48

# No meter shows so much in canonical units, and the tables hold no more: such a reading is left out by itself.
LARGEST = Decimal(10) ** 15

# Without a rated load a rollover must be almost certain: the wrapped difference is at most a hundredth of the range.
ROLLOVER_SHARE = 100
# Falling to under a tenth is a reset, to under nine tenths another meter, to less a backward step.
RESET_SHARE = Decimal("0.1")
EXCHANGE_SHARE = Decimal("0.9")
# A value within a thousandth of ten, a hundred, ... times its neighbour changed its unit, if both are at least 100.
FLIP_TOLERANCE = Decimal("0.001")
FLIP_LEAST = Decimal(100)
FLIP_POWERS = tuple(Decimal(10) ** power for power in range(1, 10))
# Without a rated load a rise from exactly zero is believed up to 100 x the next rise or 100 units of the last digit.
FROM_ZERO_TIMES = 100

# Clean pairs among so many neighbours on each side prove that a reading is accepted and its steps stand: an excursion
# that touches it would have a broken pair in there.
PROOF = EXCURSION + 2
# Neighbours to read before and after a stretch so that all its hours come out as in a full recomputation.
CONTEXT_BEFORE = BRIDGE + 1 + REACH + FROZEN + 3
CONTEXT_AFTER = 2 * (BRIDGE + 1) + REACH + 4
# Neighbours before and after a changed stretch whose steps may change with it.
ZONE_BEFORE = REACH + 2 * (BRIDGE + 1)
ZONE_AFTER = FROZEN + REACH + BRIDGE + 4
# Resolution is read from so many neighbours on each side.
DIGIT_NEIGHBOURS = 4


def is_within_load(energy: Decimal, rated_load: Decimal, seconds: Decimal) -> bool:
    """Whether a load can have drawn an energy in canonical units in so many seconds; compared without a division."""
    allowed = EXACT.multiply(EXACT.multiply(rated_load, LOAD_MARGIN), seconds)
    return EXACT.multiply(energy, Decimal(HOUR_S)) <= allowed


def seconds_of(duration: timedelta) -> Decimal:
    """Return a duration in seconds, exactly."""
    whole = Decimal(duration.days * 86400 + duration.seconds)
    return whole + Decimal(duration.microseconds).scaleb(-6) if duration.microseconds else whole


def is_unit_flip(first: Decimal, second: Decimal) -> bool:
    """Whether one value is a power of ten of the other: kWh sent as Wh, MWh sent as kWh."""
    small, large = sorted((first, second))
    if small < FLIP_LEAST:
        return False
    return any(abs(large - small * power) <= small * power * FLIP_TOLERANCE for power in FLIP_POWERS)


def last_digit(values: list[Decimal]) -> Decimal:
    """Return one unit of the last digit that the values use: 0.01 for 12.25 and 13.1; at most 1."""
    exponents = [exponent for v in values if isinstance(exponent := v.normalize().as_tuple().exponent, int)]
    return Decimal(1).scaleb(min([0, *exponents]))

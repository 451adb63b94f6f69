"""What goes wrong at real gateways, on request: which gateways it befalls is drawn from the seed.

late            an hour's readings come together, on the backfill lane
duplicated      every live message is sent twice, under two sequence numbers
out-of-order    four live messages at a time are sent newest first
silent          the gateway stops after its history, without a word
register-reset  one register starts again from zero on the 10th of each month at 10:00, without an event
wrong-unit      one meter sends a thousand times too much on the 15th of each month (Wh for kWh)
"""

import zlib
from datetime import UTC, datetime, timedelta

from simulators.shapes import draw
from simulators.truth import DAY_S, OFFSET_S, Meter, day_number, day_start_s

KINDS = ("late", "duplicated", "out-of-order", "silent", "register-reset", "wrong-unit")
ONE_IN = 8  # gateways that each kind of fault befalls
RESET_DAY, RESET_S = 10, 10 * 3_600
WRONG_UNIT_DAY, WRONG_UNIT_FACTOR = 15, 1000


class FaultError(ValueError):
    """A fault was asked for that does not exist."""


class Faults:
    """The faults of one run."""

    def __init__(self, kinds: frozenset[str], seed: int, gateways: list[str]) -> None:
        if unknown := sorted(kinds - set(KINDS)):
            raise FaultError(f"unknown fault {', '.join(unknown)}; there are {', '.join(KINDS)}")
        self._victims = {kind: _victims(kind, seed, gateways) for kind in kinds}

    def befalls(self, kind: str, gateway: str) -> bool:
        """Tell whether a gateway suffers from a kind of fault in this run."""
        return gateway in self._victims.get(kind, ())

    def alters(self, meter: Meter, is_first_register: bool) -> bool:
        """Tell whether some values of a meter are altered: the first register of a gateway is, if any."""
        gateway = meter.plan.gateway
        return is_first_register and (self.befalls("register-reset", gateway) or self.befalls("wrong-unit", gateway))

    def altered(self, meter: Meter, quanta: int, at_s: int) -> int:
        """Return what the register of an altered meter shows at an instant, in quanta."""
        gateway, day = meter.plan.gateway, day_number(at_s)
        shown = meter.register(quanta)
        if self.befalls("register-reset", gateway):
            shown = quanta - meter.quanta_until(_last_reset_s(at_s))
        if self.befalls("wrong-unit", gateway) and _day_of_month(day) == WRONG_UNIT_DAY:
            shown *= WRONG_UNIT_FACTOR
        return shown


def _victims(kind: str, seed: int, gateways: list[str]) -> frozenset[str]:
    order = sorted(gateways, key=lambda code: draw(seed, zlib.crc32(f"{kind}/{code}".encode())))
    return frozenset(order[: max(1, len(order) // ONE_IN)])


def _day_of_month(day: int) -> int:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).day


def _last_reset_s(at_s: int) -> int:
    day = (at_s + OFFSET_S - RESET_S) // DAY_S
    while _day_of_month(day) != RESET_DAY:
        day -= 1
    return day_start_s(day) + RESET_S

"""What happens when: drawn from a seed alone, so that a run can be repeated."""

import random
from dataclasses import dataclass
from typing import Literal

PAUSE_S = (0.3, 3.0)
HOUR_S = 3_600
# A clock set back, ahead within the past, and into a year that has not come: known again, early, refused.
CLOCK_JUMPS_S = (-2 * HOUR_S, 3 * HOUR_S, None)


@dataclass(frozen=True, slots=True)
class Blow:
    """One event: after a pause, to whom. `offset_s` of a clock; None: to tomorrow."""

    pause_s: float
    kind: Literal["kill", "cut", "clock"]
    victim: str
    offset_s: int | None = 0


def draw_blows(kills: int, seed: int, victims: list[str], gateways: list[str]) -> list[Blow]:
    """Return `kills` kills in decks (each victim once before any comes again), with cuts and clock jumps between."""
    chance = random.Random(seed)
    blows: list[Blow] = []
    deck: list[str] = []
    for number in range(kills):
        if not deck:
            deck = chance.sample(victims, len(victims))
        blows.append(Blow(round(chance.uniform(*PAUSE_S), 2), "kill", deck.pop()))
        if number % 2 == 0:
            blows.append(Blow(round(chance.uniform(0, 0.5), 2), "cut", chance.choice(gateways)))
        if number % 3 == 0:
            offset_s = CLOCK_JUMPS_S[number // 3 % len(CLOCK_JUMPS_S)]
            blows.append(Blow(round(chance.uniform(0, 0.5), 2), "clock", chance.choice(gateways), offset_s))
    return blows

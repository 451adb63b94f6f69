"""Key energy-using units (重点用能单位): the tier an annual energy use puts a unit in, and who holds its post."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

Number = Decimal | Fraction | int


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier of the list and the annual energy use from which it begins, that figure included."""

    key: str
    at_least_tce: Decimal


def tier_of(energy_tce: Number, tiers: Iterable[Tier]) -> str | None:
    """Return the highest tier that an annual energy use reaches; None below all of them."""
    reached = [tier for tier in tiers if Fraction(energy_tce) >= tier.at_least_tce]
    return max(reached, key=lambda tier: tier.at_least_tce).key if reached else None


class Post(StrEnum):
    """The energy-management post of a unit (Energy Conservation Law, Art. 55)."""

    HELD = "held"
    EXPIRED = "expired"  # somebody was appointed, and nobody's term reaches the day
    EMPTY = "empty"  # nobody was ever appointed until the day


@dataclass(frozen=True, slots=True)
class Appointment:
    """A holder's term; `expires_on` is its last day, None: without end."""

    holder: str
    appointed_on: date
    expires_on: date | None


def post_on(day: date, appointments: Iterable[Appointment]) -> tuple[Post, Appointment | None]:
    """Return the state of the post on a day and the appointment it rests on, the latest of those in question."""
    begun = sorted((one for one in appointments if one.appointed_on <= day), key=lambda one: one.appointed_on)
    holding = [one for one in begun if one.expires_on is None or day <= one.expires_on]
    if holding:
        return Post.HELD, holding[-1]
    return (Post.EXPIRED, begun[-1]) if begun else (Post.EMPTY, None)

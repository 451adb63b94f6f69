"""What an arriving entry is to those already known of the same point and instant, and which one counts.

An instant is a set of entries (rank, value, quality). The set only grows and never depends on the order of arrival;
what counts is read off the set: the single entry at the highest rank. Two entries there are a dispute, and neither
counts until a higher rank decides. Rank is the gateway's `rev`; edits rank 1,000,000 and more and always win.
"""

from collections.abc import Collection
from enum import Enum
from typing import NamedTuple

FIRST_EDIT_RANK = 1_000_000
# By their numbers in the tables: on which lane a message came, and what a gateway says of its own reading.
LANES = ("live", "backfill", "http")
QUALITIES = ("good", "uncertain", "bad")


class Entry(NamedTuple):
    """One report of an instant. `value` is None only in an edit that withdraws the instant."""

    rank: int
    value: float | None
    quality: int


class Reception(Enum):
    """What an arriving entry is to the known ones."""

    FIRST = "first"
    REVISION = "revision"
    SUPERSEDED = "superseded"
    DISPUTED = "disputed"
    DUPLICATE = "duplicate"


# Whether the entry is stored, and whether the value that counts may be another one after it.
STORED = frozenset(Reception) - {Reception.DUPLICATE}
CHANGES_VALUE = STORED - {Reception.SUPERSEDED}


def classify(entry: Entry, known: Collection[Entry]) -> Reception:
    """Return what `entry` is to the `known` entries of its point and instant.

    A duplicate is known already. Below the highest known rank it is superseded: kept, of no effect. At the highest
    rank with another value or quality it is disputed; above, a revision.
    """
    if not known:
        return Reception.FIRST
    if entry in known:
        return Reception.DUPLICATE
    highest = max(other.rank for other in known)
    if entry.rank < highest:
        return Reception.SUPERSEDED
    return Reception.DISPUTED if entry.rank == highest else Reception.REVISION


def counting(entries: Collection[Entry]) -> Entry | None:
    """Return the entry that counts, or None where there is none or the highest rank is in dispute."""
    if not entries:
        return None
    highest = max(entry.rank for entry in entries)
    top = {entry for entry in entries if entry.rank == highest}
    return top.pop() if len(top) == 1 else None

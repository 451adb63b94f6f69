"""Gaps in a stream of numbered messages: what is missing, and when it is no longer just late."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

# A gateway keeps at most so many messages unacknowledged in a lane, so a message that is further back than this
# behind one that came will not come by itself any more.
WINDOW = 64
# Streams begin at 0; some devices count from 1.
FIRST_NUMBERS = 2
# A gateway sends again after 60 s, then after 120 s more: what is missing for longer is asked for.
PATIENCE = timedelta(seconds=180)
# Asked again after 1, 2, 4, … minutes, at most a day apart.
FIRST_PAUSE, LAST_PAUSE = timedelta(minutes=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Range:
    """Message numbers from first to last, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Look:
    """The result of looking through a stream: gaps to write down, and how far it is settled."""

    gaps: tuple[Range, ...]
    complete_through: int


def beginning(lowest_received: int) -> int:
    """Return up to which number a stream is settled before anything is known of it but its lowest message so far.

    A new store has at most a window under way, so what is missing below a low number never came. A higher one was
    reached with the acks of somebody else (another service, a database since lost): the stream begins there.
    """
    if lowest_received < FIRST_NUMBERS or lowest_received >= WINDOW + FIRST_NUMBERS:
        return lowest_received - 1
    return -1


def look_through(complete_through: int, received: Sequence[tuple[int, datetime]], now: datetime) -> Look:
    """Look through the messages beyond `complete_through`, given as (seq, committed at) in order of seq.

    A gap is ripe when a message came that is more than a window ahead of its end, or when the message behind it came
    longer ago than a gateway's patience. The stream is settled up to its first gap that is not ripe.
    """
    newest = received[-1][0] if received else complete_through
    gaps, settled = [], complete_through
    for seq, committed_at in received:
        if seq > settled + 1:
            if newest - (seq - 1) < WINDOW and now - committed_at < PATIENCE:
                break
            gaps.append(Range(settled + 1, seq - 1))
        settled = max(settled, seq)
    return Look(tuple(gaps), settled)


def without(gap: Range, taken: Iterable[Range]) -> list[Range]:
    """Return what is left of a gap when other ranges are taken out of it, in order."""
    left, start = [], gap.first
    for one in sorted(taken, key=lambda r: r.first):
        if one.last < start or one.first > gap.last:
            continue
        if one.first > start:
            left.append(Range(start, one.first - 1))
        start = max(start, one.last + 1)
    if start <= gap.last:
        left.append(Range(start, gap.last))
    return left


def ranges(numbers: Iterable[int]) -> list[Range]:
    """Return numbers as ranges of neighbours, in order."""
    found: list[Range] = []
    for number in sorted(set(numbers)):
        if found and found[-1].last + 1 == number:
            found[-1] = Range(found[-1].first, number)
        else:
            found.append(Range(number, number))
    return found


def pause_after(requests: int) -> timedelta:
    """Return how long to wait after the n-th request (n from 1) before asking again."""
    return min(FIRST_PAUSE * (1 << min(requests - 1, 20)), LAST_PAUSE)

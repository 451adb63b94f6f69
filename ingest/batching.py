"""When to commit what: batches by size and age, live before backfill. Pure; `now_s` is a monotonic clock's.

A live message that comes while a backfill batch is being committed waits for its end. So the two take turns while both
wait, and a backfill batch is as large as the time for it allows (BackfillPace): short while live messages keep coming.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

# Live goes first, but a backlog that never moved would make its gateways send it again and again.
LIVE_BATCHES_BEFORE_BACKFILL = 16
# For how long a backfill batch may keep the database busy: while live messages come, and while none does.
BACKFILL_TURN_S, BACKFILL_ALONE_S = 0.015, 0.1
LIVE_IS_FLOWING_S = 1.0  # since the last live message
LEAST_BACKFILL_BYTES = 16 * 1024  # where a commit alone takes longer than a turn, the backlog must move nevertheless


@dataclass(slots=True)
class _Lane(Generic[Item]):
    waiting: deque[tuple[Item, int, float]] = field(default_factory=deque)
    waiting_bytes: int = 0


class Batcher(Generic[Item]):
    """Holds what came in, per lane in order of arrival, until a batch is due.

    A batch is due when it has `max_items` or `max_bytes`, or its oldest item has waited `max_age_s`. What is held is
    bounded by the caller, who adds nothing to a lane that `is_full`.
    """

    def __init__(self, *, max_items: int, max_bytes: int, max_age_s: float) -> None:
        self._max_items, self._max_bytes, self._max_age_s = max_items, max_bytes, max_age_s
        self._live: _Lane[Item] = _Lane()
        self._backfill: _Lane[Item] = _Lane()
        self._live_in_a_row = 0
        self._backfill_bytes = max_bytes

    def __len__(self) -> int:
        return len(self._live.waiting) + len(self._backfill.waiting)

    def add(self, item: Item, size_bytes: int, now_s: float, *, is_live: bool) -> None:
        """Add an item of a lane."""
        lane = self._live if is_live else self._backfill
        lane.waiting.append((item, size_bytes, now_s))
        lane.waiting_bytes += size_bytes

    def limit_backfill(self, max_bytes: int) -> None:
        """Make backfill batches smaller than the others, until told otherwise."""
        self._backfill_bytes = min(self._max_bytes, max_bytes)

    def is_full(self, *, is_live: bool) -> bool:
        """Whether a lane has a whole batch; what comes next may wait elsewhere."""
        lane = self._live if is_live else self._backfill
        return len(lane.waiting) >= self._max_items or lane.waiting_bytes >= self._bytes_of(lane)

    def take(self, now_s: float, *, is_draining: bool = False) -> list[Item]:
        """Return the batch to commit now, of one lane, or an empty list; draining, everything is due."""
        live_due = self._is_due(self._live, now_s, is_draining)
        backfill_due = self._is_due(self._backfill, now_s, is_draining)
        is_backfills_turn = self._live_in_a_row >= LIVE_BATCHES_BEFORE_BACKFILL
        # After a backfill batch, live messages need not be due: they would have to wait for the next one as well.
        is_lives_turn = live_due or (backfill_due and self._live_in_a_row == 0 and bool(self._live.waiting))
        if is_lives_turn and not (backfill_due and is_backfills_turn):
            self._live_in_a_row += 1
            return self._cut(self._live)
        self._live_in_a_row = 0
        return self._cut(self._backfill) if backfill_due else []

    def due_in_s(self, now_s: float) -> float | None:
        """Return the seconds until a batch is due by age if nothing more comes; None when nothing waits."""
        arrivals = [lane.waiting[0][2] for lane in (self._live, self._backfill) if lane.waiting]
        return max(0.0, min(arrivals) + self._max_age_s - now_s) if arrivals else None

    def oldest_age_s(self, now_s: float, *, is_live: bool) -> float:
        """Return for how long the oldest item of a lane has waited; 0 when none waits."""
        waiting = (self._live if is_live else self._backfill).waiting
        return now_s - waiting[0][2] if waiting else 0.0

    def waiting(self, *, is_live: bool) -> int:
        """Return how many items of a lane wait."""
        return len((self._live if is_live else self._backfill).waiting)

    def _is_due(self, lane: _Lane[Item], now_s: float, is_draining: bool) -> bool:
        if not lane.waiting:
            return False
        is_old = now_s - lane.waiting[0][2] >= self._max_age_s
        return is_draining or is_old or self.is_full(is_live=lane is self._live)

    def _bytes_of(self, lane: _Lane[Item]) -> int:
        return self._max_bytes if lane is self._live else self._backfill_bytes

    def _cut(self, lane: _Lane[Item]) -> list[Item]:
        batch: list[Item] = []
        taken_bytes = 0
        while lane.waiting and len(batch) < self._max_items and taken_bytes < self._bytes_of(lane):
            item, size_bytes, _ = lane.waiting.popleft()
            batch.append(item)
            taken_bytes += size_bytes
        lane.waiting_bytes -= taken_bytes
        return batch


class BackfillPace:
    """How many bytes of backfill can be committed in the time for it: learnt from the batches before."""

    def __init__(self) -> None:
        self._bytes_per_s = LEAST_BACKFILL_BYTES / BACKFILL_TURN_S
        self._live_came_s = float("-inf")

    def note_live(self, now_s: float) -> None:
        """Note that a live message came."""
        self._live_came_s = now_s

    def note_backfill(self, size_bytes: int, seconds: float) -> None:
        """Note how long the commit of a backfill batch took."""
        self._bytes_per_s += 0.2 * (size_bytes / max(seconds, 1e-6) - self._bytes_per_s)

    def batch_bytes(self, now_s: float) -> int:
        """Return how large a backfill batch may be now."""
        is_live_flowing = now_s - self._live_came_s < LIVE_IS_FLOWING_S
        turn_s = BACKFILL_TURN_S if is_live_flowing else BACKFILL_ALONE_S
        return max(LEAST_BACKFILL_BYTES, int(self._bytes_per_s * turn_s))

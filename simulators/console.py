"""Progress and notices: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LINE_EVERY_S = 2.0


class ProgressBar:
    """Counts towards a total that may still grow."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._began_s = time.monotonic()
        self._line_at_s = self._began_s
        self._bar: Progress | None = None
        if sys.stdout.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console())
            self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        """Show it."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state standing."""
        self.close()

    def close(self) -> None:
        """Leave the last state standing."""
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, total: int | None = None) -> None:
        """Show that `done` of the total are done; the last line is always printed."""
        self._total = self._total if total is None else total
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self._total)
            return
        now_s = time.monotonic()
        is_last = done >= self._total and done != self._done
        if is_last or (now_s >= self._line_at_s and done != self._done):
            share = 100 * done / self._total if self._total else 100.0
            say(f"{self._what} {done:,} of {self._total:,} ({share:.1f} %) after {now_s - self._began_s:.1f} s")
            self._line_at_s = now_s + LINE_EVERY_S
            self._done = done


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def complain(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)

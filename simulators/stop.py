"""Ending in good order on SIGTERM and Ctrl-C."""

import signal
from collections.abc import Callable
from types import FrameType


class Stop:
    """Set by SIGTERM and SIGINT; who runs looks at it, or is told by `on_stop` (called inside the handler)."""

    def __init__(self, on_stop: Callable[[], None] | None = None) -> None:
        self.is_set = False
        self._on_stop = on_stop
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        if self._on_stop is not None:
            self._on_stop()

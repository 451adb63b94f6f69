"""Runs the streams and deals the blows: kills whom the seed says, starts its own streams again, waits for the end."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from simulators.chaos.blows import Blow
from simulators.chaos.processes import Victim, Victims, kill
from simulators.chaos.stream import Order

BACK_WITHIN_S = 90.0  # for a server: its own start, and the supervisor's growing patience before it
SETTLE_S = 5.0  # before the first blow, so that there is something to lose


class StreamProcess:
    """A stream as a child process."""

    def __init__(self, name: str, order: Order, log: Path) -> None:
        self.name, self.order, self._log = name, order, log
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it; its store tells it where it was."""
        self.close()
        words = [sys.executable, "-m", "simulators.chaos.stream"]
        with self._log.open("a") as out:
            self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=out, stderr=out, text=True)
        self._write(self.order.line())

    def tell(self, **command: object) -> None:
        """Give a command."""
        self._write(json.dumps(command))

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End it if it runs, and let go of the way to tell it anything."""
        if self._process is not None:
            self.kill()
            if self._process.stdin is not None:
                with suppress(BrokenPipeError):
                    self._process.stdin.close()

    def exit_code(self) -> int | None:
        """Return the exit code, None while it runs."""
        return None if self._process is None else self._process.poll()

    def _write(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            raise AssertionError("a stream is started before it is told anything")
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise StreamDied(f"{self.name} has ended by itself; see {self._log}") from None


class StreamDied(Exception):
    """A stream ended although nobody killed it."""


@dataclass(slots=True)
class Dealt:
    """What was done in a run."""

    kills: dict[str, int] = field(default_factory=dict)
    cuts: int = 0
    clock_jumps: int = 0
    longest_absence_s: dict[str, float] = field(default_factory=dict)


class Conductor:
    """One run. `tell` gets one fact sheet per blow."""

    def __init__(
        self, streams: list[StreamProcess], victims: Victims | None, tell: Callable[[dict[str, object]], None]
    ) -> None:
        self.streams = {stream.name: stream for stream in streams}
        self.dealt = Dealt()
        self._victims, self._tell = victims, tell
        self._absent: dict[str, tuple[Victim, float]] = {}  # whom we killed, and when
        self._stream_of = {code: stream for stream in streams for code in stream.order.passwords}

    def run(self, blows: list[Blow]) -> None:
        """Start the streams and deal the blows in order."""
        for stream in self.streams.values():
            stream.start()
        self._pause(SETTLE_S)
        for blow in blows:
            self._pause(blow.pause_s)
            self._deal(blow)

    def finish(self, timeout_s: float) -> bool:
        """Let everything be acknowledged; False if that did not happen in time."""
        for stream in self.streams.values():
            stream.tell(do="finish")
        end_s = time.monotonic() + timeout_s
        while any(stream.exit_code() is None for stream in self.streams.values()):
            if time.monotonic() >= end_s:
                return False
            self._look_for_returns()
            time.sleep(0.1)
        return all(stream.exit_code() == 0 for stream in self.streams.values())

    def close(self) -> None:
        """End what is left of the streams."""
        for stream in self.streams.values():
            stream.close()

    def _deal(self, blow: Blow) -> None:
        if blow.kind == "cut":
            self._stream_of[blow.victim].tell(do="cut", gateway=blow.victim)
            self.dealt.cuts += 1
        elif blow.kind == "clock":
            self._stream_of[blow.victim].tell(do="clock", gateway=blow.victim, offset_s=blow.offset_s)
            self.dealt.clock_jumps += 1
        else:
            self._kill(blow.victim)
        self._tell({"blow": blow.kind, "victim": blow.victim, "kills": sum(self.dealt.kills.values())})

    def _kill(self, name: str) -> None:
        if name in self.streams:
            self.streams[name].kill()
            self.streams[name].start()
        elif self._victims is not None:
            self._kill_until_hit(self._victims, name)
        self.dealt.kills[name] = self.dealt.kills.get(name, 0) + 1

    def _kill_until_hit(self, victims: Victims, name: str) -> None:
        """Kill a server's process; one that is away at the moment is waited for, so that every kill hits somebody."""
        while True:
            before = self._absent.get(name)
            victim = victims.wait_for(name, BACK_WITHIN_S, other_than=before[0] if before else None)
            self._look_for_returns()
            if kill(victim):
                self._absent[name] = (victim, time.monotonic())
                return

    def _pause(self, pause_s: float) -> None:
        end_s = time.monotonic() + pause_s
        while (left_s := end_s - time.monotonic()) > 0:
            self._look_for_returns()
            time.sleep(min(0.1, left_s))

    def _look_for_returns(self) -> None:
        """Note for how long each server was away."""
        for name, (victim, killed_at_s) in list(self._absent.items()):
            if self._victims is not None and self._victims.is_back(victim):
                absence_s = round(time.monotonic() - killed_at_s, 1)
                self.dealt.longest_absence_s[name] = max(absence_s, self.dealt.longest_absence_s.get(name, 0.0))
                del self._absent[name]

"""Keep servers and programs alive together, and end them together.

What it starts does not see the terminal's Ctrl-C: the supervisor ends each thing in the reverse order
of the start, so that a program never loses its database before it has stopped. If the supervisor itself
is killed, the kernel ends what it started.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Protocol

from deploy.local.errors import LocalRuntimeError
from deploy.local.folder import FolderLock, log_path, log_tail, write_atomically
from deploy.local.processes import end, spawn, started_at_ticks

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 10.0
HEALTHY_AFTER_S = 30.0
STOP_TIMEOUT_S = 10.0
CHECK_EVERY_S = 0.1
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequested(BaseException):
    """The first SIGINT or SIGTERM; like KeyboardInterrupt, no error handler may swallow it."""


class HurryRequested(BaseException):
    """A second signal while stopping."""


class Keepable(Protocol):
    """What the supervisor keeps alive: Postgres, Broker and ChildProcess have this shape."""

    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def is_running(self) -> bool: ...
    def clear_leftovers(self) -> None: ...


@dataclass(frozen=True)
class Child:
    """A program to run. `env` is added to the caller's environment, `log_path` None is NAME.log."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    log_path: Path | None = None
    restart: bool = True
    cwd: Path | None = None


class ChildProcess:
    """One child: started in a session of its own, stopped with all that it started itself."""

    def __init__(self, child: Child, log: Path) -> None:
        self.child = child
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._group_may_live = False

    @property
    def name(self) -> str:
        """The name of the child, which is also that of its log."""
        return self.child.name

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.is_running() else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return None if self._process is None else self._process.poll()

    def is_running(self) -> bool:
        """Whether the child is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; whether it does its work is for its own health check to tell."""
        self.clear_leftovers()
        env = {**os.environ, **self.child.env}
        self._process = spawn(self.child.argv, self.log, env=env, cwd=self.child.cwd)
        self._group_may_live = True

    def stop(self) -> None:
        """SIGTERM, SIGKILL when that is not enough, and nothing of its session stays."""
        if self._process is not None:
            end(self._process, signal.SIGTERM, STOP_TIMEOUT_S)
        self.clear_leftovers()

    def kill(self) -> None:
        """SIGKILL at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until it ends by itself; its exit code."""
        if self._process is None:
            raise LocalRuntimeError(f"{self.name} was not started")
        return self._process.wait(timeout_s)

    def clear_leftovers(self) -> None:
        """Kill, once, what the child started and left behind in its process group."""
        if self._process is not None and self._group_may_live and not self.is_running():
            self._group_may_live = False
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)


@dataclass
class _Kept:
    """One thing under supervision, with what is needed to restart it at a decent pace."""

    thing: Keepable
    restart: bool
    backoff_s: float = FIRST_BACKOFF_S
    started_at: float = 0.0
    start_again_at: float | None = None
    over: bool = False

    def schedule(self, now: float) -> float:
        """It died at `now`: how long to wait before the next start."""
        if now - self.started_at >= HEALTHY_AFTER_S:
            self.backoff_s = FIRST_BACKOFF_S
        wait_s = self.backoff_s
        self.start_again_at = now + wait_s
        self.backoff_s = min(self.backoff_s * 2, LONGEST_BACKOFF_S)
        return wait_s


class Supervisor:
    """Use it as a context: signals are taken over inside, everything is stopped at its end."""

    def __init__(self, say: Callable[[str], None], folder: Path) -> None:
        self._say = say
        self._folder = folder.resolve()
        self._lock = FolderLock(self._folder)
        self._kept: list[_Kept] = []
        self._stopping = False
        self._starting = False
        self._stop_wanted = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Supervisor":
        self._lock.acquire()
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """A requested stop is an orderly end; every other error goes on to the caller."""
        try:
            self.stop()
        except StopRequested:  # it came between the end of the context and the stop
            self.stop()
        finally:
            for number, handler in self._previous.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            self._lock.release()
        return kind is StopRequested

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One line per step, with the time it took, or a cross when it failed."""
        began = time.monotonic()
        try:
            yield
        except Exception:
            self._say(f"✗ {name}  {time.monotonic() - began:.1f} s")
            raise
        self._say(f"✓ {name}  {time.monotonic() - began:.1f} s")

    def keep(self, server: Keepable, *, restart: bool = True) -> None:
        """Start a server and keep it alive until the end."""
        kept = _Kept(server, restart)
        self._kept.append(kept)  # before the start, so that a stop in the middle of it finds it
        with self._stop_deferred():
            server.start()
        kept.started_at = time.monotonic()
        self._list_processes()

    def start(self, child: Child) -> ChildProcess:
        """Start a program and keep it alive, unless it is one that ends by itself."""
        process = ChildProcess(child, child.log_path or log_path(self._folder, child.name))
        self.keep(process, restart=child.restart)
        return process

    def run_to_end(self, child: Child, timeout_s: float = 600) -> None:
        """Run a program that must end well before the next step, such as the migrations."""
        process = self.start(Child(child.name, child.argv, child.env, child.log_path, False, child.cwd))
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise LocalRuntimeError(f"{child.name} is not done after {timeout_s:.0f} s") from None
        self._kept = [kept for kept in self._kept if kept.thing is not process]
        process.clear_leftovers()
        if code != 0:
            raise LocalRuntimeError(f"{child.name} ended with code {code}; {log_tail(process.log)}")

    def run(self) -> None:
        """Watch over everything until a signal comes (which ends the context)."""
        while True:
            self.check()
            time.sleep(CHECK_EVERY_S)

    def check(self) -> None:
        """Look at everything once; start again what died and whose waiting time is over."""
        for kept in self._kept:
            if not kept.over and not kept.thing.is_running():
                self._attend(kept, time.monotonic())

    def stop(self) -> None:
        """Stop everything in the reverse order of the start; a second signal kills at once."""
        if self._stopping:
            return
        self._stopping = True
        try:
            for kept in reversed(self._kept):
                kept.thing.stop()
                if not kept.over:
                    self._say(f"stopped {kept.thing.name}")
        except HurryRequested:
            self._kill_all()
        self._kept.clear()

    @contextmanager
    def _stop_deferred(self) -> Iterator[None]:
        """A process must not be lost between its birth and its registration; a second signal insists."""
        self._starting = True
        try:
            yield
        finally:
            self._starting = False
        if self._stop_wanted:
            raise StopRequested

    def _kill_all(self) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._say("killing what is left")
        for kept in reversed(self._kept):
            kept.thing.kill()
            kept.thing.clear_leftovers()

    def _attend(self, kept: _Kept, now: float) -> None:
        """A thing is not running: note it, wait, start it again."""
        name = kept.thing.name
        if kept.start_again_at is None:
            kept.thing.clear_leftovers()
        if not kept.restart:
            kept.over = True
            self._say(f"{name} has ended; {self._place_of_log(name)}")
        elif kept.start_again_at is None:
            self._say(f"{name} died; starting it again in {kept.schedule(now):g} s; {self._place_of_log(name)}")
        elif now >= kept.start_again_at:
            self._start_again(kept)

    def _start_again(self, kept: _Kept) -> None:
        kept.start_again_at = None
        try:
            with self.step(f"{kept.thing.name} started again"), self._stop_deferred():
                kept.thing.start()
        except (LocalRuntimeError, OSError) as error:
            self._say(f"{kept.thing.name}: {error}; next attempt in {kept.schedule(time.monotonic()):g} s")
        kept.started_at = time.monotonic()
        self._list_processes()

    def _list_processes(self) -> None:
        """Say in `processes.json` which process is which, for who looks at or breaks this installation.

        The start, in clock ticks since the machine's, tells a process from a later one that got its id.
        """
        running = {kept.thing.name: pid for kept in self._kept if (pid := kept.thing.pid) is not None}
        facts = {name: {"pid": pid, "started": started_at_ticks(pid)} for name, pid in running.items()}
        write_atomically(self._folder / "processes.json", json.dumps(facts, indent=1) + "\n", 0o644)

    def _place_of_log(self, name: str) -> str:
        return f"see {log_path(self._folder, name)}"

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._starting and not self._stop_wanted:
            self._stop_wanted = True
            return
        raise HurryRequested if self._stopping else StopRequested

"""The victims that are not ours: found by name in a JSON file that their supervisor keeps, killed by process id.

The file: {"ingest-1": {"pid": 4711, "started": 123456}, …}; `started` is field 22 of /proc/PID/stat (clock ticks after
the machine's start), so that a process id that was given to a stranger meanwhile is never hit.
"""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.1


class VictimError(Exception):
    """A victim cannot be found; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Victim:
    """A running process."""

    name: str
    pid: int
    started: int


class Victims:
    """The processes that a supervisor keeps alive."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def names(self) -> list[str]:
        """Return who is there, in the order of the file."""
        return list(self._read())

    def wait_for(self, name: str, timeout_s: float, *, other_than: Victim | None = None) -> Victim:
        """Return a running process of this name; after a kill, the one that takes its place."""
        end_s = time.monotonic() + timeout_s
        while True:
            found = self._find(name)
            if found is not None and found != other_than:
                return found
            if time.monotonic() >= end_s:
                raise VictimError(f"{self._file}: no running {name} within {timeout_s:.0f} s; see its log")
            time.sleep(POLL_S)

    def is_back(self, killed: Victim) -> bool:
        """Whether another process runs in the place of one that was killed."""
        found = self._find(killed.name)
        return found is not None and found != killed

    def _find(self, name: str) -> Victim | None:
        entry = self._read().get(name)
        if entry is None or _started(entry["pid"]) != entry["started"]:
            return None
        return Victim(name, entry["pid"], entry["started"])

    def _read(self) -> dict[str, dict[str, int]]:
        try:
            content: dict[str, dict[str, int]] = json.loads(self._file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise VictimError(
                f"{self._file}: no list of processes ({error}); `make run` keeps one as .local/processes.json"
            ) from error
        return content


def kill(victim: Victim) -> bool:
    """SIGKILL; False if the process has ended by itself. The descriptor holds on to the process that was looked at."""
    try:
        descriptor = os.pidfd_open(victim.pid)
    except ProcessLookupError:
        return False
    try:
        if _started(victim.pid) != victim.started:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _started(pid: int) -> int | None:
    """Return when a process was started, None for one that is not there or dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])

"""Start programs that outlive a Ctrl-C in the terminal but not their parent, and end them surely."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.local.folder import rotate_log

# The kernel ties the parent-death signal to the thread that started the child, not to the process:
# one thread that lives as long as this process starts them all, whoever asks.
_STARTER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="process-starter")
_POLL_S = 0.02


def _dying_with_parent(death_signal: signal.Signals) -> tuple[str, ...]:
    """setpriv sets the signal and then becomes the program: the process id stays the same."""
    if shutil.which("setpriv") is None:
        return ()
    return ("setpriv", "--pdeathsig", death_signal.name.removeprefix("SIG"), "--")


def spawn(
    argv: Sequence[str],
    log: Path,
    *,
    prefix: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, its output added to the log.

    `prefix` (a change of account) comes before the death signal, because a change of credentials
    would clear that again.
    """
    rotate_log(log)
    command = [*prefix, *_dying_with_parent(death_signal), *argv]

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )

    return _STARTER.submit(start).result()


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until the condition holds; False when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def end(process: subprocess.Popen[bytes], polite: signal.Signals, timeout_s: float) -> bool:
    """Ask a process to end, insist after the timeout; whether it ended by itself."""
    if process.poll() is None:
        process.send_signal(polite)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


def started_at_ticks(process_id: int) -> int | None:
    """Return when a process was started, in clock ticks since the machine's start; None for one that is gone."""
    try:
        return int(Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except OSError:
        return None


def signal_each(process_ids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to processes, any of which may be gone meanwhile."""
    for process_id in process_ids:
        try:
            os.kill(process_id, number)
        except ProcessLookupError:
            continue


def _works_in(entry: Path, program: str, folder: Path) -> bool:
    """A zombie has no working directory, so it does not count."""
    try:
        return (entry / "comm").read_text().strip() == program and Path(os.readlink(entry / "cwd")) == folder
    except OSError:
        return False


def working_in(folder: Path, program: str) -> list[int]:
    """The processes of a program whose working directory is this folder.

    Each server of a folder has a working directory nobody else has, so this finds a server left
    behind (and a backend whose postmaster was killed), and never a process whose id was reused.
    """
    place = folder.resolve()
    entries = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return sorted(int(entry.name) for entry in entries if _works_in(entry, program, place))


def end_left_behind(folder: Path, program: str, polite: signal.Signals, timeout_s: float) -> list[int]:
    """End the processes that an earlier run left in this folder; returns which ones there were."""
    found = working_in(folder, program)
    if not found:
        return []
    signal_each(found, polite)
    if not wait_until(lambda: not working_in(folder, program), timeout_s):
        signal_each(working_in(folder, program), signal.SIGKILL)
        wait_until(lambda: not working_in(folder, program), 5)
    return found

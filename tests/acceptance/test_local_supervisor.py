"""The supervisor with real servers: what it starts again, and that it leaves nothing behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.folder import log_tail, scratch_folder

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch_folder() as path:
        yield path


def wait_for(condition: Callable[[], Any], timeout_s: float = 10) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def alive(process_id: int) -> bool:
    """A zombie that nobody has waited for yet is dead."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


SCRIPT = """
import sys
from pathlib import Path
from deploy.local.broker import Broker
from deploy.local.folder import local_folder
from deploy.local.ports import kept_ports
from deploy.local.postgres import Postgres
from deploy.local.supervisor import Child, Supervisor
from deploy.local.unpack import ensure_servers

folder = Path(sys.argv[1])
say = lambda line: print(line, flush=True)
with Supervisor(say, folder) as supervisor:
    programs = ensure_servers(local_folder(), say)
    ports = kept_ports(folder, ["postgres", "mosquitto"])
    with supervisor.step("postgres"):
        supervisor.keep(Postgres(programs, folder, ports["postgres"], fast_unsafe=True))
    with supervisor.step("mosquitto"):
        supervisor.keep(Broker(programs, folder, ports["mosquitto"]))
    supervisor.run_to_end(Child("once", [sys.executable, "-c", "print('done')"]))
    child = supervisor.start(Child("child", [sys.executable, "-uc", sys.argv[2]], {"GREETING": "hello"}))
    say(f"child {child.pid}")
    supervisor.run()
"""
FAMILY = """
import os, subprocess, sys, time
print(os.environ["GREETING"])
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
time.sleep(300)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(300)"


class Run:
    """A supervisor in a process of its own, with the processes it has started."""

    def __init__(self, folder: Path, child: str) -> None:
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder), child]
        self.folder = folder
        self.output = folder / "output"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)

    def lines(self) -> list[str]:
        return self.output.read_text().splitlines()

    def wait_for_line(self, start: str) -> None:
        assert wait_for(lambda: any(line.startswith(start) for line in self.lines()), 60), self.lines()

    def session_ids(self) -> set[int]:
        """The children are leaders of sessions; their own children share them."""
        listing = Path(f"/proc/{self.process.pid}/task")
        children = [task / "children" for task in listing.iterdir()]
        return {int(child) for path in children for child in path.read_text().split()}

    def members(self, sessions: set[int]) -> set[int]:
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and alive(int(entry.name)):
                try:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                if int(fields[3]) in sessions:
                    found.add(int(entry.name))
        return found


@pytest.fixture
def start_run(folder: Path) -> Iterator[Callable[[str], Run]]:
    runs: list[Run] = []

    def start(child: str) -> Run:
        runs.append(Run(folder, child))
        runs[-1].wait_for_line("child ")
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait()


def test_ctrl_c_stops_everything_in_reverse_order_and_leaves_nothing(start_run: Callable[[str], Run]) -> None:
    run = start_run(FAMILY)
    assert wait_for(lambda: "hello" in log_tail(run.folder / "logs/child.log"))
    assert "done" in log_tail(run.folder / "logs/once.log")
    sessions = run.session_ids()
    assert len(sessions) == 3
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(15) == 0
    assert [line for line in run.lines() if line.startswith("stopped")] == [
        "stopped child",
        "stopped mosquitto",
        "stopped postgres",
    ]
    assert run.members(sessions) == set()


def test_a_killed_supervisor_leaves_nothing_behind(start_run: Callable[[str], Run]) -> None:
    run = start_run("import time; time.sleep(300)")
    sessions = run.session_ids()
    run.process.kill()
    run.process.wait()
    assert wait_for(lambda: not run.members(sessions))


def test_whatever_dies_is_started_again(start_run: Callable[[str], Run]) -> None:
    run = start_run("import time; time.sleep(300)")
    for victim in run.session_ids():
        os.kill(victim, signal.SIGKILL)
    for name in ("postgres", "mosquitto", "child"):
        run.wait_for_line(f"✓ {name} started again")
    assert len(run.session_ids()) == 3
    run.process.terminate()
    assert run.process.wait(15) == 0


def test_a_second_signal_does_not_wait_for_a_stubborn_child(start_run: Callable[[str], Run]) -> None:
    run = start_run(STUBBORN)
    assert wait_for(lambda: "deaf" in log_tail(run.folder / "logs/child.log"))
    sessions = run.session_ids()
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGINT)
    run.process.wait(5)
    assert wait_for(lambda: not run.members(sessions))


def test_a_second_start_in_the_same_folder_is_refused(start_run: Callable[[str], Run]) -> None:
    run = start_run("import time; time.sleep(300)")
    command = [sys.executable, "-m", "deploy.local", "clean"]
    env = {**os.environ, "NENGHAO_LOCAL_DIR": str(run.folder)}
    refused = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert f"already running in {run.folder} (process {run.process.pid})" in refused.stderr
    assert run.folder.is_dir()

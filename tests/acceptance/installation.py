"""A whole installation for a test: `make run`'s program in a folder of its own, seen only from outside."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.broker import broker_folder
from deploy.local.folder import local_folder
from deploy.local.postgres import data_folder
from deploy.local.processes import working_in

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 120.0
SERVER_FOLDERS = {"postgres": data_folder, "mosquitto": broker_folder}


def wait_for(what: str, found: Callable[[], Any], timeout_s: float) -> Any:
    """Return the first truthy answer; fail with a sentence when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            answer = found()
        except (urllib.error.URLError, OSError, ValueError):
            answer = None
        if answer:
            return answer
        time.sleep(0.25)
    raise AssertionError(f"{what}: not within {timeout_s:.0f} s")


@dataclass
class Installation:
    """One running `make run`, its folder and its key."""

    folder: Path
    speed_up: int = 90
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    lines: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lines = self.folder / "run.out"

    def start(self) -> "Installation":
        """Start it and wait for its greeting."""
        env = {
            **os.environ,
            "NENGHAO_LOCAL_DIR": str(self.folder),
            "NENGHAO_SERVERS_DIR": str(local_folder()),
            "NENGHAO_SPEED_UP": str(self.speed_up),
            **self.environment,
        }
        with self.lines.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.local", "run"], cwd=ROOT, env=env, stdout=out, stderr=out, text=True
            )
        wait_for("the greeting of make run", self._greeted, START_TIMEOUT_S)
        return self

    def _greeted(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"make run ended with {self.process.returncode}:\n{self.lines.read_text()}")
        return "Ctrl-C" in self.lines.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it as a terminal would and return its exit code."""
        if self.process is None:
            raise AssertionError("this installation was not started")
        self.process.send_signal(number)
        return self.process.wait(60)

    @property
    def key(self) -> str:
        """The operator's key."""
        return (self.folder / "secrets" / "operator.key").read_text().strip()

    @property
    def ports(self) -> dict[str, int]:
        """The ports of this installation by name."""
        content: dict[str, int] = json.loads((self.folder / "ports.json").read_text())
        return content

    def get(self, path: str, *, key: str | None = None) -> Any:
        """Return the JSON answer of the API."""
        return self._ask(urllib.request.Request(self._url(path)), key)

    def post(self, path: str, body: object, *, key: str | None = None) -> Any:
        """Post JSON and return the JSON answer."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(self._url(path), data, {"Content-Type": "application/json"}, method="POST")
        return self._ask(request, key)

    def text(self, path: str) -> str:
        """Return the body of a GET as text (pages, metrics)."""
        request = urllib.request.Request(self._url(path), headers={"Authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()

    @property
    def address(self) -> str:
        """The address of the first page."""
        return self._url("/")

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.ports['api']}{path}"

    def _ask(self, request: urllib.request.Request, key: str | None) -> Any:
        request.add_header("Authorization", f"Bearer {key or self.key}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def command(self, *words: str, check: bool = True, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run `nenghao …` or `nenghao-sim …` with the settings of this installation."""
        program = Path(sys.executable).parent / words[0]
        env = {**os.environ, **self.settings()}
        done = subprocess.run(
            [program, *words[1:]], env=env, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def settings(self) -> dict[str, str]:
        """The NENGHAO_* settings that the service's own processes got."""
        pid = self.pids("worker")[0]
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return dict(pair.decode().split("=", 1) for pair in pairs if pair.startswith(b"NENGHAO_"))

    def pids(self, name: str) -> list[int]:
        """Return the process ids of `api`, `worker`, `ingest`, `fleet`, `receiver`, `postgres` or `mosquitto`."""
        if name in SERVER_FOLDERS:
            return working_in(SERVER_FOLDERS[name](self.folder), name)
        words = {
            "api": "app.main:app_factory",
            "worker": "app.worker",
            "ingest": "nenghao-ingest",
            "fleet": "fleet",
            "receiver": "receiver",
        }[name]
        return [pid for pid, line, parent in self._children() if words in line]

    def _children(self) -> list[tuple[int, str, int]]:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError):
                continue
            if self.process is not None and parent == self.process.pid:
                found.append((int(entry.name), line, parent))
        return found

    def everything(self) -> list[int]:
        """Return every process that belongs to this installation, the servers' own children too."""
        started = [pid for pid, _line, _parent in self._children()]
        return sorted({*started, *self.pids("postgres"), *self.pids("mosquitto")})

"""A run of tests or measurements that is ended by SIGTERM leaves no server and no folder behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from deploy.local.postgres import data_folder
from deploy.local.processes import wait_until, working_in
from deploy.local.unpack import ServerPrograms

ROOT = Path(__file__).resolve().parents[2]
WAITING = """
import time

def test_waits(postgres):
    print(postgres.log.parent.parent, flush=True)
    time.sleep(60)
"""


def end(words: list[str], environment: dict[str, str], folder_of: Callable[["subprocess.Popen[str]"], Path]) -> Path:
    """Run a module until its database is there, end it, and return the folder that its servers were in."""
    with subprocess.Popen(
        [sys.executable, "-m", *words], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            folder = folder_of(process)
            assert wait_until(lambda: bool(working_in(data_folder(folder), "postgres")), 30)
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode != 0, said
    assert "KeyboardInterrupt" in said
    assert not working_in(data_folder(folder), "postgres")
    return folder


def test_a_run_of_tests(tmp_path: Path, programs: ServerPrograms) -> None:
    def told(process: "subprocess.Popen[str]") -> Path:
        assert process.stdout is not None
        return next(Path(line.strip()) for line in process.stdout if line.startswith("/"))

    file = tmp_path / "test_waiting.py"
    file.write_text(WAITING)
    words = ["pytest", "-p", "tests.conftest", "-q", "-s", "--rootdir", str(tmp_path), "-c", os.devnull, str(file)]
    assert not end(words, {}, told).exists()


def test_a_run_of_measurements(tmp_path: Path, programs: ServerPrograms) -> None:
    def made(_process: object) -> Path:
        assert wait_until(lambda: any(tmp_path.glob("nenghao-bench-*")), 30)
        return next(tmp_path.glob("nenghao-bench-*")) / "postgres"

    assert not end(["tests.bench", "--only", "copy"], {"TMPDIR": str(tmp_path)}, made).exists()
    assert not any(tmp_path.iterdir())

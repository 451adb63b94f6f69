"""One `nenghao-ingest` for a test or a measurement: the program as it is, with its default settings."""

import os
import re
import secrets
import subprocess
import sys
import urllib.request
from pathlib import Path

from app.broker import ensure_service_account
from app.settings import Settings
from deploy.local.broker import Broker
from deploy.local.ports import free_port
from tests.acceptance.installation import wait_for

PROGRAM = Path(sys.executable).parent / "nenghao-ingest"


def service_settings(url: str, broker: Broker) -> dict[str, str]:
    """Return the settings that `nenghao` needs beside these servers."""
    name, password = broker.admin_credentials
    return {
        "NENGHAO_DATABASE_URL": url,
        "NENGHAO_BROKER_HOST": "127.0.0.1",
        "NENGHAO_BROKER_PORT": str(broker.port),
        "NENGHAO_BROKER_ADMIN_USER": name,
        "NENGHAO_BROKER_ADMIN_PASSWORD": password,
    }


class IngestProcess:
    """Use it as a context: inside, it is subscribed."""

    def __init__(self, url: str, broker: Broker, log: Path) -> None:
        self._url, self._broker, self._log = url, broker, log
        self._metrics_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "IngestProcess":
        name, admin_password = self._broker.admin_credentials
        settings = Settings(
            database_url=self._url,
            broker_port=self._broker.port,
            broker_admin_user=name,
            broker_admin_password=admin_password,
        )
        password = secrets.token_urlsafe(16)
        ensure_service_account(settings, password)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("NENGHAO_")},
            **service_settings(self._url, self._broker),
            "NENGHAO_INGEST_PASSWORD": password,
            "NENGHAO_INGEST_METRICS_PORT": str(self._metrics_port),
        }
        with self._log.open("a") as out:
            self._process = subprocess.Popen([PROGRAM], env=environment, stdout=out, stderr=out)
        wait_for("ingest to subscribe", self._is_receiving, 20)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    @property
    def pid(self) -> int:
        """The process id."""
        if self._process is None:
            raise AssertionError("this process was not started")
        return self._process.pid

    def metrics(self) -> str:
        """Return what it tells Prometheus."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def peak_memory_mib(self) -> float:
        """Return the largest resident memory it has ever had, as the kernel kept it."""
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) / 1024

    def _is_receiving(self) -> bool:
        found = re.findall(r"^nenghao_ingest_is_receiving{.*} (.*)$", self.metrics(), re.MULTILINE)
        return len(found) == 3 and set(found) == {"1.0"}

"""The way of a reading alone: both servers with durability on, ingest, and a site of simulated gateways."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from deploy.local.broker import Broker
from deploy.local.ports import free_port
from deploy.local.postgres import Postgres
from deploy.local.unpack import ServerPrograms
from simulators.chaos.site import site_plan
from simulators.plan import registry
from tests.acceptance.ingest_process import IngestProcess, service_settings

DATABASE = "nenghao"


@dataclass(frozen=True)
class Pipeline:
    """What runs, and the passwords of the site's gateways."""

    folder: Path
    postgres: Postgres
    broker: Broker
    ingest: IngestProcess
    passwords: dict[str, str]

    @property
    def url(self) -> str:
        """The address of the database."""
        return self.postgres.dsn(DATABASE)


def _nenghao(settings: dict[str, str], *words: str) -> None:
    program = Path(sys.executable).parent / "nenghao"
    done = subprocess.run(
        [program, *words], env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"


def _registered(folder: Path, settings: dict[str, str], site: str, gateways: int) -> dict[str, str]:
    file, credentials = folder / "registry.yaml", folder / "credentials.json"
    file.write_text(yaml.safe_dump(registry(site_plan(site, gateways)), allow_unicode=True))
    _nenghao(settings, "migrate")
    _nenghao(settings, "reference", "load")
    _nenghao(settings, "registry", "import", str(file), "--credentials", str(credentials))
    return {one["code"]: one["password"] for one in json.loads(credentials.read_text())["gateways"]}


@contextmanager
def running(programs: ServerPrograms, folder: Path, site: str, gateways: int) -> Iterator[Pipeline]:
    """Start everything in the folder for a site of so many gateways, and stop it."""
    postgres, broker = Postgres(programs, folder, free_port()), Broker(programs, folder, free_port())
    postgres.start()
    try:
        broker.start()
        postgres.ensure_database(DATABASE)
        url = postgres.dsn(DATABASE)
        passwords = _registered(folder, service_settings(url, broker), site, gateways)
        with IngestProcess(url, broker, folder / "ingest.log") as ingest:
            yield Pipeline(folder, postgres, broker, ingest, passwords)
    finally:
        broker.stop()
        postgres.stop()

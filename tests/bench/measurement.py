"""The servers a measurement runs on, and what it returns."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.db import migrations
from deploy.local.broker import Broker
from deploy.local.folder import local_folder
from deploy.local.ports import free_port
from deploy.local.postgres import Postgres
from deploy.local.unpack import ensure_servers

TEMPLATE = "bench_template"


@dataclass(frozen=True, slots=True)
class Measurement:
    """A value with its unit; the yardstick is the name and value of what it is compared with, if anything."""

    value: float
    unit: str
    yardstick: str | None = None
    yardstick_value: float | None = None
    conditions: dict[str, object] = field(default_factory=dict)

    def as_line(self) -> dict[str, object]:
        """Return the public fields of one JSON line."""
        ratio = round(self.value / self.yardstick_value, 4) if self.yardstick_value else None
        return {"value": round(self.value, 1), "unit": self.unit, "yardstick": self.yardstick, "ratio": ratio}


@dataclass
class Bench:
    """Running servers with durability on, as in production, and the results of this run so far."""

    postgres: Postgres
    broker: Broker
    folder: Path
    results: dict[str, Measurement] = field(default_factory=dict)
    _databases: int = 0

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator["Bench"]:
        """Start both servers in a folder of their own and stop them at the end."""
        programs = ensure_servers(local_folder(), lambda _line: None)
        postgres = Postgres(programs, folder / "postgres", free_port())
        broker = Broker(programs, folder / "broker", free_port())
        try:
            postgres.start()
            postgres.ensure_database(TEMPLATE)
            migrations.upgrade(postgres.dsn(TEMPLATE))
            broker.start()
            yield cls(postgres, broker, folder)
        finally:
            broker.stop()
            postgres.stop()

    @contextmanager
    def database(self) -> Iterator[str]:
        """A fresh, migrated, empty database."""
        self._databases += 1
        name = f"bench_{self._databases}"
        self.postgres.clone_database(TEMPLATE, name)
        yield self.postgres.dsn(name)
        self.postgres.drop_database(name)

    def measured(self, name: str, measure: Callable[["Bench"], Measurement]) -> Measurement:
        """Return a measurement of this run, taking it when it was not taken yet."""
        if name not in self.results:
            self.results[name] = measure(self)
        return self.results[name]

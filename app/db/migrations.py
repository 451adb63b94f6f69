"""Bring a database to a schema revision with the migrations that travel with the service."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

_BESIDE_CHECKOUT = Path(__file__).resolve().parents[2] / "alembic"
_IN_PACKAGE = Path(__file__).resolve().parents[1] / "migrations"


def _config(database_url: str) -> Config:
    config = Config()
    folder = _IN_PACKAGE if _IN_PACKAGE.is_dir() else _BESIDE_CHECKOUT
    config.set_main_option("script_location", str(folder))
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Migrate a database up to a revision; several callers at once wait for each other."""
    command.upgrade(_config(database_url), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Migrate a database down to a revision (`base` empties it); data of the dropped tables is gone."""
    command.downgrade(_config(database_url), revision)


@cache
def needed_revision() -> str:
    """Return the revision that the migrations beside this service end at."""
    return ScriptDirectory.from_config(_config("")).get_current_head() or ""


def behind(connection: Connection) -> str | None:
    """Return what a database lacks to serve this version of the service; None when nothing."""
    found = MigrationContext.configure(connection).get_current_revision()
    if found == needed_revision():
        return None
    have = f"at revision {found}" if found else "not migrated"
    return f"the database is {have}, this service needs {needed_revision()}: run nenghao migrate"

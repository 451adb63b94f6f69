"""The schema goes from an empty database to head and back, and lands where it started."""

import psycopg
import pytest

from app.db import migrations
from deploy.local.postgres import Postgres

OBJECTS = """
SELECT c.relkind::text, c.relname, coalesce(pg_get_indexdef(i.indexrelid), '')
FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'alembic%'
ORDER BY 1, 2, 3
"""


def _objects(url: str) -> list[tuple[str, str, str]]:
    with psycopg.connect(url) as connection:
        return connection.execute(OBJECTS).fetchall()


@pytest.fixture
def empty_url(postgres: Postgres) -> str:
    postgres.ensure_database("migrations_there_and_back")
    return postgres.dsn("migrations_there_and_back")


def test_up_down_up_is_the_same_schema(postgres: Postgres, empty_url: str) -> None:
    before = _objects(empty_url)
    migrations.upgrade(empty_url)
    head = _objects(empty_url)
    migrations.downgrade(empty_url, "base")
    assert _objects(empty_url) == before
    migrations.upgrade(empty_url)
    assert _objects(empty_url) == head
    names = {name for _kind, name, _definition in head}
    assert {"reading", "reading_override", "receipt", "quarantine", "stale", "ratio", "alert", "delivery"} <= names
    postgres.drop_database("migrations_there_and_back")

"""Run migrations: one transaction per migration, one migrator at a time, never waiting long for a lock.

The database address comes from NENGHAO_DATABASE_URL or from the caller (`nenghao migrate`, the tests) through the
alembic configuration attribute `database_url`; migrations never import the application.
"""

import os

from alembic import context
from sqlalchemy import create_engine, text

# Any fixed number works; it only has to be the same for every migrator of one database.
MIGRATION_LOCK = 7_230_001


def run() -> None:
    """Apply the chosen migrations online; offline SQL scripts are not supported."""
    if context.is_offline_mode():
        raise RuntimeError("nenghao migrations run against a database; offline SQL is not supported")
    url = context.config.attributes.get("database_url") or os.environ.get("NENGHAO_DATABASE_URL")
    if not url:
        raise RuntimeError("no database address: set NENGHAO_DATABASE_URL, e.g. postgresql://user:pw@host/nenghao")
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(text("SET lock_timeout = '5s'"))
        connection.commit()
        context.configure(connection=connection, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
    engine.dispose()


run()

"""The one way to the database: an engine over psycopg. Transactions are opened at the edges, with engine.begin()."""

from sqlalchemy import Engine, create_engine


def create(database_url: str, *, pool_size: int = 5) -> Engine:
    """Return an engine whose connections talk UTC and give up on a lock after 10 s."""
    url = database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        connect_args={"options": "-c timezone=UTC -c lock_timeout=10s", "connect_timeout": 10},
    )

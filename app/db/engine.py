"""The one way to the database: an engine over psycopg. Transactions are opened at the edges, with engine.begin()."""

from sqlalchemy import Engine, create_engine

# What a server, database or role may have set otherwise: times that the driver cannot read, doubles cut to 15 digits,
# and snapshots of a whole transaction, under which a claim would lose marks.
_SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "default_transaction_isolation": "read\\ committed",
    "lock_timeout": "10s",
}


def create(database_url: str, *, pool_size: int = 5) -> Engine:
    """Return an engine whose connections talk UTC and give up on a lock after 10 s, whatever the server is set to."""
    url = database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        connect_args={
            "options": " ".join(f"-c {name}={value}" for name, value in _SESSION.items()),
            "connect_timeout": 10,
        },
    )

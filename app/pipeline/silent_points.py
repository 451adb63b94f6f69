"""Points that send nothing although their gateway does: a finding while it lasts. Looked for by the clock."""

from datetime import datetime

from sqlalchemy import Engine

from app.db import gaps


def look(engine: Engine, now: datetime) -> int:
    """Open and close findings of silent points; return how many. 0 when another worker is looking."""
    with engine.begin() as connection:
        return gaps.note_silent_points(connection, now) if gaps.try_lock_silence(connection) else 0

"""One gateway at a time: its password and whether it may connect. The registry is asked first, the broker second."""

from sqlalchemy import Engine

from app import broker
from app.db import access, registry
from app.db.scope import CITY
from app.settings import Settings


def _check_known(engine: Engine, code: str) -> None:
    with engine.connect() as connection:
        registry.gateway_in_scope(connection, CITY, code)


def rotate(engine: Engine, settings: Settings, code: str, *, actor: str) -> str:
    """Return a new password of a registered gateway; the old one ends at once. One without account gets one."""
    _check_known(engine, code)
    made = broker.ensure_gateway_accounts(settings, [code])
    password = made.get(code) or broker.rotate_password(settings, code)
    with engine.begin() as connection:
        access.record(connection, actor, "gateway.rotate", code)
    return password


def set_enabled(engine: Engine, settings: Settings, code: str, *, is_enabled: bool, actor: str) -> None:
    """Let a gateway connect and send, or refuse both. Running it again after a failure completes it."""
    _check_known(engine, code)
    with engine.begin() as connection:
        registry.set_gateway_enabled(connection, code, is_enabled=is_enabled)
        access.record(connection, actor, "gateway.enable" if is_enabled else "gateway.disable", code)
    broker.set_enabled(settings, code, is_enabled=is_enabled)

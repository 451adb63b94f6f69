"""Who may see what: principals, their keys, and the audit of what they changed."""

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db.scope import Scope
from app.errors import Conflict, Invalid, NotFound

KEY_PREFIX = "nh_"
KEY_COOKIE = "nenghao_key"  # in which a browser keeps the key of who signed in
ROLES = ("operator", "regulator", "official", "enterprise", "gateway")
MAY_ACKNOWLEDGE = ("operator", "regulator", "official")
# Whoever sees a region's progress; an enterprise has no part in it.
OF_REGIONS = ("operator", "regulator", "official")
# Characters of a key that are kept readable, to tell keys apart in a list: `nh_` and 40 of its 256 bits.
SHOWN_CHARACTERS = 10


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the principal's name and role, the scope of its data, and the id of the key it used."""

    name: str
    role: str
    scope: Scope
    key_id: int = 0


def digest(key: str) -> bytes:
    """Return what is stored of a key. 256 random bits need no slow hash: there is nothing to guess."""
    return hashlib.sha256(key.encode()).digest()


def create_key(
    connection: Connection,
    principal_name: str,
    role: str,
    *,
    district_code: str | None = None,
    enterprise_id: int | None = None,
    expires_at: datetime | None = None,
) -> str:
    """Return a new key of a principal, made with it where the name is new; only its digest is kept.

    A gateway's principal has the gateway's own code as its name: its key sends that gateway's readings, over HTTP.
    A name that is there with another role or scope raises Conflict; an unknown role, district or enterprise, or a
    role without the scope it needs, raises Invalid.
    """
    principal_id = _principal(connection, principal_name, role, district_code, enterprise_id)
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    connection.execute(
        text(
            "INSERT INTO api_key (principal_id, prefix, sha256, expires_at)"
            " VALUES (:principal_id, :prefix, :sha256, :expires_at)"
        ),
        {
            "principal_id": principal_id,
            "prefix": key[:SHOWN_CHARACTERS],
            "sha256": digest(key),
            "expires_at": expires_at,
        },
    )
    return key


def _principal(
    connection: Connection, name: str, role: str, district_code: str | None, enterprise_id: int | None
) -> int:
    _check_scope(connection, name, role, district_code, enterprise_id)
    wanted = {"name": name, "role": role, "district_code": district_code, "enterprise_id": enterprise_id}
    found = connection.execute(
        text(
            "INSERT INTO principal (name, role, district_code, enterprise_id)"
            " VALUES (:name, :role, :district_code, :enterprise_id) ON CONFLICT (name) DO UPDATE SET name = :name"
            " RETURNING id, role, district_code, enterprise_id"
        ),
        wanted,
    ).one()
    if tuple(found[1:]) != (role, district_code, enterprise_id):
        raise Conflict(
            f"principal {name!r} exists as {found.role} with another scope: choose another name",
            detail_zh=f"主体“{name}”已存在，角色为 {found.role}，范围不同：请换一个名称",
        )
    return int(found.id)


def _check_scope(
    connection: Connection, name: str, role: str, district_code: str | None, enterprise_id: int | None
) -> None:
    if role not in ROLES:
        raise Invalid(f"role {role!r} is unknown: use one of {', '.join(ROLES)}", detail_zh=f"没有角色 {role}")
    if not name.isprintable():
        raise Invalid(
            "a name has no line breaks or invisible characters: it is what the audit shows",
            detail_zh="名称不能含换行或不可见字符",
        )
    # An operator of one district could make itself a key for the city: keys, imports and releases know no districts.
    if (role == "official") != (district_code is not None):
        raise Invalid(
            "a district_code goes with the role official, and only with it",
            detail_zh="district_code 仅用于且必须用于角色 official",
        )
    if (role == "enterprise") != (enterprise_id is not None):
        raise Invalid(
            "an enterprise_id goes with the role enterprise, and only with it",
            detail_zh="enterprise_id 仅用于且必须用于角色 enterprise",
        )
    gateway_code = name if role == "gateway" else None
    for table, column, value in (
        ("district", "code", district_code), ("enterprise", "id", enterprise_id), ("gateway", "code", gateway_code)
    ):  # fmt: skip
        known = text(f"SELECT 1 FROM {table} WHERE {column} = :value")
        if value is not None and connection.execute(known, {"value": value}).first() is None:
            raise Invalid(f"{table} {value!r} is not in the registry", detail_zh=f"登记中没有 {table} {value}")


def authenticate(connection: Connection, key: str, now: datetime) -> Caller | None:
    """Return the caller that a key stands for; None for a key that is unknown, expired or revoked, or whose principal
    is switched off: the four are not told apart. Notes the use, at most once a minute and without waiting. From here
    on `now` is the present of the caller's transaction: it decides which district an enterprise belongs to.
    """
    row = connection.execute(
        text(
            "SELECT k.id, p.name, p.role, p.district_code, p.enterprise_id,"
            " set_config('nenghao.now', CAST(CAST(:now AS timestamptz) AS text), true),"
            " k.last_used_at IS NULL OR k.last_used_at < :now - interval '1 minute' AS is_due"
            " FROM api_key k JOIN principal p ON p.id = k.principal_id"
            " WHERE k.sha256 = :sha256 AND k.revoked_at IS NULL AND p.is_enabled"
            " AND (k.expires_at IS NULL OR k.expires_at > :now)"
        ),
        {"sha256": digest(key), "now": now},
    ).first()
    if row is None:
        return None
    if row.is_due:
        _note_use(connection, row.id, now)
    return Caller(row.name, row.role, Scope(row.district_code, row.enterprise_id), row.id)


def _note_use(connection: Connection, key_id: int, now: datetime) -> None:
    connection.execute(
        text(
            "UPDATE api_key SET last_used_at = :now"
            " WHERE id IN (SELECT id FROM api_key WHERE id = :id FOR UPDATE SKIP LOCKED)"
        ),
        {"now": now, "id": key_id},
    )


def list_keys(connection: Connection) -> list[dict[str, Any]]:
    """Return every key without its secret, newest first."""
    rows = connection.execute(
        text(
            "SELECT k.id, k.prefix, p.name, p.role, p.district_code, p.enterprise_id, p.is_enabled,"
            " k.created_at, k.expires_at, k.last_used_at, k.revoked_at"
            " FROM api_key k JOIN principal p ON p.id = k.principal_id ORDER BY k.id DESC"
        )
    ).mappings()
    return [dict(row) for row in rows]


def find_key(connection: Connection, key: str) -> dict[str, Any]:
    """Return a key's row by its secret, as in `list_keys`."""
    key_id = connection.execute(
        text("SELECT id FROM api_key WHERE sha256 = :sha256"), {"sha256": digest(key)}
    ).scalar_one()
    return next(row for row in list_keys(connection) if row["id"] == key_id)


def revoke_key(connection: Connection, key_id: int, now: datetime) -> None:
    """End a key; a second time changes nothing. An unknown id raises NotFound."""
    changed = connection.execute(
        text("UPDATE api_key SET revoked_at = coalesce(revoked_at, :now) WHERE id = :id"),
        {"now": now, "id": key_id},
    )
    if changed.rowcount == 0:
        raise NotFound(f"there is no key {key_id}", detail_zh=f"没有密钥 {key_id}")


def record(connection: Connection, actor: str, action: str, subject: str, detail: dict[str, Any] | None = None) -> None:
    """Append to the audit who did what to what; the caller's transaction holds the change itself."""
    connection.execute(
        text(
            "INSERT INTO audit (actor, action, subject, detail)"
            " VALUES (:actor, :action, :subject, CAST(:detail AS jsonb))"
        ),
        {
            "actor": actor,
            "action": action,
            "subject": subject,
            "detail": json.dumps(detail or {}, ensure_ascii=False, default=str),
        },
    )


def list_audit(
    connection: Connection, *, limit: int, before_id: int | None = None, actor: str | None = None
) -> list[dict[str, Any]]:
    """Return audit entries, newest first, below an id."""
    rows = connection.execute(
        text(
            "SELECT id, at, actor, action, subject, detail FROM audit"
            " WHERE (CAST(:before AS bigint) IS NULL OR id < :before)"
            " AND (CAST(:actor AS text) IS NULL OR actor = :actor) ORDER BY id DESC LIMIT :limit"
        ),
        {"before": before_id, "actor": actor, "limit": limit},
    ).mappings()
    return [dict(row) for row in rows]

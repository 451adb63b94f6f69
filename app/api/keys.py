"""Keys: who may call, made and ended by operators; and the audit of what was changed."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app.api.access import Caller, Now, Transaction, allow
from app.api.shapes import MAX_ID, Answer, Cursor, Id, Instant, Limit, decode_cursor, next_cursor
from app.db import access
from app.errors import Invalid
from app.intake.registry_file import Moment

router = APIRouter(prefix="/api/v1", tags=["keys"])
Role = Literal["operator", "regulator", "official", "enterprise", "gateway"]


class Key(Answer):
    """A key without its secret."""

    id: int = Field(examples=[3])
    prefix: str = Field(description="how the key begins", examples=["nh_7Gk2mQx"])
    name: str = Field(description="principal", examples=["蓟州区值班"])
    role: Role
    district_code: str | None = Field(description="null: the whole city", examples=["120119"])
    enterprise_id: int | None
    is_enabled: bool
    created_at: Instant
    expires_at: Instant | None
    last_used_at: Instant | None = Field(description="to the minute")
    revoked_at: Instant | None


class NewKey(Answer):
    """Whose key to make; the principal is made with it where the name is new."""

    name: str = Field(min_length=1, max_length=100, examples=["蓟州区值班"])
    role: Role = Field(examples=["official"])
    district_code: str | None = Field(None, pattern=r"^\d{6}$", examples=["120119"])
    enterprise_id: int | None = Field(None, ge=1, le=MAX_ID)
    expires_at: Moment | None = Field(None, examples=["2027-10-01T00:00:00+08:00"])


class MadeKey(Key):
    """A new key; this is the only time its secret is shown."""

    key: str = Field(examples=["nh_7Gk2mQxN…"])


class AuditEntry(Answer):
    """Who did what to what, when."""

    id: int
    at: Instant
    actor: str = Field(examples=["operator"])
    action: str = Field(examples=["alert.acknowledge"])
    subject: str = Field(examples=["alert/41"])
    detail: dict[str, Any]


class AuditPage(Answer):
    """One page of the audit, newest first."""

    items: list[AuditEntry]
    next_cursor: str | None


@router.get("/keys", response_model=list[Key], summary="List keys 密钥列表")
def list_keys(caller: Annotated[Caller, Depends(allow("operator"))], connection: Transaction) -> list[dict[str, Any]]:
    """Every key without its secret, newest first."""
    return access.list_keys(connection)


@router.post("/keys", response_model=MadeKey, status_code=201, summary="Make a key 新建密钥")
def create_key(
    body: NewKey, caller: Annotated[Caller, Depends(allow("operator"))], connection: Transaction, now: Now
) -> dict[str, Any]:
    """256 random bits; only their SHA-256 is kept."""
    if body.expires_at is not None and body.expires_at <= now:
        raise Invalid("expires_at has passed: choose a later instant", detail_zh="expires_at 已过：请选更晚的时刻")
    key = access.create_key(
        connection,
        body.name,
        body.role,
        district_code=body.district_code,
        enterprise_id=body.enterprise_id,
        expires_at=body.expires_at,
    )
    made = access.find_key(connection, key)
    detail = body.model_dump(mode="json") | {"prefix": made["prefix"]}
    access.record(connection, caller.name, "key.create", f"key/{made['id']}", detail)
    return {**made, "key": key}


@router.delete("/keys/{key_id}", status_code=204, response_model=None, summary="Revoke a key 撤销密钥")
def revoke_key(
    key_id: Id, caller: Annotated[Caller, Depends(allow("operator"))], connection: Transaction, now: Now
) -> None:
    """At once and for good; a second time changes nothing."""
    access.revoke_key(connection, key_id, now)
    access.record(connection, caller.name, "key.revoke", f"key/{key_id}")


@router.get("/audit", response_model=AuditPage, summary="Audit 审计")
def list_audit(
    caller: Annotated[Caller, Depends(allow("operator"))],
    connection: Transaction,
    actor: Annotated[str | None, Query(max_length=100)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Newest first."""
    rows = access.list_audit(connection, limit=limit + 1, before_id=decode_cursor(cursor), actor=actor)
    return {"next_cursor": next_cursor(rows, limit), "items": rows}

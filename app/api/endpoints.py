"""Endpoints: where notices are sent, signed by the Standard Webhooks specification."""

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from app.api.access import Caller, Now, Transaction, allow
from app.api.shapes import Answer, Id, Instant
from app.db import access
from app.db import deliveries as outbox
from app.domain import webhook
from app.errors import NotFound

router = APIRouter(prefix="/api/v1/endpoints", tags=["endpoints"])
SECRET_BYTES = 32


class Endpoint(Answer):
    """An endpoint without its secret, and what waits for it."""

    id: int = Field(examples=[2])
    name: str = Field(examples=["jizhou-duty"])
    url: str = Field(examples=["https://notices.jizhou.example/nenghao"])
    district_code: str | None = Field(description="null: notices of the whole city", examples=["120119"])
    kinds: list[str] = Field(description="patterns of event kinds", examples=[["alert.*"]])
    is_enabled: bool
    disabled_reason: str | None
    created_at: Instant
    previous_until: Instant | None = Field(description="until then the secret before this one signs too")
    pending: int = Field(description="deliveries that wait", examples=[0])
    dead: int = Field(description="deliveries given up; replay them", examples=[0])
    last_delivered_at: Instant | None


class NewEndpoint(Answer):
    """Where to send which notices."""

    name: str = Field(min_length=1, max_length=100, examples=["jizhou-duty"])
    url: str = Field(max_length=2000, examples=["https://notices.jizhou.example/nenghao"])
    district_code: str | None = Field(None, pattern=r"^\d{6}$", examples=["120119"])
    kinds: list[Annotated[str, Field(pattern=r"^[a-z_.*]{1,60}$")]] = Field(
        ["alert.*"], min_length=1, max_length=20, examples=[["alert.*"]]
    )
    secret: str | None = Field(None, max_length=200, description="whsec_…; left out: the service makes one")


class EndpointSecret(Answer):
    """The secret; this is the only time it is shown."""

    id: int = Field(examples=[2])
    secret: str = Field(description="verifies webhook-signature", examples=["whsec_…"])
    previous_until: Instant | None = Field(None, description="until then the secret before it signs too")


class EndpointChange(Answer):
    """Switch an endpoint on or off; what waits stays and goes out when it is on again."""

    is_enabled: bool
    reason: str | None = Field(None, max_length=500, examples=["接收端停机维护"])


class TestDelivery(Answer):
    """A test notice on its way; look at the delivery for the outcome."""

    delivery_id: int = Field(examples=[77])
    event_id: str


Operator = Annotated[Caller, Depends(allow("operator"))]


@router.get("", response_model=list[Endpoint], summary="List endpoints 端点列表")
def list_endpoints(caller: Operator, connection: Transaction) -> list[dict[str, Any]]:
    """Every endpoint, never its secret."""
    return outbox.list_endpoints(connection)


@router.post("", response_model=EndpointSecret, status_code=201, summary="Add an endpoint 新增端点")
def create_endpoint(body: NewEndpoint, caller: Operator, connection: Transaction) -> dict[str, Any]:
    """The answer shows the secret this once. Private addresses need NENGHAO_WEBHOOK_ALLOWED_NETWORKS."""
    secret = body.secret or webhook.write_secret(secrets.token_bytes(SECRET_BYTES))
    endpoint_id = outbox.add_endpoint(
        connection,
        name=body.name,
        url=body.url,
        secret=secret,
        district_code=body.district_code,
        kinds=body.kinds,
    )
    detail = body.model_dump(exclude={"secret"})
    access.record(connection, caller.name, "endpoint.create", f"endpoint/{endpoint_id}", detail)
    return {"id": endpoint_id, "secret": secret}


@router.get("/{endpoint_id}", response_model=Endpoint, summary="One endpoint 端点详情")
def get_endpoint(endpoint_id: Id, caller: Operator, connection: Transaction) -> dict[str, Any]:
    """Without its secret."""
    return _one(connection, endpoint_id)


@router.patch("/{endpoint_id}", response_model=Endpoint, summary="Switch an endpoint on or off 启停端点")
def change_endpoint(endpoint_id: Id, body: EndpointChange, caller: Operator, connection: Transaction) -> dict[str, Any]:
    """An endpoint is switched off, not deleted: its deliveries are evidence."""
    outbox.set_enabled(connection, endpoint_id, is_enabled=body.is_enabled, reason=body.reason)
    access.record(connection, caller.name, "endpoint.change", f"endpoint/{endpoint_id}", body.model_dump())
    return _one(connection, endpoint_id)


@router.post("/{endpoint_id}/secret", response_model=EndpointSecret, summary="Rotate the secret 轮换密钥")
def rotate_secret(endpoint_id: Id, caller: Operator, connection: Transaction, now: Now) -> dict[str, Any]:
    """Both secrets sign for a day, so that the receiver can change over. The answer shows the new one this once."""
    secret = webhook.write_secret(secrets.token_bytes(SECRET_BYTES))
    until = outbox.rotate(connection, endpoint_id, secret, now)
    access.record(connection, caller.name, "endpoint.rotate", f"endpoint/{endpoint_id}")
    return {"id": endpoint_id, "secret": secret, "previous_until": until}


@router.post("/{endpoint_id}/test", response_model=TestDelivery, status_code=202, summary="Send a test notice 测试")
def test_endpoint(endpoint_id: Id, caller: Operator, connection: Transaction, now: Now) -> dict[str, Any]:
    """Goes the way of every notice (same queue, signature, address check), so that a test that arrives means that
    notices arrive.
    """
    delivery_id, event_id = outbox.write_test(connection, endpoint_id, now)
    access.record(connection, caller.name, "endpoint.test", f"endpoint/{endpoint_id}")
    return {"delivery_id": delivery_id, "event_id": event_id}


def _one(connection: Transaction, endpoint_id: int) -> dict[str, Any]:
    for row in outbox.list_endpoints(connection):
        if row["id"] == endpoint_id:
            return row
    raise NotFound(f"there is no endpoint {endpoint_id}", detail_zh=f"没有端点 {endpoint_id}")

"""The outbox: events, the endpoints that are told, and how far each delivery has come."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from app.db.scope import CITY, Scope
from app.domain import notice, webhook
from app.domain.calendar import BUSINESS_ZONE
from app.domain.webhook import NextStep, Outcome
from app.errors import Conflict, Invalid, NotFound

# At most so many attempts to one endpoint are under way at a time, over all workers: a dead one holds up nobody else.
IN_FLIGHT_PER_ENDPOINT = 2
TEST_KIND = "endpoint.test"


def write_event(
    connection: Connection,
    *,
    kind: str,
    alert_id: int | None,
    district_code: str | None,
    enterprise_id: int | None,
    payload: str,
    now: datetime,
) -> int:
    """Write an event and a delivery to every endpoint that wants it, in the caller's transaction; return how many.

    An endpoint without a district hears the whole city; kinds are patterns such as alert.*.
    """
    event_id = _insert_event(connection, kind, payload, now, alert_id, district_code, enterprise_id)
    return connection.execute(
        text(
            "INSERT INTO delivery (event_id, endpoint_id, next_attempt_at) SELECT :event, id, :now FROM endpoint"
            " WHERE is_enabled AND (district_code IS NULL OR district_code = :district) AND EXISTS ("
            "SELECT 1 FROM unnest(kinds) AS k WHERE :kind LIKE replace(replace(k, '_', '\\_'), '*', '%'))"
        ),
        {"event": event_id, "kind": kind, "district": district_code, "now": now},
    ).rowcount


def district_told(connection: Connection, alert_id: int) -> str | None:
    """Return the district whose officials were told that an alert began; None where the city alone was."""
    district: str | None = connection.execute(
        text(
            "SELECT district_code FROM event WHERE alert_id = :alert AND kind = 'alert.opened'"
            " ORDER BY occurred_at LIMIT 1"
        ),
        {"alert": alert_id},
    ).scalar()
    return district


def _insert_event(
    connection: Connection,
    kind: str,
    payload: str,
    now: datetime,
    alert_id: int | None = None,
    district_code: str | None = None,
    enterprise_id: int | None = None,
) -> str:
    """Write an event and return its id: random, and the webhook-id of its deliveries."""
    event_id = f"evt_{secrets.token_hex(16)}"
    connection.execute(
        text(
            "INSERT INTO event (id, kind, alert_id, district_code, enterprise_id, payload, occurred_at)"
            " VALUES (:id, :kind, :alert, :district, :enterprise, :payload, :now)"
        ),
        {
            "id": event_id,
            "kind": kind,
            "alert": alert_id,
            "district": district_code,
            "enterprise": enterprise_id,
            "payload": payload,
            "now": now,
        },
    )
    return event_id


@dataclass(frozen=True, slots=True)
class Attempt:
    """A leased delivery: what to send where, and the number of this attempt (from 1)."""

    delivery_id: int
    endpoint_id: int
    attempts: int
    event_id: str
    payload: bytes
    url: str
    secrets: tuple[str, ...]


# Per endpoint only as many as may still be in flight; first attempts go before repeated ones, which may be slow.
_CLAIM = (
    "WITH due AS MATERIALIZED (SELECT x.id FROM endpoint e CROSS JOIN LATERAL ("
    "SELECT d.id, d.attempts, d.next_attempt_at FROM delivery d WHERE d.endpoint_id = e.id AND d.state = 'pending'"
    " AND d.next_attempt_at <= :now AND (d.leased_until IS NULL OR d.leased_until < :now)"
    " ORDER BY d.next_attempt_at LIMIT greatest(0, :per_endpoint - (SELECT count(*) FROM delivery f"
    " WHERE f.endpoint_id = e.id AND f.state = 'pending' AND f.leased_until >= :now)) FOR UPDATE SKIP LOCKED"
    ") x WHERE e.is_enabled AND e.id <> ALL(:busy) ORDER BY x.attempts > 0, x.next_attempt_at LIMIT :limit)"
    " UPDATE delivery d SET leased_until = :leased_until, attempts = d.attempts + 1 FROM due, endpoint e, event v"
    " WHERE d.id = due.id AND e.id = d.endpoint_id AND v.id = d.event_id"
    " RETURNING d.id, d.endpoint_id, d.attempts, v.id, v.payload, e.url, e.secret,"
    " CASE WHEN e.previous_until > :now THEN e.previous_secret END"
)


def claim_due(
    connection: Connection, now: datetime, *, limit: int, lease: timedelta, busy: Sequence[int] = ()
) -> list[Attempt]:
    """Lease due deliveries and count the attempt; a lease that runs out without an outcome is sent again.

    busy: endpoints to which this process already has as many attempts under way as are allowed.
    """
    rows = connection.execute(
        text(_CLAIM),
        {
            "now": now,
            "leased_until": now + lease,
            "limit": limit,
            "busy": list(busy),
            "per_endpoint": IN_FLIGHT_PER_ENDPOINT,
        },
    )
    return [_attempt(row) for row in rows]


def _attempt(row: Any) -> Attempt:
    delivery_id, endpoint_id, attempts, event_id, payload, url, secret, previous = row
    keys = (secret,) if previous is None else (secret, previous)
    return Attempt(delivery_id, endpoint_id, attempts, event_id, payload.encode(), url, keys)


def record(connection: Connection, attempt: Attempt, step: NextStep, status: int | None, now: datetime) -> None:
    """Write down what came of an attempt. A late outcome of an attempt whose lease was taken over changes nothing,
    unless it was received: received is received."""
    state = {Outcome.DELIVERED: "delivered", Outcome.RETRY: "pending"}.get(step.outcome, "dead")
    connection.execute(
        text(
            "UPDATE delivery SET state = :state, leased_until = NULL, last_status = :status, last_error = :error,"
            " next_attempt_at = coalesce(:next_at, next_attempt_at),"
            " delivered_at = CASE WHEN :state = 'delivered' THEN CAST(:now AS timestamptz) END"
            " WHERE id = :id AND state = 'pending' AND (attempts = :attempts OR :state = 'delivered')"
        ),
        {
            "id": attempt.delivery_id,
            "attempts": attempt.attempts,
            "state": state,
            "status": status,
            "error": step.error,
            "next_at": step.next_attempt_at,
            "now": now,
        },
    )
    if step.outcome is Outcome.GONE:
        connection.execute(
            text("UPDATE endpoint SET is_enabled = false, disabled_reason = :reason WHERE id = :id AND is_enabled"),
            {"id": attempt.endpoint_id, "reason": "the receiver answered 410 Gone: it wants no more notices"},
        )


def add_endpoint(
    connection: Connection,
    *,
    name: str,
    url: str,
    secret: str,
    district_code: str | None = None,
    kinds: Sequence[str] = ("alert.*",),
) -> int:
    """Add an endpoint and return its id; an address, a secret or kinds that cannot work raise Invalid."""
    _check(url, secret, kinds)
    row = connection.execute(
        text(
            "INSERT INTO endpoint (name, url, secret, district_code, kinds) SELECT :name, :url, :secret, :district,"
            " :kinds WHERE CAST(:district AS text) IS NULL OR EXISTS (SELECT 1 FROM district WHERE code = :district)"
            " ON CONFLICT (name) DO NOTHING RETURNING id"
        ),
        {"name": name, "url": url, "secret": secret, "district": district_code, "kinds": list(kinds)},
    ).scalar()
    if row is not None:
        return int(row)
    if connection.execute(text("SELECT 1 FROM endpoint WHERE name = :name"), {"name": name}).first():
        raise Conflict(
            f"there is an endpoint named {name!r} already: rotate its secret or choose another name",
            detail_zh=f"已有名为“{name}”的端点：请轮换其密钥或换一个名称",
        )
    raise Invalid(
        f"district {district_code!r} is not in the table of districts",
        detail_zh=f"没有区 {district_code}",
        errors=[_breach("district_code", "unknown")],
    )


def _check(url: str, secret: str, kinds: Sequence[str]) -> None:
    problems = []
    given = [("url", webhook.parse_target, url), ("secret", webhook.parse_secret, secret)]
    given += [("kinds", webhook.parse_kind, pattern) for pattern in kinds]
    for place, check, value in given:
        try:
            check(value)
        except ValueError as error:
            problems.append(_breach(place, str(error)))
    if problems:
        found = "; ".join(problem["message"] for problem in problems)
        raise Invalid(found, detail_zh=f"端点的地址、密钥或事件种类不可用：{found}", errors=problems)


def _breach(location: str, message: str) -> dict[str, str]:
    """Return one entry of a problem's `errors`."""
    return {"location": location, "message": message}


def rotate(connection: Connection, endpoint_id: int, secret: str, now: datetime) -> datetime:
    """Give an endpoint a new secret; both sign until the instant returned, so that the receiver can change over.

    Only two sign: a second rotation before that would silence the secret that the receiver may still have (a form sent
    twice is enough), so it raises Conflict.
    """
    try:
        webhook.parse_secret(secret)
    except ValueError as error:
        fault = str(error)
        raise Invalid(fault, detail_zh=f"密钥不可用：{fault}", errors=[_breach("secret", fault)]) from error
    until = now + webhook.ROTATION_OVERLAP
    changed = connection.execute(
        text(
            "UPDATE endpoint SET previous_secret = secret, previous_until = :until, secret = :secret"
            " WHERE id = :id AND (previous_until IS NULL OR previous_until <= :now)"
        ),
        {"id": endpoint_id, "secret": secret, "until": until, "now": now},
    )
    if changed.rowcount:
        return until
    known = connection.execute(text("SELECT previous_until FROM endpoint WHERE id = :id"), {"id": endpoint_id}).scalar()
    if known is None:
        raise _no_endpoint(endpoint_id)
    shown = known.astimezone(BUSINESS_ZONE).isoformat(timespec="seconds")
    raise Conflict(
        f"endpoint {endpoint_id} is changing its secret: two sign until {shown}, a third would end the first. If the"
        " new one is lost or leaked, switch this endpoint off and add another",
        detail_zh=f"端点 {endpoint_id} 正在轮换密钥：至 {shown} 两个密钥同时有效。新密钥若丢失或泄露，请停用后新建端点",
    )


def set_enabled(connection: Connection, endpoint_id: int, *, is_enabled: bool, reason: str | None = None) -> None:
    """Switch an endpoint on or off; what waits for it stays, and goes out when it is on again."""
    changed = connection.execute(
        text("UPDATE endpoint SET is_enabled = :enabled, disabled_reason = :reason WHERE id = :id"),
        {"id": endpoint_id, "enabled": is_enabled, "reason": None if is_enabled else reason},
    )
    if changed.rowcount == 0:
        raise _no_endpoint(endpoint_id)


def _no_endpoint(endpoint_id: int) -> NotFound:
    return NotFound(f"there is no endpoint {endpoint_id}", detail_zh=f"没有端点 {endpoint_id}")


def list_endpoints(connection: Connection) -> list[dict[str, Any]]:
    """Return all endpoints with what waits for them; never their secrets."""
    rows = connection.execute(
        text(
            "SELECT e.id, e.name, e.url, e.district_code, e.kinds, e.is_enabled, e.disabled_reason, e.created_at,"
            " e.previous_until, count(d.id) FILTER (WHERE d.state = 'pending') AS pending,"
            " count(d.id) FILTER (WHERE d.state = 'dead') AS dead, max(d.delivered_at) AS last_delivered_at"
            " FROM endpoint e LEFT JOIN delivery d ON d.endpoint_id = e.id GROUP BY e.id ORDER BY e.id"
        )
    ).mappings()
    return [dict(row) for row in rows]


def list_deliveries(
    connection: Connection,
    scope: Scope = CITY,
    *,
    limit: int = 100,
    before_id: int | None = None,
    state: str | None = None,
    endpoint_id: int | None = None,
    alert_id: int | None = None,
) -> list[dict[str, Any]]:
    """Return deliveries of events about enterprises in the scope, newest first, below an id.

    Events about no enterprise (tests) are shown to the whole city's scope only.
    """
    rows = connection.execute(
        text(
            "SELECT d.id, d.event_id, v.kind, v.alert_id, v.occurred_at, d.endpoint_id, p.name AS endpoint_name,"
            " d.state, d.attempts, d.next_attempt_at, d.last_status, d.last_error, d.delivered_at"
            " FROM delivery d JOIN event v ON v.id = d.event_id JOIN endpoint p ON p.id = d.endpoint_id"
            f" LEFT JOIN enterprise e ON e.id = v.enterprise_id WHERE {scope.enterprises_sql()}"
            " AND (CAST(:before AS bigint) IS NULL OR d.id < :before)"
            " AND (CAST(:state AS text) IS NULL OR d.state = :state)"
            " AND (CAST(:endpoint AS bigint) IS NULL OR d.endpoint_id = :endpoint)"
            " AND (CAST(:alert AS bigint) IS NULL OR v.alert_id = :alert) ORDER BY d.id DESC LIMIT :limit"
        ),
        {
            "before": before_id,
            "state": state,
            "endpoint": endpoint_id,
            "alert": alert_id,
            "limit": limit,
            **scope.parameters(),
        },
    ).mappings()
    return [dict(row) for row in rows]


def replay(connection: Connection, delivery_id: int, now: datetime) -> None:
    """Send a delivery again from the first attempt on, with the same webhook-id; one under way raises Conflict."""
    changed = connection.execute(
        text(
            "UPDATE delivery SET state = 'pending', attempts = 0, next_attempt_at = :now, leased_until = NULL,"
            " delivered_at = NULL WHERE id = :id AND (leased_until IS NULL OR leased_until < :now)"
        ),
        {"id": delivery_id, "now": now},
    )
    if changed.rowcount:
        return
    if connection.execute(text("SELECT 1 FROM delivery WHERE id = :id"), {"id": delivery_id}).first():
        raise Conflict(
            f"delivery {delivery_id} is being sent right now: wait for its outcome",
            detail_zh=f"投递 {delivery_id} 正在发送：请等待结果",
        )
    raise NotFound(f"there is no delivery {delivery_id}", detail_zh=f"没有投递 {delivery_id}")


def write_test(connection: Connection, endpoint_id: int, now: datetime) -> tuple[int, str]:
    """Write a test event with a delivery to one endpoint; return the delivery's id and the event's."""
    if not connection.execute(text("SELECT 1 FROM endpoint WHERE id = :id"), {"id": endpoint_id}).first():
        raise _no_endpoint(endpoint_id)
    event_id = _insert_event(connection, TEST_KIND, notice.body(TEST_KIND, notice.TEST, now), now)
    delivery_id = connection.execute(
        text(
            "INSERT INTO delivery (event_id, endpoint_id, next_attempt_at) VALUES (:event, :endpoint, :now)"
            " RETURNING id"
        ),
        {"event": event_id, "endpoint": endpoint_id, "now": now},
    ).scalar_one()
    return int(delivery_id), event_id

"""Events of points as they were entered: who, when, why. What they did stands in the registry's dated rows."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db.scope import Scope

COMMON = ("gateway", "point", "at", "kind", "reason", "evidence")


def insert(
    connection: Connection,
    point_id: int,
    kind: str,
    at: datetime,
    stated: Mapping[str, Any],
    *,
    actor: str,
    now: datetime,
) -> None:
    """Append an event; `stated` is the event as it was entered, with its `reason` and `evidence`."""
    connection.execute(
        text(
            "INSERT INTO point_event (point_id, kind, at, stated, actor, reason, evidence, recorded_at)"
            " VALUES (:point_id, :kind, :at, CAST(:stated AS jsonb), :actor, :reason, :evidence, :now)"
        ),
        {
            "point_id": point_id,
            "kind": kind,
            "at": at,
            "stated": json.dumps({k: v for k, v in stated.items() if k not in COMMON}, ensure_ascii=False),
            "actor": actor,
            "reason": stated["reason"],
            "evidence": stated.get("evidence"),
            "now": now,
        },
    )


def has_usage(connection: Connection, point_id: int, from_at: datetime, to_at: datetime) -> bool:
    """Return whether a point has usage in the hours of [from, to)."""
    return bool(
        connection.execute(
            text(
                "SELECT EXISTS (SELECT FROM usage_hour WHERE point_id = :point AND hour_at >= :from_at"
                " AND hour_at < :to_at)"
            ),
            {"point": point_id, "from_at": from_at, "to_at": to_at},
        ).scalar()
    )


def list_events(
    connection: Connection,
    scope: Scope,
    *,
    limit: int,
    before_id: int | None = None,
    gateway: str | None = None,
    point: str | None = None,
) -> list[dict[str, Any]]:
    """Return events in scope, the last entered first, below an id."""
    rows = connection.execute(
        text(
            "SELECT v.id, e.uscc, g.code AS gateway, p.code AS point, v.kind, v.at, v.stated, v.actor, v.reason,"
            " v.evidence, v.recorded_at FROM point_event v JOIN point p ON p.id = v.point_id"
            " JOIN gateway g ON g.id = p.gateway_id JOIN enterprise e ON e.id = g.enterprise_id"
            f" WHERE {scope.enterprises_sql()} AND (CAST(:before AS bigint) IS NULL OR v.id < :before)"
            " AND (CAST(:gateway AS text) IS NULL OR g.code = :gateway)"
            " AND (CAST(:point AS text) IS NULL OR p.code = :point) ORDER BY v.id DESC LIMIT :limit"
        ),
        {"before": before_id, "gateway": gateway, "point": point, "limit": limit, **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]

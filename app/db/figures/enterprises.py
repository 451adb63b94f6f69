"""Enterprises as the registry has them, with how they stand now."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db.assignments import CURRENT_ASSIGNMENT
from app.db.figures.sums import LATEST_RATIO, exact
from app.db.scope import Scope
from app.errors import NotFound

_COLUMNS = (
    "e.id, e.uscc, e.name_zh, e.name_en, c.district_code, d.name_zh AS district_name_zh,"
    " d.name_en AS district_name_en, c.industry_code, i.name_zh AS industry_name_zh, i.name_en AS industry_name_en,"
    " k.year AS key_unit_year, k.tier AS key_unit_tier, coalesce(k.two_high, false) AS is_two_high"
)
_TABLES = (
    f"enterprise e CROSS JOIN {CURRENT_ASSIGNMENT} c JOIN district d ON d.code = c.district_code"
    " JOIN industry i ON i.code = c.industry_code LEFT JOIN LATERAL (SELECT l.year, l.tier, l.two_high"
    " FROM key_unit_list l WHERE l.enterprise_id = e.id ORDER BY l.year DESC LIMIT 1) k ON true"
)


def list_enterprises(
    connection: Connection,
    scope: Scope,
    *,
    limit: int,
    after_id: int | None = None,
    district_code: str | None = None,
    industry_code: str | None = None,
    status: str | None = None,
    search: str | None = None,
) -> list[dict[str, Any]]:
    """Return enterprises by id above `after_id`; `search` looks in names and at the start of the credit code,
    `industry_code` takes a whole branch by its prefix, `status` asks for a line of that status.
    """
    rows = connection.execute(
        text(
            f"SELECT {_COLUMNS} FROM {_TABLES} WHERE {scope.enterprises_sql()}"
            " AND (CAST(:after AS bigint) IS NULL OR e.id > :after)"
            " AND (CAST(:district AS text) IS NULL OR c.district_code = :district)"
            " AND (CAST(:industry AS text) IS NULL OR starts_with(c.industry_code, :industry))"
            " AND (CAST(:search AS text) IS NULL OR strpos(e.name_zh, :search) > 0"
            "  OR strpos(lower(e.name_en), lower(:search)) > 0 OR starts_with(e.uscc, upper(:search)))"
            " AND (CAST(:status AS text) IS NULL OR EXISTS (SELECT 1 FROM production_line l"
            f"  JOIN process_unit u ON u.id = l.process_unit_id LEFT JOIN {LATEST_RATIO} r ON r.line_id = l.id"
            "  WHERE u.enterprise_id = e.id AND coalesce(r.status, 'unknown') = :status))"
            " ORDER BY e.id LIMIT :limit"
        ),
        {
            "after": after_id,
            "district": district_code,
            "industry": industry_code,
            "search": search,
            "status": status,
            "limit": limit,
            **scope.parameters(),
        },
    ).mappings()
    return [dict(row) for row in rows]


def enterprise(connection: Connection, scope: Scope, enterprise_id: int) -> dict[str, Any]:
    """Return one enterprise's row as in the list; outside the scope it raises NotFound like one that is not there."""
    row = (
        connection.execute(
            text(f"SELECT {_COLUMNS} FROM {_TABLES} WHERE e.id = :id AND {scope.enterprises_sql()}"),
            {"id": enterprise_id, **scope.parameters()},
        )
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound(
            f"there is no enterprise {enterprise_id} in your scope",
            detail_zh=f"您的范围内没有企业 {enterprise_id}",
        )
    return dict(row)


def process_units(connection: Connection, enterprise_id: int) -> list[dict[str, Any]]:
    """Return the tree of process units, parents before children."""
    return _rows(
        connection,
        "SELECT u.id, u.code, u.parent_id, u.scope, u.name_zh, u.name_en FROM process_unit u"
        " WHERE u.enterprise_id = :id ORDER BY u.scope, u.id",
        enterprise_id,
    )


def gateways(connection: Connection, enterprise_id: int) -> list[dict[str, Any]]:
    """Return the gateways with what they last said of themselves."""
    return _rows(
        connection,
        "SELECT g.code, g.zone, g.heartbeat_s, g.is_enabled, s.is_online, s.seen_at, s.queue_depth,"
        " s.clock_skew_s, s.last_reading_at, s.last_commit_at FROM gateway g"
        " LEFT JOIN gateway_state s ON s.gateway_id = g.id WHERE g.enterprise_id = :id ORDER BY g.code",
        enterprise_id,
    )


def silent_gateways(connection: Connection, scope: Scope) -> list[dict[str, Any]]:
    """Return the enabled gateways in scope that are not online, never heard of first, then the longest silent."""
    rows = connection.execute(
        text(
            "SELECT g.code, g.enterprise_id, e.name_zh AS enterprise_name_zh, e.name_en AS enterprise_name_en,"
            " s.is_online, s.seen_at, s.queue_depth, s.last_reading_at FROM gateway g"
            " JOIN enterprise e ON e.id = g.enterprise_id LEFT JOIN gateway_state s ON s.gateway_id = g.id"
            f" WHERE g.is_enabled AND NOT coalesce(s.is_online, false) AND {scope.enterprises_sql()}"
            " ORDER BY s.seen_at NULLS FIRST, g.code"
        ),
        scope.parameters(),
    ).mappings()
    return [dict(row) for row in rows]


def points(connection: Connection, enterprise_id: int, at: datetime) -> list[dict[str, Any]]:
    """Return the points with their assignment and meter at an instant and their last reading."""
    rows = connection.execute(
        text(
            "SELECT p.id, g.code AS gateway_code, p.code, p.name_zh, p.name_en, p.carrier_key,"
            " c.name_zh AS carrier_name_zh, c.name_en AS carrier_name_en, p.signal, p.unit,"
            " u.code AS process_unit_code, a.flow, a.in_boundary, a.expected_interval_s,"
            f" m.serial AS meter_serial, {exact('m.multiplier')} AS multiplier,"
            f" r.ts AS last_reading_at, {exact('r.value::numeric')} AS last_value"
            " FROM point p JOIN gateway g ON g.id = p.gateway_id LEFT JOIN carrier c USING (carrier_key)"
            " LEFT JOIN point_assignment a ON a.point_id = p.id AND a.from_at <= :at AND coalesce(a.to_at > :at, true)"
            " LEFT JOIN process_unit u ON u.id = a.process_unit_id"
            " LEFT JOIN meter_installation m"
            "  ON m.point_id = p.id AND m.from_at <= :at AND coalesce(m.to_at > :at, true)"
            " LEFT JOIN LATERAL"
            "  (SELECT ts, value FROM reading WHERE point_id = p.id ORDER BY ts DESC LIMIT 1) r ON true"
            " WHERE g.enterprise_id = :id ORDER BY g.code, p.code"
        ),
        {"id": enterprise_id, "at": at},
    ).mappings()
    return [dict(row) for row in rows]


def _rows(connection: Connection, statement: str, enterprise_id: int) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(text(statement), {"id": enterprise_id}).mappings()]

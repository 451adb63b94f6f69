"""Registry rows: read by natural key, written in batches, and the marks that their changes leave."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from app.db.scope import Scope
from app.errors import NotFound

# One import at a time: plans are made from what is registered, and must not be made from what is about to change.
IMPORT_LOCK = 7_230_021

# Columns of each kind with their types, for batches that travel as one JSON parameter.
COLUMNS: dict[str, dict[str, str]] = {
    "enterprise": {"uscc": "text", "name_zh": "text", "name_en": "text"},
    "enterprise_assignment": {
        "enterprise_id": "bigint", "from_on": "date", "to_on": "date", "district_code": "text", "industry_code": "text",
    },
    "process_unit": {
        "enterprise_id": "bigint", "parent_id": "bigint", "scope": "smallint", "code": "text", "name_zh": "text",
        "name_en": "text",
    },
    "production_line": {
        "process_unit_id": "bigint", "code": "text", "name_zh": "text", "name_en": "text", "variant_key": "text",
        "capacity": "numeric", "capacity_unit": "text", "from_on": "date", "to_on": "date",
    },
    "gateway": {"code": "text", "enterprise_id": "bigint", "zone": "text", "heartbeat_s": "integer"},
    "point": {
        "gateway_id": "bigint", "code": "text", "name_zh": "text", "name_en": "text", "carrier_key": "text",
        "signal": "text", "unit": "text", "data_item_code": "text", "value_min": "numeric", "value_max": "numeric",
    },
    "meter_installation": {
        "point_id": "integer", "from_at": "timestamptz", "to_at": "timestamptz", "serial": "text",
        "multiplier": "numeric", "digits": "smallint", "rated_load": "numeric", "initial_register": "numeric",
        "final_register": "numeric", "verified_until": "date",
    },
    "point_assignment": {
        "point_id": "integer", "from_at": "timestamptz", "to_at": "timestamptz", "process_unit_id": "bigint",
        "flow": "text", "in_boundary": "boolean", "expected_interval_s": "integer", "parent_point_id": "integer",
        "checks_point_id": "integer", "line_id": "bigint", "output_kind": "text",
    },
}  # fmt: skip

# Each statement returns the natural key as k1, k2, ... and the whole row.
_LOAD = {
    "enterprise": "SELECT e.uscc AS k1, e.* FROM enterprise e WHERE e.uscc = ANY(:usccs)",
    "enterprise_assignment": "SELECT e.uscc AS k1, a.from_on AS k2, a.* FROM enterprise_assignment a"
    " JOIN enterprise e ON e.id = a.enterprise_id WHERE e.uscc = ANY(:usccs)",
    "process_unit": "SELECT e.uscc AS k1, u.code AS k2, u.* FROM process_unit u"
    " JOIN enterprise e ON e.id = u.enterprise_id WHERE e.uscc = ANY(:usccs)",
    "production_line": "SELECT e.uscc AS k1, u.code AS k2, l.code AS k3, l.* FROM production_line l"
    " JOIN process_unit u ON u.id = l.process_unit_id"
    " JOIN enterprise e ON e.id = u.enterprise_id WHERE e.uscc = ANY(:usccs)",
    "gateway": "SELECT g.code AS k1, g.* FROM gateway g JOIN enterprise e ON e.id = g.enterprise_id"
    " WHERE e.uscc = ANY(:usccs) OR g.code = ANY(:gateways)",
    "point": "SELECT g.code AS k1, p.code AS k2, p.* FROM point p JOIN gateway g ON g.id = p.gateway_id"
    " JOIN enterprise e ON e.id = g.enterprise_id WHERE e.uscc = ANY(:usccs)",
    "meter_installation": "SELECT g.code AS k1, p.code AS k2, i.from_at AS k3, i.* FROM meter_installation i"
    " JOIN point p ON p.id = i.point_id JOIN gateway g ON g.id = p.gateway_id"
    " JOIN enterprise e ON e.id = g.enterprise_id WHERE e.uscc = ANY(:usccs)",
    "point_assignment": "SELECT g.code AS k1, p.code AS k2, a.from_at AS k3, a.* FROM point_assignment a"
    " JOIN point p ON p.id = a.point_id JOIN gateway g ON g.id = p.gateway_id"
    " JOIN enterprise e ON e.id = g.enterprise_id WHERE e.uscc = ANY(:usccs)",
}

Rows = dict[str, dict[tuple[Any, ...], Mapping[str, Any]]]


def lock(connection: Connection) -> None:
    """Wait until no other import is under way; held to the end of the transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": IMPORT_LOCK})


def load(connection: Connection, usccs: Sequence[str], gateways: Sequence[str]) -> Rows:
    """Return what is registered of these enterprises, and these gateways wherever they are: kind -> key -> row."""
    parameters = {"usccs": list(usccs), "gateways": list(gateways)}
    rows: Rows = {}
    for kind, statement in _LOAD.items():
        found = connection.execute(text(statement), parameters).mappings()
        key_names = [name for name in found.keys() if name in ("k1", "k2", "k3")]  # noqa: SIM118 - a result, no dict
        rows[kind] = {tuple(row[name] for name in key_names): dict(row) for row in found}
    return rows


def known_codes(connection: Connection) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return the reference codes that a registry may use: column -> code -> row."""
    statements = {
        "district_code": "SELECT code AS k, name_zh FROM district",
        "industry_code": "SELECT code AS k, name_zh FROM industry",
        "variant_key": "SELECT variant_key AS k, product_zh AS name_zh FROM catalogue_variant",
        "carrier_key": "SELECT carrier_key AS k, unit, name_zh FROM carrier",
        "unit": "SELECT unit AS k, coalesce(written_as, unit) AS written_as, canonical_unit, kind FROM unit_of_measure",
    }
    return {
        column: {row["k"]: dict(row) for row in connection.execute(text(statement)).mappings()}
        for column, statement in statements.items()
    }


def insert(connection: Connection, kind: str, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert rows of one kind in one statement and return their ids in the same order."""
    if not rows:
        return []
    columns = COLUMNS[kind]
    # The ids are drawn first, beside the row's number: RETURNING promises no order.
    return list(
        connection.execute(
            text(
                f"WITH given AS (SELECT nextval(pg_get_serial_sequence('{kind}', 'id')) AS id, r.*"
                f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(n integer, {_typed(columns)}) ORDER BY n),"
                f" made AS (INSERT INTO {kind} (id, {', '.join(columns)}) OVERRIDING SYSTEM VALUE"
                f" SELECT id, {', '.join(columns)} FROM given ORDER BY n)"
                " SELECT id FROM given ORDER BY n"
            ),
            {"rows": _json([{"n": number, **row} for number, row in enumerate(rows)])},
        ).scalars()
    )


def update(connection: Connection, kind: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write whole rows of one kind (with `id` and every column) in one statement."""
    if not rows:
        return
    columns = COLUMNS[kind]
    connection.execute(
        text(
            f"UPDATE {kind} t SET {', '.join(f'{c} = r.{c}' for c in columns)}"
            f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(id bigint, {_typed(columns)}) WHERE t.id = r.id"
        ),
        {"rows": _json(rows)},
    )


def _typed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


def _json(rows: Iterable[Mapping[str, Any]]) -> str:
    return json.dumps(list(rows), ensure_ascii=False, default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"{value!r} cannot be written as JSON")


def points_with_readings(connection: Connection, point_ids: Sequence[int]) -> set[int]:
    """Return which of these points have readings; only their figures can be stale."""
    return set(
        connection.execute(
            text(
                "SELECT p FROM unnest(CAST(:ids AS integer[])) AS p"
                " WHERE EXISTS (SELECT 1 FROM reading r WHERE r.point_id = p)"
                " OR EXISTS (SELECT 1 FROM reading_override o WHERE o.point_id = p)"
            ),
            {"ids": list(point_ids)},
        ).scalars()
    )


def enterprise_in_scope(connection: Connection, scope: Scope, uscc: str) -> int:
    """Return the id of an enterprise; outside the scope it raises NotFound like one that is not there."""
    found = connection.execute(
        text(f"SELECT e.id FROM enterprise e WHERE e.uscc = :uscc AND {scope.enterprises_sql()}"),
        {"uscc": uscc, **scope.parameters()},
    ).scalar()
    if found is None:
        raise NotFound(f"there is no enterprise {uscc!r}", detail_zh=f"没有企业 {uscc}")
    return int(found)


def gateway_in_scope(connection: Connection, scope: Scope, code: str) -> dict[str, Any]:
    """Return a gateway with its enterprise's `uscc`; outside the scope NotFound, like one that is not there."""
    found = connection.execute(
        text(
            "SELECT g.*, e.uscc FROM gateway g JOIN enterprise e ON e.id = g.enterprise_id"
            f" WHERE g.code = :code AND {scope.enterprises_sql()}"
        ),
        {"code": code, **scope.parameters()},
    ).mappings()
    row = found.first()
    if row is None:
        raise NotFound(f"there is no gateway {code!r} in your scope", detail_zh=f"您的范围内没有网关 {code}")
    return dict(row)


def list_gateways(connection: Connection, uscc: str | None = None) -> list[dict[str, Any]]:
    """Return the gateways of an enterprise that was found in scope, or of all."""
    rows = connection.execute(
        text(
            "SELECT g.code, e.uscc, g.zone, g.heartbeat_s, g.is_enabled, g.created_at FROM gateway g"
            " JOIN enterprise e ON e.id = g.enterprise_id"
            " WHERE CAST(:uscc AS text) IS NULL OR e.uscc = :uscc ORDER BY g.code"
        ),
        {"uscc": uscc},
    ).mappings()
    return [dict(row) for row in rows]


def point_history(connection: Connection, gateway_code: str, point_code: str) -> dict[str, list[dict[str, Any]]]:
    """Return a point's installations and assignments, oldest first; the gateway was found in scope."""
    named = {"gateway": gateway_code, "point": point_code}
    point_id = connection.execute(
        text(
            "SELECT p.id FROM point p JOIN gateway g ON g.id = p.gateway_id WHERE g.code = :gateway AND p.code = :point"
        ),
        named,
    ).scalar()
    if point_id is None:
        raise NotFound(
            f"gateway {gateway_code!r} has no point {point_code!r}",
            detail_zh=f"网关 {gateway_code} 没有测点 {point_code}",
        )
    installations = text(
        "SELECT from_at, to_at, serial, multiplier::text, digits, rated_load::text, initial_register::text,"
        " final_register::text, verified_until FROM meter_installation WHERE point_id = :point_id ORDER BY from_at"
    )
    assignments = text(
        "SELECT a.from_at, a.to_at, u.code AS process_unit, a.flow, a.in_boundary, a.expected_interval_s,"
        " l.code AS line, a.output_kind FROM point_assignment a JOIN process_unit u ON u.id = a.process_unit_id"
        " LEFT JOIN production_line l ON l.id = a.line_id WHERE a.point_id = :point_id ORDER BY a.from_at"
    )
    return {
        name: [dict(row) for row in connection.execute(statement, {"point_id": point_id}).mappings()]
        for name, statement in (("installations", installations), ("assignments", assignments))
    }


def enabled_gateways(connection: Connection, codes: Sequence[str]) -> list[str]:
    """Return which of these gateways are registered and enabled."""
    return list(
        connection.execute(
            text("SELECT code FROM gateway WHERE is_enabled AND code = ANY(:codes) ORDER BY code"),
            {"codes": list(codes)},
        ).scalars()
    )


def set_gateway_enabled(connection: Connection, code: str, *, is_enabled: bool) -> None:
    """Note that a gateway may send, or may not."""
    connection.execute(
        text("UPDATE gateway SET is_enabled = :enabled WHERE code = :code"), {"enabled": is_enabled, "code": code}
    )

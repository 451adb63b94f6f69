"""Two enterprises in two districts with a row of everything, for the tests of the API and the pages."""

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, text

from app.api.access import now as api_now
from app.db.access import create_key
from app.intake import reference_load
from app.main import create_app
from app.settings import Settings
from app.web.pages import present

CLINKER = "ndrc723-15-cement-clinker"
NOW = datetime(2026, 10, 15, 4, 30, tzinfo=UTC)  # 12:30 in Tianjin
TODAY, OCTOBER, SEPTEMBER = date(2026, 10, 15), date(2026, 10, 1), date(2026, 9, 1)
WEB_SECRET = "whsec_" + "QUFB" * 8


@dataclass(frozen=True, slots=True)
class Tenant:
    """One enterprise and the ids of its rows; `month_kgce` is a number that no other tenant has."""

    letter: str
    district_code: str
    enterprise_id: int
    uscc: str
    plant_id: int
    line_id: int
    gateway_code: str
    point_id: int
    alert_id: int
    delivery_id: int
    finding_id: int
    month_kgce: int


@dataclass
class Site:
    """The application over a seeded database, its two tenants, and a key for each kind of caller."""

    app: FastAPI
    engine: Engine
    a: Tenant
    b: Tenant
    endpoint_id: int
    keys: dict[str, str] = field(default_factory=dict)

    def client(self, who: str | None = None, *, language: str = "en") -> TestClient:
        """Return a client that sends this caller's key."""
        headers = {"Accept-Language": language}
        if who:
            headers["Authorization"] = f"Bearer {self.keys[who]}"
        return TestClient(self.app, headers=headers, raise_server_exceptions=False)


def build(engine: Engine, database_url: str) -> Site:
    """Seed a migrated, empty database and return the site."""
    settings = Settings(database_url=database_url)  # type: ignore[arg-type]
    app = create_app(settings, engine)
    app.dependency_overrides[api_now] = app.dependency_overrides[present] = lambda: NOW
    with engine.begin() as connection:
        reference_load.load(connection, NOW)
        endpoint_id = _one(
            connection,
            "INSERT INTO endpoint (name, url, secret) VALUES ('duty', 'https://duty.example/in', :s) RETURNING id",
            s=WEB_SECRET,
        )
        a = _tenant(connection, "a", "120110", 111_111, endpoint_id)
        b = _tenant(connection, "b", "120119", 222_222, endpoint_id)
        site = Site(app, engine, a, b, endpoint_id)
        site.keys = {
            "operator": create_key(connection, "operator", "operator"),
            "regulator": create_key(connection, "regulator", "regulator"),
            "gateway": create_key(connection, a.gateway_code, "gateway"),
        }
        for tenant in (a, b):
            official, enterprise = f"official-{tenant.letter}", f"enterprise-{tenant.letter}"
            site.keys[official] = create_key(connection, official, "official", district_code=tenant.district_code)
            site.keys[enterprise] = create_key(connection, enterprise, "enterprise", enterprise_id=tenant.enterprise_id)
    return site


def _one(connection: Connection, statement: str, **values: object) -> int:
    return int(connection.execute(text(statement), values).scalar_one())


def _run(connection: Connection, statement: str, **values: object) -> None:
    connection.execute(text(statement), values)


def _tenant(connection: Connection, letter: str, district_code: str, kgce: int, endpoint_id: int) -> Tenant:
    uscc = f"91120000MA00000{letter.upper()}1X"
    enterprise_id = _one(
        connection,
        "INSERT INTO enterprise (uscc, name_zh, name_en) VALUES (:u, :zh, :en) RETURNING id",
        u=uscc, zh=f"水泥厂{letter}", en=f"Cement-{letter}",
    )  # fmt: skip
    _run(
        connection,
        "INSERT INTO enterprise_assignment (enterprise_id, from_on, district_code, industry_code)"
        " VALUES (:e, '2020-01-01', :d, '3011')",
        e=enterprise_id, d=district_code,
    )  # fmt: skip
    unit = "INSERT INTO process_unit (enterprise_id, parent_id, scope, code, name_zh) VALUES (:e, :p, :s, :c, :c)"
    plant_id = _one(connection, f"{unit} RETURNING id", e=enterprise_id, p=None, s=1, c=f"plant-{letter}")
    line_id = _one(
        connection,
        "INSERT INTO production_line (process_unit_id, code, name_zh, name_en, variant_key, from_on)"
        " VALUES (:u, :c, :c, :c, :v, '2020-01-01') RETURNING id",
        u=plant_id, c=f"kiln-{letter}", v=CLINKER,
    )  # fmt: skip
    gateway_code = f"gw-{letter * 4}"
    gateway_id = _one(
        connection,
        "INSERT INTO gateway (code, enterprise_id) VALUES (:c, :e) RETURNING id",
        c=gateway_code, e=enterprise_id,
    )  # fmt: skip
    point_id = _point(connection, gateway_id, plant_id)
    _figures(connection, point_id, plant_id, line_id, kgce)
    _control(connection, enterprise_id, district_code, letter)
    _inbound(connection, gateway_id, gateway_code, point_id)
    alert_id, delivery_id = _alert(
        connection,
        letter,
        enterprise_id=enterprise_id,
        line_id=line_id,
        district_code=district_code,
        endpoint_id=endpoint_id,
    )
    return Tenant(
        letter, district_code, enterprise_id, uscc, plant_id, line_id, gateway_code, point_id, alert_id,
        delivery_id, _fault(connection, letter, point_id), kgce,
    )  # fmt: skip


def _point(connection: Connection, gateway_id: int, plant_id: int) -> int:
    point_id = _one(
        connection,
        "INSERT INTO point (gateway_id, code, name_zh, carrier_key, signal, unit)"
        " VALUES (:g, 'E001', '总进线', 'electricity', 'register', 'kWh') RETURNING id",
        g=gateway_id,
    )
    _run(
        connection,
        "INSERT INTO meter_installation (point_id, from_at, serial, multiplier) VALUES (:p, '2020-01-01', 'S1', 80)",
        p=point_id,
    )
    _run(
        connection,
        "INSERT INTO point_assignment (point_id, from_at, process_unit_id, flow) VALUES (:p, '2020-01-01', :u, 'in')",
        p=point_id, u=plant_id,
    )  # fmt: skip
    return point_id


def _figures(connection: Connection, point_id: int, plant_id: int, line_id: int, kgce: int) -> None:
    """Usage and energy of two days of October and of two months, an output, a ratio that is above the baseline."""
    windows = "windows_expected, windows_received, windows_estimated"
    usage = f"INSERT INTO usage_{{0}} (point_id, {{1}}, quantity, {windows}) VALUES (:p, :at, :q, 96, 90, 6)"
    energy = (
        f"INSERT INTO energy_{{0}} (process_unit_id, carrier_key, flow, {{1}}, quantity, equivalent_kgce, equal_kgce,"
        f" co2_kg, factor_set, {windows}) VALUES (:u, 'electricity', :f, :at, :q, :q, NULL, :q, 'set-1', 96, 90, 6)"
    )
    day_1, day_3 = date(2026, 10, 1), date(2026, 10, 3)
    _run(connection, usage.format("hour", "hour_at"), p=point_id, at=datetime(2026, 10, 1, tzinfo=UTC), q="0.1")
    for day, quantity in ((day_1, "0.1"), (day_3, "0.2"), (TODAY, kgce)):
        _run(connection, usage.format("day", "day"), p=point_id, at=day, q=quantity)
        _run(connection, energy.format("day", "day"), u=plant_id, f="in", at=day, q=quantity)
    for month in (SEPTEMBER, OCTOBER):
        _run(connection, usage.format("month", "month"), p=point_id, at=month, q=kgce)
        _run(connection, energy.format("month", "month"), u=plant_id, f="in", at=month, q=kgce)
    _run(connection, energy.format("month", "month"), u=plant_id, f="out", at=OCTOBER, q="11")
    _run(
        connection,
        "INSERT INTO output (line_id, kind, grain, period, revision, value, unit, reported_by)"
        " VALUES (:l, 'production', 'month', :m, 1, 1000, 't', 'test')",
        l=line_id, m=SEPTEMBER,
    )  # fmt: skip
    _run(
        connection,
        "INSERT INTO measured_lhv (process_unit_id, carrier_key, month, lot, revision, mass, lhv_kj, evidence,"
        " reported_by) SELECT :u, 'raw_coal', :m, 'lot-' || right(code, 1), 1, 1000, 21000, 'report 1', 'test'"
        " FROM process_unit WHERE id = :u",
        u=plant_id, m=SEPTEMBER,
    )  # fmt: skip
    _run(
        connection,
        "INSERT INTO correction_input (line_id, input_key, from_month, revision, value, evidence, reported_by)"
        " SELECT :l, 'clinker_share', :m, 1, 78, 'report of ' || right(code, 1), 'test' FROM production_line"
        " WHERE id = :l",
        l=line_id, m=SEPTEMBER,
    )  # fmt: skip
    _run(
        connection,
        "INSERT INTO output (line_id, kind, grain, period, revision, value, unit, reported_by)"
        " VALUES (:l, 'capacity', 'day', '2026-01-01', 1, 5000, 't/d', 'test')",
        l=line_id,
    )
    for grain, period, is_provisional in (
        ("year", date(2025, 1, 1), False), ("month", SEPTEMBER, False), ("month", OCTOBER, True),
    ):  # fmt: skip
        _run(
            connection,
            "INSERT INTO ratio (line_id, variant_key, grain, period, actual, unit, energy, output, level_id, benchmark,"
            " baseline, level_confidence, status, ratio, position, reason, is_provisional, windows_expected,"
            " windows_received, windows_estimated, factor_set, computed_at) SELECT :l, :v, :g, :m, 117.4,"
            " 'kgce/t', 117400, 1000, l.id, 100, 117, l.confidence, 'below_baseline', 1.174, -0.4/17, :r, :p, 2976,"
            " 2900, 76, 'set-1', :now FROM efficiency_level l WHERE l.variant_key = :v ORDER BY l.id LIMIT 1",
            l=line_id, v=CLINKER, g=grain, m=period, p=is_provisional, now=NOW,
            r="month_open" if is_provisional else None,
        )  # fmt: skip


def _control(connection: Connection, enterprise_id: int, district_code: str, letter: str) -> None:
    """A place on the year's list, the post, an entered figure, a budget, and a target of the district."""
    for statement in (
        "INSERT INTO key_unit_list (year, enterprise_id, tier, source) VALUES (2026, :e, '10000_tce', :s)",
        "INSERT INTO energy_manager (enterprise_id, holder, appointed_on) VALUES (:e, :s, '2026-01-01')",
        "INSERT INTO entered_figure (enterprise_id, kind, year, value, unit, source, recorded_by)"
        " VALUES (:e, 'new_renewable_energy', 2025, 1000, 'tce', :s, 'test')",
        "INSERT INTO energy_budget (enterprise_id, year, revision, method, budget_tce, conversion, source, recorded_by)"
        " VALUES (:e, 2026, 1, 'baseline', 25000, 'equivalent', :s, 'test')",
        "INSERT INTO intensity_target (district_code, target_key, base_year, target_year, reduction_pct, revision,"
        " source, confidence, recorded_by)"
        " VALUES (:d, 'city_energy_intensity', 2020, 2025, 14, 1, :s, 'confirmed', '')",
    ):
        _run(connection, statement, e=enterprise_id, d=district_code, s=f"document of {letter}")


def _inbound(connection: Connection, gateway_id: int, gateway_code: str, point_id: int) -> None:
    """A receipt with one reading, the gateway's state, and a quarantined item."""
    receipt_id = _one(
        connection,
        "INSERT INTO receipt (gateway_id, epoch, lane, seq, message_digest, rows_digest, accepted, duplicate, disputed,"
        " rejected, received_at, committed_at) VALUES (:g, 'e1', 0, 7, '', 'x', 1, 0, 0, '[{\"index\": 1}]', :n, :n)"
        " RETURNING id",
        g=gateway_id, n=NOW,
    )  # fmt: skip
    _run(
        connection,
        "INSERT INTO reading (ts, point_id, value, quality, receipt_id) VALUES (:n, :p, 104512.75, 0, :r)",
        n=NOW - timedelta(minutes=15), p=point_id, r=receipt_id,
    )  # fmt: skip
    _run(
        connection,
        "INSERT INTO gateway_state (gateway_id, is_online, seen_at) VALUES (:g, true, :n)",
        g=gateway_id, n=NOW,
    )  # fmt: skip
    _run(
        connection,
        "INSERT INTO quarantine (gateway_code, gateway_id, lane, point_code, reason, detail, raw, received_at)"
        " VALUES (:c, :g, 0, 'E009', 'unknown_point', 'not registered', :raw, :n)",
        c=gateway_code, g=gateway_id, n=NOW, raw=b'{"point": "E009"}\x00\xff',
    )  # fmt: skip


def _fault(connection: Connection, letter: str, point_id: int) -> int:
    """An event of the point, and an open finding whose clock has run out."""
    _run(
        connection,
        "INSERT INTO point_event (point_id, kind, at, stated, actor, reason, recorded_at)"
        " VALUES (:p, 'replacement', :n, '{\"serial\": \"S1\"}', 'test', :r, :n)",
        p=point_id, n=NOW, r=f"event-{letter}",
    )  # fmt: skip
    return _one(
        connection,
        "INSERT INTO finding (point_id, reason, from_at, to_at, found_at, due_on)"
        " VALUES (:p, 'reset', :n, :n, :n, '2026-10-10') RETURNING id",
        p=point_id, n=NOW,
    )  # fmt: skip


def _alert(
    connection: Connection, letter: str, *, enterprise_id: int, line_id: int, district_code: str, endpoint_id: int
) -> tuple[int, int]:
    alert_id = _one(
        connection,
        "INSERT INTO alert (rule_id, subject_kind, subject_id, enterprise_id, state, first_period, last_period, reason,"
        " facts, pending_at, opened_at) SELECT id, 'line', :l, :e, 'open', :m, :m, 'below_baseline', :f, :n, :n"
        " FROM rule WHERE kind = 'below_baseline' ORDER BY id LIMIT 1 RETURNING id",
        l=line_id, e=enterprise_id, m=SEPTEMBER, f=json.dumps({"text_zh": f"产线 kiln-{letter}"}), n=NOW,
    )  # fmt: skip
    event_id = f"evt_{letter}"
    _run(
        connection,
        "INSERT INTO event (id, kind, alert_id, district_code, enterprise_id, payload, occurred_at)"
        " VALUES (:i, 'alert.opened', :a, :d, :e, '{}', :n)",
        i=event_id, a=alert_id, d=district_code, e=enterprise_id, n=NOW,
    )  # fmt: skip
    delivery_id = _one(
        connection,
        "INSERT INTO delivery (event_id, endpoint_id, next_attempt_at) VALUES (:v, :p, :n) RETURNING id",
        v=event_id, p=endpoint_id, n=NOW,
    )  # fmt: skip
    return alert_id, delivery_id

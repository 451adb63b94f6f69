"""Two tenants over every route: an official sees one district, an enterprise itself, and nobody more."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from fastapi.routing import iter_route_contexts

from app.db import engine as engine_module
from deploy.local.postgres import Postgres
from tests.conftest import TEMPLATE
from tests.integration.api_site import Site, Tenant, build


@pytest.fixture(scope="module")
def site(postgres: Postgres) -> Iterator[Site]:
    """One seeded site for the whole module: the matrix only reads, or is refused."""
    name = "api_scope"
    postgres.clone_database(TEMPLATE, name)
    engine = engine_module.create(postgres.dsn(name))
    yield build(engine, postgres.dsn(name))
    engine.dispose()
    postgres.drop_database(name)


@dataclass(frozen=True)
class List:
    """A route that lists: `mark` of a tenant is in what its own callers get, and in nobody else's answer."""

    query: Callable[[Tenant], str]
    mark: Callable[[Tenant], str]
    roles: tuple[str, ...] = ("official", "enterprise")


@dataclass(frozen=True)
class Item:
    """A route about one thing: its own callers get it, the other tenant's get 404."""

    path: Callable[[Tenant], str]
    body: dict[str, object] | None = None
    roles: tuple[str, ...] = ("official", "enterprise")


@dataclass(frozen=True)
class Operator:
    """A route for operators: officials, enterprises and gateways get 403."""


@dataclass(frozen=True)
class Editor:
    """A route for operators and regulators: officials, enterprises and gateways get 403; see test_edits.py."""


@dataclass(frozen=True)
class Region:
    """Figures of regions: an official gets the district's own; an enterprise or a gateway gets 403."""

    path: str


@dataclass(frozen=True)
class Gateway:
    """A route for gateways: everyone else gets 403; a key sends its own gateway's readings alone."""


@dataclass(frozen=True)
class Shared:
    """A route that shows nothing of an enterprise."""


def _name(tenant: Tenant) -> str:
    return f"kiln-{tenant.letter}"


def _kgce(tenant: Tenant) -> str:
    return str(tenant.month_kgce)


def _tce(tenant: Tenant) -> str:
    return f"{tenant.month_kgce / 1000:.3f}"


def _document(tenant: Tenant) -> str:
    return f"document of {tenant.letter}"


def _nothing(_: Tenant) -> str:
    return ""


PAGE = Shared()  # pages take the key from a cookie: test_web_pages.py
TABLE: dict[tuple[str, str], List | Item | Operator | Editor | Region | Gateway | Shared] = {
    ("GET", "/api/v1/summary"): List(_nothing, _tce),
    ("GET", "/api/v1/districts"): List(_nothing, _tce),
    ("GET", "/api/v1/enterprises"): List(_nothing, lambda t: t.uscc),
    ("GET", "/api/v1/enterprises/{enterprise_id}"): Item(lambda t: f"/api/v1/enterprises/{t.enterprise_id}"),
    ("GET", "/api/v1/usage"): Item(lambda t: f"/api/v1/usage?point_id={t.point_id}&grain=month"),
    ("GET", "/api/v1/energy"): List(lambda t: "?grain=month&from=2026-09&to=2026-10", _kgce),
    ("GET", "/api/v1/explain/usage"): Item(lambda t: f"/api/v1/explain/usage?point_id={t.point_id}&period=2026-09"),
    ("GET", "/api/v1/explain/energy"): Item(
        lambda t: f"/api/v1/explain/energy?process_unit_id={t.plant_id}&carrier=electricity&period=2026-09"
    ),
    ("GET", "/api/v1/explain/ratio"): Item(lambda t: f"/api/v1/explain/ratio?line_id={t.line_id}&period=2026-09"),
    ("GET", "/api/v1/explain/total"): Item(
        lambda t: f"/api/v1/explain/total?enterprise_id={t.enterprise_id}&period=2026-09"
    ),
    ("GET", "/api/v1/ratios"): List(_nothing, _name),
    ("GET", "/api/v1/ranking"): List(lambda t: "?month=2026-09&domain=15", _name),
    ("GET", "/api/v1/alerts"): List(_nothing, _name),
    ("GET", "/api/v1/alerts/{alert_id}"): Item(lambda t: f"/api/v1/alerts/{t.alert_id}"),
    ("POST", "/api/v1/alerts/{alert_id}/acknowledge"): Item(
        lambda t: f"/api/v1/alerts/{t.alert_id}/acknowledge", {"note": "seen"}, roles=("official",)
    ),
    ("GET", "/api/v1/deliveries"): List(_nothing, lambda t: f"evt_{t.letter}", roles=("official",)),
    ("POST", "/api/v1/deliveries/{delivery_id}/replay"): Operator(),
    ("GET", "/api/v1/quarantine"): List(_nothing, lambda t: t.gateway_code),
    ("POST", "/api/v1/quarantine/release"): Operator(),
    ("GET", "/api/v1/receipts"): Item(lambda t: f"/api/v1/receipts?gateway={t.gateway_code}"),
    ("GET", "/api/v1/edits"): Item(lambda t: f"/api/v1/edits?gateway={t.gateway_code}"),
    ("POST", "/api/v1/edits"): Editor(),
    ("GET", "/api/v1/events"): List(_nothing, lambda t: f"event-{t.letter}"),
    ("POST", "/api/v1/events"): Operator(),
    ("GET", "/api/v1/findings"): List(_nothing, lambda t: t.uscc),
    ("POST", "/api/v1/findings/{finding_id}/close"): Item(
        lambda t: f"/api/v1/findings/{t.finding_id}/close", {"note": "seen"}, roles=("official",)
    ),
    ("GET", "/api/v1/outputs"): List(lambda t: "?from=2026-09-01&to=2026-09-30", _name),
    ("POST", "/api/v1/outputs"): Operator(),  # and enterprises: test_an_enterprise_reports_for_its_own_lines_only
    ("POST", "/api/v1/outputs/csv"): Operator(),  # and enterprises: test_levels_editions.py
    ("GET", "/api/v1/correction-inputs"): List(_nothing, lambda t: f"report of {t.letter}"),
    ("POST", "/api/v1/correction-inputs"): Operator(),  # and enterprises: test_levels_editions.py
    ("GET", "/api/v1/ratios/period"): List(lambda t: "?grain=month&month=2026-09", _name),
    ("GET", "/api/v1/enterprises/{enterprise_id}/index"): Item(
        lambda t: f"/api/v1/enterprises/{t.enterprise_id}/index"
    ),
    ("GET", "/api/v1/capacity-share"): List(lambda t: "?grain=month&month=2026-09", _name),
    ("GET", "/api/v1/key-units"): List(_nothing, _document),
    ("POST", "/api/v1/key-units"): Operator(),
    ("GET", "/api/v1/key-units/proposal"): List(_nothing, lambda t: t.uscc),
    ("GET", "/api/v1/energy-managers"): List(_nothing, _document),
    ("POST", "/api/v1/energy-managers"): Operator(),  # and enterprises: test_key_units.py
    ("GET", "/api/v1/compliance/energy-managers"): List(_nothing, _document),
    ("GET", "/api/v1/entered-figures"): List(_nothing, _document),
    ("POST", "/api/v1/entered-figures"): Operator(),
    ("GET", "/api/v1/budgets"): List(_nothing, _document),
    ("POST", "/api/v1/budgets"): Operator(),
    ("GET", "/api/v1/targets"): Region("/api/v1/targets"),
    ("POST", "/api/v1/targets"): Operator(),
    ("GET", "/api/v1/targets/progress"): Region("/api/v1/targets/progress"),
    ("GET", "/api/v1/structure"): Region("/api/v1/structure"),
    ("GET", "/api/v1/energy-saved"): List(lambda t: "?base_year=2024&year=2025", lambda t: t.uscc),
    ("POST", "/api/v1/reference/levels/import"): Operator(),
    ("POST", "/api/v1/reference/factors/import"): Operator(),
    ("GET", "/api/v1/reference/quota-limits"): Shared(),
    ("GET", "/api/v1/reference/level-corrections"): Shared(),
    ("GET", "/api/v1/heating-values"): List(_nothing, lambda t: f"lot-{t.letter}"),
    ("POST", "/api/v1/heating-values"): Operator(),  # and enterprises: test_heating_values.py
    ("POST", "/api/v1/ingest"): Gateway(),
    ("GET", "/api/v1/enterprises/{uscc}/gateways"): Item(lambda t: f"/api/v1/enterprises/{t.uscc}/gateways"),
    ("GET", "/api/v1/gateways/{code}/gaps"): Item(lambda t: f"/api/v1/gateways/{t.gateway_code}/gaps"),
    ("GET", "/api/v1/gateways/{code}"): Item(lambda t: f"/api/v1/gateways/{t.gateway_code}"),
    ("GET", "/api/v1/gateways/{code}/points/{point}"): Item(lambda t: f"/api/v1/gateways/{t.gateway_code}/points/E001"),
    ("POST", "/api/v1/registry/import"): Operator(),
    ("POST", "/api/v1/enterprises"): Operator(),
    ("POST", "/api/v1/enterprises/{uscc}/process-units"): Operator(),
    ("POST", "/api/v1/enterprises/{uscc}/lines"): Operator(),
    ("POST", "/api/v1/enterprises/{uscc}/gateways"): Operator(),
    ("POST", "/api/v1/gateways/{code}/points"): Operator(),
    ("POST", "/api/v1/gateways/{code}/points/{point}/installations"): Operator(),
    ("POST", "/api/v1/gateways/{code}/points/{point}/assignments"): Operator(),
    ("POST", "/api/v1/gateways/{code}/rotate"): Operator(),
    ("POST", "/api/v1/gateways/{code}/disable"): Operator(),
    ("POST", "/api/v1/gateways/{code}/enable"): Operator(),
    ("GET", "/api/v1/endpoints"): Operator(),
    ("POST", "/api/v1/endpoints"): Operator(),
    ("GET", "/api/v1/endpoints/{endpoint_id}"): Operator(),
    ("PATCH", "/api/v1/endpoints/{endpoint_id}"): Operator(),
    ("POST", "/api/v1/endpoints/{endpoint_id}/secret"): Operator(),
    ("POST", "/api/v1/endpoints/{endpoint_id}/test"): Operator(),
    ("GET", "/api/v1/keys"): Operator(),
    ("POST", "/api/v1/keys"): Operator(),
    ("DELETE", "/api/v1/keys/{key_id}"): Operator(),
    ("GET", "/api/v1/audit"): Operator(),
    ("GET", "/api/v1/reference/levels"): Shared(),
    ("GET", "/api/v1/reference/carriers"): Shared(),
    ("GET", "/api/v1/reference/standard-coal-factors"): Shared(),
    ("GET", "/api/v1/reference/emission-factors"): Shared(),
    ("GET", "/health/live"): Shared(),
    ("GET", "/health/ready"): Shared(),
    ("GET", "/metrics"): Shared(),
    ("GET", "/openapi.json"): Shared(),
    ("GET", "/docs"): Shared(),
    ("GET", "/problems/{slug}"): Shared(),
    ("GET", "/static/{name}"): Shared(),
    ("GET", "/"): PAGE,
    ("GET", "/enterprises/{enterprise_id}"): PAGE,
    ("GET", "/ranking"): PAGE,
    ("GET", "/key-units"): PAGE,
    ("GET", "/data-quality"): PAGE,
    ("GET", "/lines/{line_id}/{month}"): PAGE,
    ("GET", "/points/{point_id}/{period}"): PAGE,
    ("POST", "/alerts/{alert_id}/acknowledge"): PAGE,
    ("POST", "/sign-in"): PAGE,
    ("POST", "/sign-out"): PAGE,
}
OF_ENTERPRISES = (
    *("/api/v1/outputs", "/api/v1/outputs/csv", "/api/v1/heating-values", "/api/v1/correction-inputs"),
    "/api/v1/energy-managers",
)
LISTS = {key: rule for key, rule in TABLE.items() if isinstance(rule, List)}
REGIONS = [rule.path for rule in TABLE.values() if isinstance(rule, Region)]
ITEMS = {key: rule for key, rule in TABLE.items() if isinstance(rule, Item)}
OPERATORS = [key for key, rule in TABLE.items() if isinstance(rule, Operator)]


def routes(site: Site) -> set[tuple[str, str]]:
    found = set()
    for context in iter_route_contexts(site.app.routes):
        found |= {(method, context.path) for method in (context.methods or set()) - {"HEAD", "OPTIONS"}}
    return found


def test_every_route_is_in_the_table(site: Site) -> None:
    missing, gone = routes(site) - TABLE.keys(), TABLE.keys() - routes(site)
    assert not missing, f"say in TABLE what these routes show to whom: {sorted(missing)}"
    assert not gone, f"these are in TABLE but no longer in the application: {sorted(gone)}"


@pytest.mark.parametrize(("method", "path"), [key for key in TABLE if key[1].startswith("/api/")])
def test_no_key_no_answer(site: Site, method: str, path: str) -> None:
    filled = path.replace("{uscc}", site.a.uscc).replace("{code}", site.a.gateway_code).replace("{point}", "E001")
    for name in ("enterprise_id", "alert_id", "delivery_id", "endpoint_id", "key_id", "finding_id"):
        filled = filled.replace(f"{{{name}}}", "1")
    for headers in ({}, {"Authorization": "Bearer nh_unknown"}):
        answer = site.client().request(method, filled, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")


@pytest.mark.parametrize(("method", "path"), LISTS)
def test_lists_hold_only_what_is_in_scope(site: Site, method: str, path: str) -> None:
    rule = LISTS[method, path]
    for own, other in ((site.a, site.b), (site.b, site.a)):
        for role in rule.roles:
            answer = site.client(f"{role}-{own.letter}").request(method, path + rule.query(own))
            assert answer.status_code == 200, answer.text
            assert rule.mark(own) in answer.text
            assert rule.mark(other) not in answer.text
    whole = site.client("regulator").request(method, path + rule.query(site.a)).text
    total = _tce if rule.mark is _tce else _kgce
    if rule.mark in (_tce, _kgce) and path != "/api/v1/districts":
        assert "333333" in whole or "333.333" in whole or "333.322" in whole, total
    else:
        assert rule.mark(site.a) in whole
        assert rule.mark(site.b) in whole


@pytest.mark.parametrize(("method", "path"), ITEMS)
def test_things_out_of_scope_are_not_there(site: Site, method: str, path: str) -> None:
    rule = ITEMS[method, path]
    for own, other in ((site.a, site.b), (site.b, site.a)):
        for role in rule.roles:
            client = site.client(f"{role}-{own.letter}")
            refused = client.request(method, rule.path(other), json=rule.body)
            assert (refused.status_code, refused.json()["type"]) == (404, "/problems/not-found")
            assert client.request(method, rule.path(own), json=rule.body).status_code in {200, 409}


@pytest.mark.parametrize(("method", "path"), OPERATORS)
def test_operators_alone_change_things(site: Site, method: str, path: str) -> None:
    filled = path.replace("{uscc}", site.a.uscc).replace("{code}", site.a.gateway_code).replace("{point}", "E001")
    for name in ("delivery_id", "endpoint_id", "key_id"):
        filled = filled.replace(f"{{{name}}}", "1")
    roles = ["official-a", "gateway", "regulator"]
    roles += [] if path in OF_ENTERPRISES else ["enterprise-a"]
    for who in roles:
        answer = site.client(who).request(method, filled)
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden"), (who, answer.text)


@pytest.mark.parametrize("path", REGIONS)
def test_an_official_sees_the_own_district_alone(site: Site, path: str) -> None:
    for own, other in ((site.a, site.b), (site.b, site.a)):
        answer = site.client(f"official-{own.letter}").get(path)
        assert answer.status_code == 200, answer.text
        assert own.district_code in answer.text
        assert other.district_code not in answer.text
        assert site.client(f"enterprise-{own.letter}").get(path).status_code == 403
    whole = site.client("regulator").get(path).text
    assert site.a.district_code in whole
    assert site.b.district_code in whole


def test_only_gateways_send_readings(site: Site) -> None:
    for who in ("operator", "regulator", "official-a", "enterprise-a"):
        assert site.client(who).post("/api/v1/ingest", json={}).status_code == 403


def test_an_enterprise_reports_for_its_own_lines_only(site: Site) -> None:
    entry = {"kind": "production", "grain": "month", "period": "2026-08-01", "value": "10", "unit": "t"}
    client = site.client("enterprise-a")
    refused = client.post("/api/v1/outputs", json={"outputs": [{"line_id": site.b.line_id, **entry}]})
    assert refused.status_code in {404, 422}
    assert site.b.uscc not in refused.text
    assert client.post("/api/v1/outputs", json={"outputs": [{"line_id": site.a.line_id, **entry}]}).status_code == 200


@pytest.mark.parametrize("path", ["usage", "energy", "ratios", "alerts"])
def test_filters_do_not_reach_out_of_scope(site: Site, path: str) -> None:
    for who in ("official-a", "enterprise-a"):
        answer = site.client(who).get(f"/api/v1/{path}", params={"enterprise_id": site.b.enterprise_id})
        assert answer.status_code == 404 or answer.json()["items"] == []
    district = site.client("official-a").get("/api/v1/energy", params={"district": site.b.district_code})
    assert district.status_code == 404

"""Values that break parsers, dates and decimals, at every place of every route of the OpenAPI document: never a 500.

There is no broker here: a registry entry that would need an account there is answered with 503.
"""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from sqlalchemy import text

from app.api import access as api_access
from app.db import engine as engine_module
from app.domain.credit_code import with_check_digit
from deploy.local.postgres import Postgres
from tests.conftest import TEMPLATE
from tests.integration.api_site import Site, build

Json = Any
Schema = dict[str, Any]

PARAMETERS = (
    "\0", "0000-01", "0001-01", "9999-12", "0001-01-01", "9999-12-31", "9999-Q4", "٢٠٢٦-01",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-10-01T08:00:00", "NaN", "1e400", "9" * 5000,
)  # fmt: skip
VALUES: tuple[Json, ...] = (
    None, [], "\0", "\ud800", "NaN", "1e1000000", "1e131000", 1e308, 2**64, "0001-01-01", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-12:00",
)  # fmt: skip
BODIES = (
    b"", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b'{"a": NaN}', b'{"\\ud800": 1}', b'"\\ud800"',
    b"9" * 5000, b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"a": 1, "a": 2}',
)  # fmt: skip
HEADER = "uscc,process_unit,line,kind,grain,period,value,unit\n"
CSV_TEXTS = {
    "an endless cell": HEADER + '"' + "x" * 200_000, "an open quotation mark": HEADER + '"a\n',
    "NUL": HEADER + "a\0,b\n",
    "too short": HEADER + "a\n", "too long": HEADER + "a,b,c,d,e,f,g,h,i,j\n", "empty": "", "no rows": "\n\n",
    "a column twice": HEADER.replace("unit", "unit,unit"), "UTF-16": HEADER.encode("utf-16").decode("latin-1"),
}  # fmt: skip
LEVELS = (
    "variant_key,benchmark,baseline,referenced_standard,deadline_on,note,source,edition,confidence,valid_from,valid_to\n"
    "ndrc723-15-cement-clinker,{},{},GB 16780,,,document,2027,confirmed,{},\n"
)


@pytest.fixture(scope="module")
def site(postgres: Postgres) -> Iterator[Site]:
    """One seeded site for the module, with a registered enterprise whose code is right, and no limit of requests."""
    name = "api_nasty"
    postgres.clone_database(TEMPLATE, name)
    engine = engine_module.create(postgres.dsn(name))
    made = build(engine, postgres.dsn(name))
    made.app.state.rate_limit = api_access.RateLimit(burst=10**9, per_s=1e9)
    uscc = with_check_digit(made.a.uscc[:17])
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE enterprise SET uscc = :u WHERE id = :i"), {"u": uscc, "i": made.a.enterprise_id}
        )
    made.a = dataclasses.replace(made.a, uscc=uscc)
    yield made
    while not made.app.state.ingest_stores.empty():
        made.app.state.ingest_stores.get_nowait().close()
    engine.dispose()
    postgres.drop_database(name)


def _known(site: Site) -> dict[str, Json]:
    """What makes a request go past the first checks."""
    a = site.a
    return {
        "uscc": a.uscc, "line_id": a.line_id, "process_unit_id": a.plant_id, "gateway": a.gateway_code, "point": "E001",
        "code": a.gateway_code, "enterprise_id": a.enterprise_id, "district_code": a.district_code,
        "alert_id": a.alert_id, "finding_id": a.finding_id, "delivery_id": a.delivery_id, "point_id": a.point_id,
        "endpoint_id": site.endpoint_id, "key_id": 999_999, "slug": "invalid", "carrier": "electricity",
        "base_year": 2024, "year": 2025,
    }  # fmt: skip


def _example(document: Schema, schema: Schema, name: str, known: dict[str, Json]) -> Json:
    """Return a value by a schema, every optional field filled."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    for alternatives in ("anyOf", "oneOf"):
        if alternatives in schema:
            return _example(document, schema[alternatives][0], name, known)
    if schema.get("type") == "object":
        return {n: _example(document, s, n, known) for n, s in schema.get("properties", {}).items()}
    if schema.get("type") == "array":
        return [_example(document, schema["items"], name, known)]
    if name in known:
        return known[name]
    by_type = {"integer": 1, "number": 1, "boolean": True}
    by_format = {"date": "2026-09-01", "date-time": "2026-09-01T00:00:00+08:00"}
    given = [*schema.get("examples", ()), *schema.get("enum", ()), schema.get("const")]
    return given[0] or by_type.get(schema.get("type", ""), by_format.get(schema.get("format", ""), "x"))


def _places(value: Json, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from _places(part, (*at, key))


def _with(value: Json, at: tuple[str | int, ...], new: Json) -> Json:
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = _with(value[at[0]], at[1:], new)
    return copy


def _operations(site: Site) -> list[tuple[str, str, Schema, Schema]]:
    document = site.client().get("/openapi.json").json()
    found = [(m, p, o, document) for p, methods in document["paths"].items() for m, o in methods.items()]
    assert len(found) > 70
    return found


def _filled(path: str, known: dict[str, Json]) -> str:
    for name, value in known.items():
        path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
    return path


def test_no_value_of_a_parameter_is_answered_with_500(site: Site) -> None:
    known, failed = _known(site), []
    client = site.client("operator")
    for method, path, operation, document in _operations(site):
        parameters = operation.get("parameters", [])
        needed = {
            one["name"]: {"period": "2026-09", "domain": 15}.get(one["name"])
            or _example(document, one["schema"], one["name"], known)
            for one in parameters
            if one["in"] == "query" and one.get("required")
        }
        needed |= {"domain": 15, "month": "2026-09"} if path.endswith("/ranking") else {}
        for one in parameters:
            for value in PARAMETERS:
                if one["in"] == "path" and not value:
                    continue
                query = {**needed, one["name"]: value} if one["in"] == "query" else needed
                if one["name"] in ("quarter", "year") and "month" in query:
                    del query["month"]
                where = _filled(path, {**known, one["name"]: value} if one["in"] == "path" else known)
                answer = client.request(method.upper(), f"{where}?{urlencode(query)}")
                if answer.status_code == 500:
                    failed.append((method, path, one["name"], value[:40]))
    assert failed == []


def test_no_value_in_a_body_is_answered_with_500(site: Site) -> None:
    known, failed = _known(site), []
    for method, path, operation, document in _operations(site):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            continue
        client = site.client("gateway" if path.endswith("/ingest") else "operator")
        example = _example(document, content["schema"], "", known) if "schema" in content else content["example"]
        # The tree of /enterprises is in the import whole: once is enough.
        places = [()] if path.endswith("/registry/import") else list(_places(example))
        bodies = [json.dumps(_with(example, at, value)).encode() for at in places for value in VALUES]
        for body in (*bodies, *BODIES):
            answer = client.request(
                method.upper(), _filled(path, known), content=body, headers={"Content-Type": "application/json"}
            )
            if answer.status_code == 500:
                failed.append((method, path, body[:300]))
    assert failed == []


@pytest.mark.parametrize("content", CSV_TEXTS.values(), ids=CSV_TEXTS)
@pytest.mark.parametrize("path", ["/api/v1/outputs/csv", "/api/v1/reference/levels/import"])
def test_a_csv_that_is_none_is_refused_with_the_reason(site: Site, path: str, content: str) -> None:
    answer = site.client("operator").post(path, content=content.encode(), headers={"Content-Type": "text/csv"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid")


@pytest.mark.parametrize(
    ("benchmark", "baseline", "valid_from", "column"),
    [
        ("1e1000000", "110", "2027-01-01", "benchmark"), ("NaN", "110", "2027-01-01", "benchmark"),
        ("95", "1e100000", "2027-01-01", "baseline"), ("95", "110", "0001-01-01", "valid_from"),
        ("95", "110", "9999-12-31", "valid_from"),
    ],
)  # fmt: skip
def test_a_level_that_nothing_can_compute_with_is_refused_with_its_line(
    site: Site, benchmark: str, baseline: str, valid_from: str, column: str
) -> None:
    content = LEVELS.format(benchmark, baseline, valid_from).encode()
    answer = site.client("operator").post(
        "/api/v1/reference/levels/import", content=content, headers={"Content-Type": "text/csv"}
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["location"] == f"line 2, {column}"


@pytest.mark.parametrize("line_end", ["\r\n", "\r", "\n"])
def test_line_ends_of_every_system_are_read(site: Site, line_end: str) -> None:
    a = site.a
    content = f"\ufeff{HEADER}{a.uscc},plant-a,kiln-a,production,month,2026-07,{ord(line_end[-1])},t\n"
    answer = site.client("enterprise-a").post(
        "/api/v1/outputs/csv", content=content.replace("\n", line_end).encode(), headers={"Content-Type": "text/csv"}
    )
    assert answer.json() == {"accepted": 1, "unchanged": 0} or answer.json() == {"accepted": 0, "unchanged": 1}


def test_a_small_body_makes_no_large_answer(site: Site) -> None:
    """Every bad row was listed: 0.4 MB of bad rows were answered with 137 MB, out of 1.2 GB of memory."""
    client = site.client("enterprise-a")
    rows = client.post(
        "/api/v1/outputs/csv", content=(HEADER + "a\n" * 200_000).encode(), headers={"Content-Type": "text/csv"}
    )
    entries = client.post("/api/v1/outputs", json={"outputs": [{}] * 10_000})
    for answer in (rows, entries):
        assert answer.status_code == 422
        assert len(answer.json()["errors"]) == 1000
        assert answer.json()["errors_total"] > 1000
        assert len(answer.content) < 500_000

"""The OpenAPI document of the regulator's figures: an example for every field, a unit or a meaning for every number."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter
from sqlalchemy import Engine

from app.api import budgets, editions, entered, key_units, outputs
from app.api.shapes import Exact
from tests.integration.api_site import Site, build

OF_FIGURES = {"ratios", "positions", "ranking", "key units", "targets", "budgets", "reference", "outputs"}
BODIES = {
    "BudgetReport": budgets.BudgetReport, "CorrectionReport": editions.CorrectionReport,
    "FigureReport": entered.FigureReport, "TargetReport": entered.TargetReport,
    "KeyUnitRequest": key_units.KeyUnitRequest, "ManagerRequest": key_units.ManagerRequest,
    "OutputReport": outputs.OutputReport,
}  # fmt: skip
OF_EVERY_NUMBER = TypeAdapter(Exact).json_schema()["description"]


@pytest.fixture
def site(engine: Engine, database_url: str) -> Site:
    return build(engine, database_url)


@pytest.fixture
def document(site: Site) -> dict[str, Any]:
    return dict(site.client().get("/openapi.json").json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if OF_FIGURES & set(operation["tags"]):
                yield f"{method} {path}", operation


def within(node: Any) -> Iterator[dict[str, Any]]:
    """Every object below a node of the document, itself included; references are not followed."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from within(child)


def used_schemas(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schemas that operations of figures lead to, by name."""
    schemas, found = document["components"]["schemas"], {}
    open_nodes: list[Any] = [operation for _, operation in operations(document)]
    while open_nodes:
        for part in within(open_nodes.pop()):
            name = str(part.get("$ref", "")).rpartition("/")[2]
            if name and name not in found:
                found[name] = schemas[name]
                open_nodes.append(schemas[name])
    return found


def speaks_for_itself(schema: dict[str, Any]) -> bool:
    """Whether a reader sees what a value looks like: by an example, its few values, or a schema of its own."""
    return any(
        {"examples", "example", "enum", "const", "$ref", "default"} & part.keys() or part.get("type") == "boolean"
        for part in within(schema)
    )


def test_every_field_of_the_figures_has_an_example(document: dict[str, Any]) -> None:
    schemas = used_schemas(document)
    assert {"Ratio", "Ranked", "CapacityShare", "RegionProgress", "Budget", "Level", "OutputEntry"} <= schemas.keys()
    bare = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, of_field in schema.get("properties", {}).items()
        if not speaks_for_itself(of_field)
    ]
    assert bare == []


def test_every_number_of_the_figures_says_its_unit_or_meaning(document: dict[str, Any]) -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in used_schemas(document).items()
        for field, of_field in schema.get("properties", {}).items()
        if any(part.get("format") == "decimal" for part in within(of_field))
        and of_field.get("description", OF_EVERY_NUMBER) == OF_EVERY_NUMBER
    ]
    assert bare == []


def test_every_parameter_and_every_error_of_the_figures_has_an_example(document: dict[str, Any]) -> None:
    found = dict(operations(document))
    assert len(found) > 25
    for where, operation in found.items():
        for parameter in operation.get("parameters", []):
            assert speaks_for_itself(parameter), f"{where} {parameter['name']}"
        errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        assert errors.keys() >= {"401", "403", "404", "422", "429", "503"}, where
        for status, answer in errors.items():
            example = answer["content"]["application/problem+json"]["example"]
            assert example["status"] == int(status), where


def test_every_body_has_a_whole_example_that_is_accepted(document: dict[str, Any]) -> None:
    seen = set()
    for where, operation in operations(document):
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            if media_type == "text/csv":
                assert content["schema"]["examples"], where
                continue
            name = content["schema"]["$ref"].rpartition("/")[2]
            (example,) = document["components"]["schemas"][name]["examples"]
            BODIES[name].model_validate(example)
            seen.add(name)
    assert seen == BODIES.keys()


@pytest.mark.parametrize(
    ("who", "method", "path"),
    [
        (None, "GET", "/api/v1/ratios"),
        ("enterprise-a", "POST", "/api/v1/reference/levels/import"),
        ("operator", "GET", "/api/v1/enterprises/999999"),
        ("operator", "GET", "/api/v1/ratios?district=abc"),
    ],
)
def test_examples_of_errors_are_what_the_service_says(
    site: Site, document: dict[str, Any], who: str | None, method: str, path: str
) -> None:
    answer = site.client(who).request(method, path, content="x", headers={"Content-Type": "text/csv"})
    responses = document["paths"]["/api/v1/ratios"]["get"]["responses"]
    example = responses[str(answer.status_code)]["content"]["application/problem+json"]["example"]
    varying = ("instance", "request_id")
    said = {name: value for name, value in answer.json().items() if name not in varying}
    assert said == {name: value for name, value in example.items() if name not in varying}

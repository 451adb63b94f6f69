"""The API's documentation page: the OpenAPI document made readable here, without a script or a byte from elsewhere."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup, escape

from app.errors import NotFound
from app.web.pages import glance, render

router = APIRouter(include_in_schema=False)
METHODS = ("get", "post", "put", "patch", "delete")
DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a schema's table; depth says how far it is indented."""

    name: str
    depth: int
    type: str
    is_required: bool
    description: Markup
    example: str


@router.get("/docs")
def get_documentation(request: Request) -> Response:
    """Every operation with its parameters, body, answers and an example."""
    document = request.app.openapi()
    return render(
        "documentation.html",
        glance(request),
        info=document["info"],
        intro=prose(document["info"].get("description", "")),
        tags=[(tag, list(_operations(document, tag["name"]))) for tag in document["tags"]],
    )


@router.get("/problems/{slug}")
def get_problem(request: Request, slug: str) -> Response:
    """What a `type` of a problem means: the page that the URI leads to."""
    seen = glance(request)
    suffix = "_zh" if seen.language == "zh" else ""
    for entry in request.app.openapi()["x-problems"]:
        if entry["slug"] == slug:
            title, told = entry[f"title{suffix}"], marked(entry[f"description{suffix}"])
            return render("problem.html", seen, title=f"{entry['status']} {title}", detail=told, breaches=[])
    raise NotFound(f"there is no problem type {slug}", detail_zh=f"没有错误类型 {slug}")


def prose(markdown: str) -> Markup:
    """Return a description's paragraphs with **strong** and `code`; everything else is text."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", markdown.strip()):
        paragraphs.append(Markup("<p>{}</p>").format(marked(paragraph)))
    return Markup("").join(paragraphs)


def marked(sentence: str) -> Markup:
    """Return a sentence with **strong** and `code`; everything else is text."""
    html = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(sentence)), flags=re.S)
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", html))  # noqa: S704 - escaped, only these two are put back


def _operations(document: Mapping[str, Any], tag: str) -> Iterator[dict[str, Any]]:
    for path, methods in document["paths"].items():
        for method in METHODS:
            operation = methods.get(method)
            if operation and tag in operation.get("tags", []):
                yield _operation(document, path, method, operation)


def _operation(document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    body = _json_schema(operation.get("requestBody", {}))
    answers = operation["responses"]
    success = next((_json_schema(answers[code]) for code in answers if code.startswith("2")), None)
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": operation.get("summary", ""),
        "description": prose(operation.get("description", "")),
        "parameters": [_parameter(document, p) for p in operation.get("parameters", []) if p["in"] != "cookie"],
        "body": list(fields(document, body)) if body else [],
        "body_example": _pretty(document, body) if body else "",
        "answer": list(fields(document, success)) if success else [],
        "answer_example": _pretty(document, success) if success else "",
        "codes": [(code, marked(answers[code]["description"])) for code in answers],
    }


def _json_schema(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    schema: Mapping[str, Any] | None = content.get("content", {}).get("application/json", {}).get("schema")
    return schema


def _parameter(document: Mapping[str, Any], parameter: Mapping[str, Any]) -> Field:
    schema = _resolved(document, parameter["schema"])
    description = parameter.get("description", schema.get("description", ""))
    default = schema.get("default")
    if default is not None:
        description = f"{description} (default {default})".strip()
    example = _example_text(parameter) or _example_text(schema)
    required = bool(parameter.get("required"))
    return Field(parameter["name"], 0, _type(document, schema), required, marked(description), example)


def fields(document: Mapping[str, Any], schema: Mapping[str, Any], depth: int = 0) -> Iterator[Field]:
    """Yield the fields of a schema, and of what is inside them, in order."""
    resolved = _resolved(document, schema)
    if resolved.get("type") == "array":
        yield from fields(document, resolved["items"], depth)
        return
    required = resolved.get("required", [])
    for name, inner in resolved.get("properties", {}).items():
        found = _resolved(document, inner)
        description = inner.get("description") or found.get("description", "")
        example = _example_text(inner) or _example_text(found)
        yield Field(name, depth, _type(document, inner), name in required, marked(description), example)
        if depth < DEEPEST and _has_fields(document, found):
            yield from fields(document, found, depth + 1)


def _has_fields(document: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    inner = _resolved(document, schema["items"]) if schema.get("type") == "array" else schema
    return "properties" in inner


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference, and of an optional value take the value."""
    if "$ref" in schema:
        return _resolved(document, document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
    choices = [choice for choice in schema.get("anyOf", []) if choice.get("type") != "null"]
    if len(choices) == 1:
        own = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**_resolved(document, choices[0]), **own}
    return schema


def _type(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    is_optional = any(choice.get("type") == "null" for choice in schema.get("anyOf", []))
    found = _resolved(document, schema)
    if found.get("type") == "array":
        name = f"{_type(document, found['items'])}[]"
    elif "enum" in found:
        name = " | ".join(str(value) for value in found["enum"])
    else:
        name = found.get("format") or found.get("type") or "any"
    return f"{name} | null" if is_optional else str(name)


def _example_text(schema: Mapping[str, Any]) -> str:
    examples = schema.get("examples")
    return json.dumps(examples[0], ensure_ascii=False) if isinstance(examples, list) and examples else ""


def _pretty(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    return json.dumps(example_of(document, schema), ensure_ascii=False, indent=2)


def example_of(document: Mapping[str, Any], schema: Mapping[str, Any], depth: int = 0) -> Any:
    """Return an example value of a schema, put together from its fields' examples."""
    found = _resolved(document, schema)
    for holder in (schema, found):
        if holder.get("examples"):
            return holder["examples"][0]
    if any(choice.get("type") == "null" for choice in schema.get("anyOf", [])):
        return None
    if found.get("type") == "array":
        return [example_of(document, found["items"], depth + 1)] if depth < DEEPEST else []
    if "properties" in found:
        return {name: example_of(document, inner, depth + 1) for name, inner in found["properties"].items()}
    if "enum" in found:
        return found["enum"][0]
    defaults = {"integer": 1, "number": 0.5, "boolean": False, "object": {}}
    return found.get("default") if "default" in found else defaults.get(found.get("type", ""))

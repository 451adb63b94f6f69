"""The MQTT contract as AsyncAPI 3: every reference resolves, every golden sample is valid, and the code agrees."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ingest import payload

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "ingest" / "asyncapi.yaml").read_text(encoding="utf-8"))
SAMPLES = sorted((ROOT / "tests" / "golden" / "mqtt").glob("*.json"))
CHANNELS = {"up-live": "live", "up-backfill": "backfill", "up-state": "state", "down-ack": "ack"}
CHANNELS["down-request"] = "request"


def _resolved(reference: str) -> Any:
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [one for value in node.values() for one in _references(value)]
    return [one for value in node for one in _references(value)] if isinstance(node, list) else []


def _valid(body: Any, schema: dict[str, Any]) -> bool:
    whole = {**schema, "components": DOCUMENT["components"]}
    return jsonschema.Draft202012Validator(whole).is_valid(body)


def _payloads(channel: str) -> list[dict[str, Any]]:
    messages = DOCUMENT["channels"][channel]["messages"].values()
    return [_resolved(_resolved(message["$ref"])["payload"]["$ref"]) for message in messages]


def test_every_reference_resolves() -> None:
    references = _references(DOCUMENT)
    assert len(references) > 30
    for reference in references:
        assert _resolved(reference) is not None


def test_operations_cover_the_channels() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    used = {operation["channel"]["$ref"].rsplit("/", 1)[1] for operation in DOCUMENT["operations"].values()}
    assert used == set(DOCUMENT["channels"])
    for name, channel in DOCUMENT["channels"].items():
        direction = "down" if name in ("ack", "request") else "up"
        assert channel["address"] == f"nenghao/v1/{{gateway}}/{direction}/{name}"
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_every_golden_sample_is_valid(sample: Path) -> None:
    channel = next(channel for prefix, channel in CHANNELS.items() if sample.stem.startswith(prefix))
    body = json.loads(sample.read_text(encoding="utf-8"))
    assert sum(_valid(body, schema) for schema in _payloads(channel)) == 1


def test_every_channel_has_a_sample() -> None:
    assert {prefix for prefix in CHANNELS if any(path.stem.startswith(prefix) for path in SAMPLES)} == set(CHANNELS)


@pytest.mark.parametrize(
    ("channel", "body"),
    [
        ("live", {"epoch": "a b", "seq": 1, "readings": []}),
        ("live", {"epoch": "ab", "seq": -1, "readings": []}),
        ("live", {"epoch": "ab", "seq": 1}),
        ("live", {"epoch": "ab", "seq": 1, "readings": [{"point": "E", "ts": "2026-03-01T00:00:00+08:00"}]}),
        ("state", {"state": "asleep"}),
        ("ack", {"epoch": "ab", "lane": "live", "seq": 1}),
    ],
)
def test_the_schemas_refuse_what_the_service_refuses(channel: str, body: dict[str, Any]) -> None:
    assert not any(_valid(body, schema) for schema in _payloads(channel))


def test_the_lists_are_those_of_the_code() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    reasons = schemas["ack"]["properties"]["rejected"]["items"]["properties"]["reason"]["enum"]
    assert set(reasons) == set(payload.REASONS)
    assert tuple(schemas["lane"]["enum"]) == payload.LANES
    assert schemas["epoch"]["pattern"] == f"^{payload.EPOCH_PATTERN.pattern}$"
    assert schemas["readings"]["properties"]["readings"]["maxItems"] == payload.MAX_READINGS

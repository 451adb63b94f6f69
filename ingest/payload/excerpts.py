"""Parts of a message, as messages of their own: what is quarantined can be run again once its fault is mended."""

import json
from collections.abc import Collection, Sequence
from datetime import tzinfo
from typing import Any

from ingest.payload.decoding import Ambiguous, parse, series_length, what_is_wrong_with_series

_SERIES_FIELDS = ("point", "start", "step_s", "quality", "rev")


def excerpts(raw: bytes, groups: Sequence[Collection[int]], zone: tzinfo) -> list[bytes]:
    """Return, for each group of indexes of a message that was decoded, a message with these items alone, as sent.

    Of a series that was read, the other values become null. What cannot be written again (nested too deeply) is empty.
    Text takes no more bytes than it had: what is refused cannot be made to fill more than it filled on the wire.
    """
    document = parse(raw)
    return [_excerpt(document, frozenset(indexes), zone) for indexes in groups]


def _excerpt(document: dict[str, Any], indexes: frozenset[int], zone: tzinfo) -> bytes:
    readings = document.get("readings", [])
    content: dict[str, Any] = {"epoch": document["epoch"], "seq": document.get("seq")}
    items = [readings[index] for index in sorted(indexes) if index < len(readings)]
    if items:
        content["readings"] = items
    series, first = [], len(readings)
    for one in document.get("series", []):
        length = series_length(one)
        chosen = indexes.intersection(range(first, first + length))
        if chosen:
            series.append(_of_series(one, {index - first for index in chosen}, zone))
        first += length
    if series:
        content["series"] = series
    try:
        # A lone surrogate, which UTF-8 cannot hold, is written as JSON escapes it.
        return _written(content).encode("utf-8", "backslashreplace")
    except (RecursionError, ValueError, TypeError):
        return b""


def _of_series(series: Any, positions: set[int], zone: tzinfo) -> Any:
    if not isinstance(series, dict) or what_is_wrong_with_series(series, zone) is not None:
        return series  # it was refused as a whole
    values = [value if position in positions else None for position, value in enumerate(series["values"])]
    return {name: series[name] for name in _SERIES_FIELDS if name in series} | {"values": values[: max(positions) + 1]}


def _written(value: Any) -> str:
    """Return a value as JSON, objects with a key twice included."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except TypeError:
        if isinstance(value, list):
            return "[" + ",".join(map(_written, value)) + "]"
        if isinstance(value, dict | Ambiguous):
            pairs = value.pairs if isinstance(value, Ambiguous) else value.items()
            return "{" + ",".join(f"{_written(key)}:{_written(part)}" for key, part in pairs) + "}"
        raise

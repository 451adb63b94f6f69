"""Decoding and judging messages. Pure; whatever the bytes are, only PayloadError is raised."""

import hashlib
import json
import re
from datetime import tzinfo
from typing import Any

from ingest.payload.instants import instant, instant_at, instant_us
from ingest.payload.messages import (
    EPOCH_PATTERN,
    MAX_BYTES,
    MAX_READINGS,
    MAX_REV,
    MAX_SEQ,
    MAX_STEP_S,
    QUALITY_NUMBERS,
    Fault,
    Gone,
    Message,
    PayloadError,
    StateReport,
)

# A gateway may stamp `sent_at` anew when it sends a message again; that does not make it another message.
_SENT_AT = re.compile(rb'"sent_at"\s*:\s*(?:"[^"\\]*"|null)\s*,?\s*')
# Enough of a broken message to address its ack.
_EPOCH_IN_RAW = re.compile(rb'"epoch"\s*:\s*"([A-Za-z0-9_-]{1,64})"')
_SEQ_IN_RAW = re.compile(rb'"seq"\s*:\s*([0-9]{1,16})(?![0-9.eE])')


class Ambiguous:
    """An object in which a key occurs twice: which one was meant cannot be known."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def decode(raw: bytes, zone: tzinfo) -> Message | Gone:
    """Decode a message of a data lane; timestamps without an offset are local in `zone`. Raises PayloadError."""
    if len(raw) > MAX_BYTES:
        raise _refusal(raw, "too_large", f"{len(raw)} bytes; at most {MAX_BYTES}")
    document = parse(raw)
    if not isinstance(document, dict):
        raise _refusal(raw, "invalid_message", "the message is no object with each key once")
    epoch, seq = document.get("epoch"), document.get("seq")
    if type(epoch) is not str or not EPOCH_PATTERN.fullmatch(epoch):
        raise _refusal(raw, "invalid_message", "epoch must be 1 to 64 characters of A-Z a-z 0-9 _ -")
    if "gone" in document:
        return _gone(raw, epoch, document["gone"])
    if type(seq) is not int or not 0 <= seq <= MAX_SEQ:
        raise _refusal(raw, "invalid_message", "seq must be a whole number from 0 to 2^53")
    return _decode_content(raw, document, Message(epoch, seq, instant(document.get("sent_at"), zone)), zone)


def decode_state(raw: bytes, zone: tzinfo) -> StateReport:
    """Decode a message of the state topic. Raises PayloadError."""
    document = parse(raw) if len(raw) <= MAX_BYTES else None
    state = document.get("state") if isinstance(document, dict) else None
    if not isinstance(document, dict) or state not in ("online", "offline"):
        raise PayloadError("invalid_message", 'state must be "online" or "offline"')
    depth = document.get("queue_depth")
    is_count = type(depth) is int and 0 <= depth <= MAX_SEQ
    return StateReport(state == "online", instant(document.get("sent_at"), zone), depth if is_count else None)


def digest(raw: bytes) -> bytes:
    """Return the SHA-256 that tells whether a message with a known identity is the same message.

    It covers the bytes without their `sent_at` member, which a gateway may set anew each time it sends.
    """
    return hashlib.sha256(_SENT_AT.sub(b"", raw, count=1)).digest()


def _refusal(raw: bytes, reason: str, detail: str) -> PayloadError:
    epoch, seq = _EPOCH_IN_RAW.search(raw), _SEQ_IN_RAW.search(raw)
    number = int(seq[1]) if seq else None
    return PayloadError(
        reason,
        detail,
        epoch[1].decode() if epoch else None,
        number if number is not None and number <= MAX_SEQ else None,
    )


def parse(raw: bytes) -> Any:
    """Return a message as JSON holds it, an object in which a key occurs twice as Ambiguous. Raises PayloadError."""
    try:
        text = raw.decode()
        try:
            document = json.loads(text)
        except json.JSONDecodeError:
            raise
        except ValueError:  # a whole number of more digits than Python converts: only its item is bad
            return _parse_strictly(text)
        return document if _has_each_key_once(document, text) else _parse_strictly(text)
    except RecursionError:
        raise _refusal(raw, "malformed_json", "nested too deeply") from None
    except ValueError as error:
        raise _refusal(raw, "malformed_json", str(error)[:200]) from None


def _parse_strictly(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object, parse_int=_bounded_int)


def _object(pairs: list[tuple[str, Any]]) -> Any:
    parsed = dict(pairs)
    return parsed if len(parsed) == len(pairs) else Ambiguous(pairs)


def _bounded_int(digits: str) -> int | float:
    return int(digits) if len(digits) <= 400 else float(digits)


def _has_each_key_once(document: Any, text: str) -> bool:
    """Whether no key occurs twice, told without looking at each object while parsing, which would cost half the time.

    In a message spaced as usual a quote and a colon end a key and nothing else, so there are as many as parsed keys.
    False too for one that is spaced or nested unusually: then it is parsed again with care.
    """
    try:
        keys = len(document)
        for part in ("readings", "series"):
            if part in document:
                keys += sum(map(len, document[part]))
    except TypeError:
        return False
    is_usual = "\n" not in text and "\t" not in text and "\r" not in text and '" ' not in text
    return is_usual and keys == text.count('":')


def _gone(raw: bytes, epoch: str, span: Any) -> Gone:
    if (
        not isinstance(span, list)
        or len(span) != 2
        or not all(type(seq) is int and 0 <= seq <= MAX_SEQ for seq in span)
        or span[0] > span[1]
    ):
        raise _refusal(raw, "invalid_message", "gone must be [from, to], both whole numbers, from <= to")
    return Gone(epoch, span[0], span[1])


def _decode_content(raw: bytes, document: dict[str, Any], message: Message, zone: tzinfo) -> Message:
    readings, series = document.get("readings", []), document.get("series", [])
    if not isinstance(readings, list) or not isinstance(series, list):
        raise _refusal(raw, "invalid_message", "readings and series must be arrays")
    if "readings" not in document and "series" not in document:
        raise _refusal(raw, "invalid_message", "neither readings nor series")
    size = len(readings) + sum(series_length(one) for one in series)
    if size > MAX_READINGS:
        raise _refusal(raw, "too_large", f"{size} readings; at most {MAX_READINGS}")
    _take_items(message, readings, zone)
    index = len(readings)
    for one in series:
        _take_series(message, one, index, zone)
        index += series_length(one)
    return message


def series_length(series: Any) -> int:
    """Return how many indexes a member of `series` takes."""
    values = series.get("values") if isinstance(series, dict) else None
    return max(1, len(values)) if isinstance(values, list) else 1


def _take_items(message: Message, items: list[Any], zone: tzinfo) -> None:
    """Take the items of `readings`. The loop only tells good from bad; what is wrong is found out afterwards."""
    append = message.readings.append
    for index, item in enumerate(items):
        try:
            code, value, rev = item["point"], item["value"], item.get("rev", 0)
            number = value + 0.0  # makes a whole number a double, and -0.0 one zero
            if (
                number - number != 0.0  # NaN and the infinities
                or type(value) is bool
                or type(code) is not str
                or type(rev) is not int
                or not 0 <= rev <= MAX_REV
            ):
                raise ValueError  # noqa: TRY301 - one way out for all that is unusual
            quality = QUALITY_NUMBERS[item.get("quality", "good")]
            append((code, instant_us(item["ts"], zone), number, quality, rev, index))
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError):
            message.faults.append(_item_fault(item, index, zone))


def _item_fault(item: Any, index: int, zone: tzinfo) -> Fault:
    if not isinstance(item, dict):
        return Fault(index, "invalid_item", "no object with each key once")
    wrong = _what_is_wrong(item, item.get("value"), item.get("ts"), zone)
    return _fault(index, wrong or ("invalid_item", "not understood"), item, _ts_us(item.get("ts"), zone))


def _fault(index: int, wrong: tuple[str, str], item: dict[str, Any], ts_us: int | None = None) -> Fault:
    code = item.get("point")
    return Fault(index, *wrong, code if isinstance(code, str) else None, ts_us)


def _what_is_wrong(item: dict[str, Any], value: Any, ts: Any, zone: tzinfo) -> tuple[str, str] | None:  # noqa: PLR0911 - a ladder
    """Return the first thing that is wrong with an item or a series, as (reason, detail)."""
    if not isinstance(item.get("point"), str):
        return "invalid_item", "point must be a string"
    if type(value) not in (int, float):
        return "invalid_item", "value must be a number"
    if not _is_finite(value):
        return "non_finite", "value is beyond the numbers"
    quality, rev = item.get("quality", "good"), item.get("rev", 0)
    if not isinstance(quality, str) or quality not in QUALITY_NUMBERS:
        return "invalid_item", "quality must be good, uncertain or bad"
    if type(rev) is not int or not 0 <= rev <= MAX_REV:
        return "invalid_item", f"rev must be a whole number from 0 to {MAX_REV}"
    if _ts_us(ts, zone) is None:
        return "bad_timestamp", "no timestamp YYYY-MM-DDTHH:MM:SS with offset, or local time of the gateway's zone"
    return None


def _is_finite(value: float) -> bool:
    try:
        number = value + 0.0
    except OverflowError:
        return False
    return number - number == 0.0


def _ts_us(text: object, zone: tzinfo) -> int | None:
    try:
        return instant_us(text, zone) if isinstance(text, str) else None
    except ValueError:
        return None


def _take_series(message: Message, series: Any, first_index: int, zone: tzinfo) -> None:
    if not isinstance(series, dict):
        message.faults.append(Fault(first_index, "invalid_item", "a series is an object with each key once"))
        return
    wrong = what_is_wrong_with_series(series, zone)
    if wrong is not None:
        message.faults.append(_fault(first_index, wrong, series))
        return
    code, start_us, step_us = series["point"], instant_us(series["start"], zone), series["step_s"] * 1_000_000
    quality, rev = QUALITY_NUMBERS[series.get("quality", "good")], series.get("rev", 0)
    for position, value in enumerate(series["values"]):
        if value is None:
            continue
        index, ts_us = first_index + position, start_us + position * step_us
        if type(value) in (int, float) and _is_finite(value):
            message.readings.append((code, ts_us, value + 0.0, quality, rev, index))
        else:
            at = instant_at(ts_us)
            item = {"point": code, "ts": at.isoformat() if at else None, "value": value}
            item |= {key: series[key] for key in ("quality", "rev") if key in series}
            message.faults.append(_item_fault(item, index, zone))


def what_is_wrong_with_series(series: dict[str, Any], zone: tzinfo) -> tuple[str, str] | None:
    """Return why a series is refused as a whole, as (reason, detail), or None."""
    step = series.get("step_s")
    if not isinstance(series.get("values"), list):
        return "invalid_item", "values must be an array"
    if type(step) is not int or not 1 <= step <= MAX_STEP_S:
        return "invalid_item", f"step_s must be a whole number from 1 to {MAX_STEP_S}"
    return _what_is_wrong(series, 0, series.get("start"), zone)

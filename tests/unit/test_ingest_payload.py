"""Whatever the bytes are, each reading is accounted for: good, or rejected with a reason."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest import payload
from ingest.payload import Ack, Gone, Message, PayloadError
from tests.unit.strange_messages import DOCUMENT

SHANGHAI = ZoneInfo("Asia/Shanghai")
GOLDEN = Path(__file__).parents[1] / "golden" / "mqtt"
GOOD = {"point": "E001", "ts": "2026-03-01T00:15:00+08:00", "value": 1.5}
AT_US = int(datetime(2026, 2, 28, 16, 15, tzinfo=UTC).timestamp()) * 1_000_000
COMMITTED_AT = datetime(2026, 2, 28, 16, 15, 2, 250_000, tzinfo=UTC)


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes().rstrip(b"\n")


def decoded(raw: bytes) -> Message:
    message = payload.decode(raw, SHANGHAI)
    assert isinstance(message, Message)
    return message


def with_items(*items: str) -> bytes:
    return ('{"epoch": "e1", "seq": 1, "readings": [' + ", ".join(items) + "]}").encode()


def faults(message: Message) -> list[tuple[int | None, str]]:
    return [(fault.index, fault.reason) for fault in message.faults]


def test_golden_messages_are_understood() -> None:
    live = decoded(golden("up-live-readings"))
    assert (live.epoch, live.seq, live.faults) == ("9f3c2a", 1042, [])
    assert live.readings == [("E001", AT_US, 104512.75, 0, 0, 0), ("E002", AT_US, 88.0, 1, 0, 1)]
    assert live.sent_at == datetime(2026, 2, 28, 16, 15, 2, tzinfo=UTC)
    local = decoded(golden("up-live-local-time"))
    assert local.readings == [("E001", AT_US + 900_000_000, 104520.5, 0, 0, 0)]
    series = decoded(golden("up-backfill-series")).readings
    assert [(value, index) for _, _, value, _, _, index in series] == [(1.0, 0), (2.5, 1), (4.0, 3)]
    assert series[2][1] - series[0][1] == 2700 * 1_000_000
    assert decoded(golden("up-live-revision")).readings[0][4] == 1
    assert payload.decode(golden("up-live-gone"), SHANGHAI) == Gone("9f3c2a", 1000, 1041)
    states = {
        name: payload.decode_state(golden(f"up-state-{name}"), SHANGHAI) for name in ("online", "heartbeat", "offline")
    }
    assert [(state.is_online, state.queue_depth) for state in states.values()] == [(True, 0), (True, 12), (False, None)]


def test_golden_answers_are_encoded_so() -> None:
    assert payload.encode_ack(Ack("9f3c2a", 0, 1042, 2, 0, 0, [], COMMITTED_AT)) == golden("down-ack")
    rejects = Ack("9f3c2a", 1, 17, 1, 1, 1, [(3, "unknown_point")], COMMITTED_AT)
    assert payload.encode_ack(rejects) == golden("down-ack-rejects")
    refused = Ack(None, 0, None, 0, 0, 0, [(None, "malformed_json")], COMMITTED_AT)
    assert payload.encode_ack(refused) == golden("down-ack-refused")
    assert payload.encode_request("9f3c2a", 0, 1000, 1041) == golden("down-request")


def test_an_ack_of_very_many_rejects_still_fits_into_a_packet() -> None:
    ack = Ack("e" * 64, 1, 2**53, 0, 0, 0, [(n, "before_installation") for n in range(10_000)], COMMITTED_AT)
    body = payload.encode_ack(ack)
    assert len(body) < payload.MAX_BYTES
    assert json.loads(body)["rejected_total"] == 10_000


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": NaN}', "non_finite"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": -Infinity}', "non_finite"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": 1e999}', "non_finite"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": 1' + "0" * 400 + "}", "non_finite"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": 1' + "0" * 9000 + "}", "non_finite"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": "1"}', "invalid_item"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": true}', "invalid_item"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": null}', "invalid_item"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": [1]}', "invalid_item"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00"}', "invalid_item"),
        ('{"point": 1, "ts": "2026-03-01T00:15:00+08:00", "value": 1}', "invalid_item"),
        ('{"point": ["E1"], "ts": "2026-03-01T00:15:00+08:00", "value": 1}', "invalid_item"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": 1, "value": 2}', "invalid_item"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value" : 1, "rev":0, "rev":0}', "invalid_item"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": 1, "quality": "fine"}', "invalid_item"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": 1, "quality": ["good"]}', "invalid_item"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": 1, "rev": -1}', "invalid_item"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": 1, "rev": false}', "invalid_item"),
        ('{"point": "E1", "ts": "2026-03-01T00:15:00+08:00", "value": 1, "rev": 1000000}', "invalid_item"),
        ('{"point": "E1", "ts": "2026-02-30T00:00:00+08:00", "value": 1}', "bad_timestamp"),
        ('{"point": "E1", "ts": "2026-03-01T24:00:00+08:00", "value": 1}', "bad_timestamp"),
        ('{"point": "E1", "ts": "2026-03-01 02:15:00 PM", "value": 1}', "bad_timestamp"),
        ('{"point": "E1", "ts": "2026-03-01", "value": 1}', "bad_timestamp"),
        ('{"point": "E1", "ts": "2026-W09-7T00:00:00", "value": 1}', "bad_timestamp"),
        ('{"point": "E1", "ts": "２０２６-03-01T00:00:00", "value": 1}', "bad_timestamp"),
        ('{"point": "E1", "ts": 1767225600, "value": 1}', "bad_timestamp"),
        ('{"point": "E1", "ts": ["2026-03-01T00:00:00"], "value": 1}', "bad_timestamp"),
        ('{"point": "E1", "value": 1}', "bad_timestamp"),
        ('"E1"', "invalid_item"),
        ("null", "invalid_item"),
        ("[" * 100 + "]" * 100, "invalid_item"),
    ],
)
def test_a_bad_item_is_named_and_the_good_ones_stay(item: str, reason: str) -> None:
    message = decoded(with_items(json.dumps(GOOD), item, json.dumps(GOOD)))
    assert faults(message) == [(1, reason)]
    assert [reading[5] for reading in message.readings] == [0, 2]
    (alone_raw,) = payload.excerpts(with_items(json.dumps(GOOD), item, json.dumps(GOOD)), [[1]], SHANGHAI)
    alone = payload.decode(alone_raw, SHANGHAI)  # what is quarantined can be run again alone
    assert isinstance(alone, Message)
    assert faults(alone) == [(0, reason)]


def test_text_that_postgresql_cannot_hold_passes_as_an_unknown_code() -> None:
    raw = with_items('{"point": "E\\u0000\\ud800", "ts": "2026-03-01T00:15:00Z", "value": 1}')
    message = decoded(raw)
    assert message.readings[0][0] == "E\0\ud800"
    (excerpt,) = payload.excerpts(raw, [[0]], SHANGHAI)
    assert decoded(excerpt).readings == message.readings


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "malformed_json"),
        (b"\xff\xfe", "malformed_json"),
        (b"[" * 200_000, "malformed_json"),
        (b'{"epoch": "e1", "seq": 1, "readings": [', "malformed_json"),
        (b'{"epoch": "\xed\xa0\x80", "seq": 1, "readings": []}', "malformed_json"),
        (b'{"epoch": "e1", "seq": 1, "seq": 2, "readings": []}', "invalid_message"),
        (b'{"epoch": "e 1", "seq": 1, "readings": []}', "invalid_message"),
        (b'{"epoch": "e\\u0000", "seq": 1, "readings": []}', "invalid_message"),
        (b'{"epoch": "e1", "seq": 1.0, "readings": []}', "invalid_message"),
        (b'{"epoch": "e1", "seq": true, "readings": []}', "invalid_message"),
        (b'{"epoch": "e1", "seq": 9007199254740993, "readings": []}', "invalid_message"),
        (b'{"epoch": "e1", "seq": 1}', "invalid_message"),
        (b'{"epoch": "e1", "seq": 1, "readings": {"0": 1}}', "invalid_message"),
        (b'{"epoch": "e1", "gone": [2, 1]}', "invalid_message"),
        (b'{"epoch": "e1", "gone": [1]}', "invalid_message"),
        (b"[]", "invalid_message"),
        (b" " * 300_000, "too_large"),
        (b'{"epoch": "e1", "seq": 1, "readings": [' + b"1," * 10_000 + b"1]}", "too_large"),
    ],
)
def test_a_message_is_refused_as_a_whole(raw: bytes, reason: str) -> None:
    with pytest.raises(PayloadError) as caught:
        payload.decode(raw, SHANGHAI)
    assert caught.value.reason == reason


def test_a_broken_message_is_still_addressed() -> None:
    with pytest.raises(PayloadError) as caught:
        payload.decode(b'{"epoch": "e1", "seq": 12, "readings": [}', SHANGHAI)
    assert (caught.value.epoch, caught.value.seq) == ("e1", 12)


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ('{"point": "E1", "start": "2026-01-01T00:00:00", "step_s": 0, "values": [1, 2]}', "invalid_item"),
        ('{"point": "E1", "start": "2026-01-01T00:00:00", "step_s": true, "values": [1, 2]}', "invalid_item"),
        ('{"point": "E1", "start": "noon", "step_s": 60, "values": [1, 2]}', "bad_timestamp"),
        ('{"point": "E1", "start": "2026-01-01T00:00:00", "step_s": 60, "values": "12"}', "invalid_item"),
        ("3", "invalid_item"),
    ],
)
def test_a_bad_series_is_one_fault_and_keeps_the_count_of_what_follows(series: str, expected: str) -> None:
    good = '{"point": "E2", "start": "2026-01-01T00:00:00", "step_s": 60, "values": [1, "x", 3, 1e999]}'
    raw = f'{{"epoch": "e1", "seq": 1, "readings": [{json.dumps(GOOD)}], "series": [{series}, {good}]}}'
    message = decoded(raw.encode())
    length = 2 if "[1, 2]" in series else 1
    first = 1 + length
    assert faults(message) == [(1, expected), (first + 1, "invalid_item"), (first + 3, "non_finite")]
    assert [reading[5] for reading in message.readings] == [0, first, first + 2]


def test_local_times_that_a_zone_skips_or_has_twice_are_refused() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert payload.instant_us("2026-03-29T01:59:59", berlin) % 3_600_000_000 == 3_599_000_000
    for text in ("2026-03-29T02:30:00", "2026-10-25T02:30:00"):
        with pytest.raises(ValueError, match="skipped or occurs twice"):
            payload.instant_us(text, berlin)
    assert payload.instant_us("2026-10-25T02:30:00+01:00", berlin) == payload.instant_us("2026-10-25T01:30:00Z", berlin)


@given(st.datetimes(timezones=st.just(UTC)), st.integers(-14 * 60, 14 * 60))
def test_instants_are_exact_to_the_microsecond(at: datetime, offset_minutes: int) -> None:
    sign, minutes = "-" if offset_minutes < 0 else "+", abs(offset_minutes)
    text = f"{at.replace(tzinfo=None).isoformat()}{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    expected = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) - offset_minutes * 60_000_000
    assert payload.instant_us(text, SHANGHAI) == expected


def test_a_resend_with_a_new_sent_at_is_the_same_message() -> None:
    first = golden("up-live-readings")
    again = first.replace(b"00:15:02", b"00:17:31")
    assert first != again
    assert payload.digest(first) == payload.digest(again)
    assert payload.digest(first) != payload.digest(first.replace(b"104512.75", b"104512.76"))


def outcome(decode: Callable[..., object], raw: bytes) -> object:
    """Return what was decoded, or the reason why it was refused; anything else that is raised fails the test."""
    try:
        return decode(raw, SHANGHAI)
    except PayloadError as error:
        return error.reason


@settings(max_examples=300, deadline=None)
@given(DOCUMENT)
def test_every_item_of_a_strange_message_is_accounted_for(document: dict[str, Any]) -> None:
    raw = json.dumps(document).encode()
    message = outcome(payload.decode, raw)
    if not isinstance(message, Message):
        assert message in payload.REASONS
        return
    seen = [reading[5] for reading in message.readings] + [fault.index for fault in message.faults]
    assert len(seen) == len(set(seen))
    wanted = set(range(len(document.get("readings", []))))
    assert wanted <= set(seen)
    assert all(fault.reason in payload.REASONS for fault in message.faults)
    assert all(type(r[1]) is int and r[2] - r[2] == 0.0 and r[3] in (0, 1, 2) for r in message.readings)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 20))
@example(b"", 0, 0)
def test_no_bytes_make_it_raise_anything_else(noise: bytes, at: int, cut: int) -> None:
    sample = golden("up-live-readings")
    for raw in (noise, sample[:at] + noise + sample[at + cut :]):
        for decode in (payload.decode, payload.decode_state):
            result = outcome(decode, raw)
            assert not isinstance(result, str) or result in payload.REASONS
        payload.digest(raw)

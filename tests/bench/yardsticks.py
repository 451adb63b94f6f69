"""What the machine gives at best: COPY alone, and the bare pipe from broker to COPY without any of our promises."""

import json
import multiprocessing
import queue
import secrets
import struct
import time
from datetime import UTC, datetime, timedelta

import paho.mqtt.client as mqtt
import psycopg
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.bench.accounts import open_account
from tests.bench.measurement import Bench, Measurement

COPY_ROWS = 1_000_000
COPY_BATCH = 10_000
PIPE_MESSAGES = 8_000
READINGS_PER_MESSAGE = 50
PIPE_BATCH_MESSAGES = 200
POINTS = 1_000
START = datetime(2026, 1, 1, tzinfo=UTC)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_ROW = struct.Struct(">hiqiiidihiq")
_HEAD = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TAIL = b"\xff\xff"


def _encode(rows: list[tuple[int, int, float]]) -> bytes:
    """Return binary COPY data of (ts in microseconds since 2000, point_id, value), sorted for the index."""
    body = b"".join(_ROW.pack(5, 8, ts, 4, point, 8, value, 2, 0, 8, 1) for ts, point, value in rows)
    return _HEAD + body + _TAIL


def _write(connection: psycopg.Connection, data: bytes) -> None:
    columns = "ts, point_id, value, quality, receipt_id"
    with connection.cursor() as cursor, cursor.copy(f"COPY reading ({columns}) FROM STDIN BINARY") as copying:
        copying.write(data)
    connection.commit()


def copy(bench: Bench) -> Measurement:
    """Rows per second of binary COPY in sorted batches into `reading` with its unique index, one backend."""
    base = int((START - _EPOCH).total_seconds() * 1e6)
    batches = []
    for first in range(0, COPY_ROWS, COPY_BATCH):
        steps = range(first // POINTS, (first + COPY_BATCH) // POINTS)
        rows = [(base + s * 900_000_000, p, s + p * 0.01) for p in range(POINTS) for s in steps]
        batches.append(_encode(rows))
    with bench.database() as url, psycopg.connect(url) as connection:
        begun = time.perf_counter()
        for batch in batches:
            _write(connection, batch)
        seconds = time.perf_counter() - begun
    return Measurement(COPY_ROWS / seconds, "rows/s", conditions={"rows": COPY_ROWS, "batch": COPY_BATCH})


def _payload(seq: int) -> str:
    """One message of 50 readings: one point each, the same quarter hour."""
    step, block = divmod(seq, POINTS // READINGS_PER_MESSAGE)
    at = (START + timedelta(minutes=15 * step)).isoformat()
    first = block * READINGS_PER_MESSAGE
    return json.dumps(
        {
            "epoch": "bench",
            "seq": seq,
            "sent_at": at,
            "readings": [
                {"point": f"P{p}", "ts": at, "value": step + p * 0.01, "quality": "good", "rev": 0}
                for p in range(first, first + READINGS_PER_MESSAGE)
            ],
        }
    )


def publish(port: int, user: str, password: str, topic: str, payloads: list[str]) -> None:
    """Publish at QoS 1 as fast as the broker takes it; returns when every message has its PUBACK."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{user}-out", protocol=mqtt.MQTTv5)
    client.username_pw_set(user, password)
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", port)
    client.loop_start()
    last = None
    for number, payload in enumerate(payloads):
        last = client.publish(topic, payload, qos=1)
        if number % 1000 == 999:
            last.wait_for_publish(60)
    if last is not None:
        last.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def _subscribe(port: int, user: str, password: str, topic: str) -> tuple[mqtt.Client, queue.SimpleQueue]:
    arrived: queue.SimpleQueue = queue.SimpleQueue()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{user}-in", protocol=mqtt.MQTTv5, manual_ack=True)
    client.username_pw_set(user, password)
    client.on_message = lambda _c, _u, message: arrived.put(message)
    properties = Properties(PacketTypes.CONNECT)
    properties.ReceiveMaximum = 2000
    client.connect("127.0.0.1", port, properties=properties)
    client.subscribe(topic, qos=1)
    client.loop_start()
    return client, arrived


def _rows(messages: list[mqtt.MQTTMessage]) -> list[tuple[int, int, float]]:
    rows = []
    for message in messages:
        for reading in json.loads(message.payload)["readings"]:
            micros = int((datetime.fromisoformat(reading["ts"]) - _EPOCH).total_seconds() * 1e6)
            rows.append((micros, int(reading["point"][1:]), reading["value"]))
    rows.sort(key=lambda row: (row[1], row[0]))
    return rows


def pipe(bench: Bench) -> Measurement:
    """Readings per second of the bare pipe: QoS 1, 50 readings a message, decode, COPY, commit, PUBACK."""
    user, topic = f"bench-{secrets.token_hex(3)}", "bench/pipe"
    password = open_account(bench.broker, user, ["bench/#"])
    payloads = [_payload(seq) for seq in range(PIPE_MESSAGES)]
    client, arrived = _subscribe(bench.broker.port, user, password, topic)
    with bench.database() as url, psycopg.connect(url) as connection:
        sender = multiprocessing.get_context("spawn").Process(
            target=publish, args=(bench.broker.port, user, password, topic, payloads)
        )
        sender.start()
        messages, done = [arrived.get(timeout=60)], 0
        begun = time.perf_counter()
        while done < PIPE_MESSAGES:
            while len(messages) < PIPE_BATCH_MESSAGES and done + len(messages) < PIPE_MESSAGES:
                try:
                    messages.append(arrived.get(timeout=0.05 if messages else 60))
                except queue.Empty:
                    break
            _write(connection, _encode(_rows(messages)))
            for message in messages:
                client.ack(message.mid, message.qos)
            done, messages = done + len(messages), []
        seconds = time.perf_counter() - begun
        sender.join()
    client.disconnect()
    client.loop_stop()
    copied = bench.measured("copy", copy).value
    conditions = {"messages": PIPE_MESSAGES, "readings_per_message": READINGS_PER_MESSAGE}
    return Measurement(PIPE_MESSAGES * READINGS_PER_MESSAGE / seconds, "readings/s", "copy", copied, conditions)

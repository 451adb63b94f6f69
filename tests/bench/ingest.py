"""The real ingest process with the whole ladder on: receipts, marks, validation, acks that a gateway hears."""

import json
import multiprocessing
import secrets
import threading
import time
from datetime import timedelta
from multiprocessing.queues import SimpleQueue

import paho.mqtt.client as mqtt
import psycopg
from paho.mqtt.enums import CallbackAPIVersion

from tests.acceptance.ingest_process import IngestProcess
from tests.bench.accounts import open_account
from tests.bench.measurement import Bench, Measurement
from tests.bench.yardsticks import PIPE_MESSAGES, READINGS_PER_MESSAGE, START, copy, pipe
from tests.integration.ingest_site import build_site

GATEWAYS = 20
SINGLE_MESSAGES = 30_000
WINDOW = 1000  # messages under way at once, as in the bare pipe
TIMEOUT_S = 60.0
COMMITTED = "SELECT sum(accepted), extract(epoch FROM min(received_at)), (SELECT count(*) FROM reading) FROM receipt"
Payload = tuple[str, str]  # topic, body


def _code(gateway: int) -> str:
    return f"gw-bench-{gateway:02d}"


def _payload(seq: int, readings: int) -> Payload:
    """Message `seq`: the gateways take turns, each sends its points of the next quarter hour."""
    round_no, gateway = divmod(seq, GATEWAYS)
    at = (START + timedelta(minutes=15 * round_no)).isoformat()
    items = [
        {"point": f"E{p:03d}", "ts": at, "value": round_no + p * 0.01, "quality": "good", "rev": 0}
        for p in range(readings)
    ]
    body = {"epoch": "bench", "seq": round_no, "sent_at": at, "readings": items}
    return f"nenghao/v1/{_code(gateway)}/up/live", json.dumps(body)


def publish(port: int, user: str, password: str, payloads: list[Payload], last_ack_at: "SimpleQueue[float]") -> None:
    """Publish at QoS 1 and hear the acks, as gateways do; tell the time of the last ack.

    One connection stands for all gateways; no more than WINDOW messages are unacknowledged by the service.
    """
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{user}-out", protocol=mqtt.MQTTv5)
    client.username_pw_set(user, password)
    client.max_inflight_messages_set(WINDOW)
    subscribed, room, done = threading.Event(), threading.Semaphore(WINDOW), threading.Event()
    acks = 0

    def take_ack(_client: mqtt.Client, _userdata: object, _message: mqtt.MQTTMessage) -> None:
        nonlocal acks
        acks += 1
        room.release()
        if acks == len(payloads):
            last_ack_at.put(time.time())
            done.set()

    client.on_message = take_ack
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.subscribe("nenghao/v1/+/down/ack", qos=0)
    client.loop_start()
    subscribed.wait(10)
    for topic, body in payloads:
        room.acquire()
        client.publish(topic, body, qos=1)
    done.wait(TIMEOUT_S)
    client.disconnect()
    client.loop_stop()


def _committed(bench: Bench, messages: int, readings: int) -> tuple[float, dict[str, object]]:
    """Readings per second from the first one's arrival to the last ack heard, and the conditions."""
    payloads = [_payload(seq, readings) for seq in range(messages)]
    user = f"bench-{secrets.token_hex(3)}"
    password = open_account(bench.broker, user, ["nenghao/v1/#"])
    context = multiprocessing.get_context("spawn")
    last_ack_at: SimpleQueue[float] = context.SimpleQueue()
    with bench.database() as url:
        build_site(url, *map(_code, range(GATEWAYS)), points=readings)
        with IngestProcess(url, bench.broker, bench.folder / "ingest.log"):
            sender = context.Process(target=publish, args=(bench.broker.port, user, password, payloads, last_ack_at))
            sender.start()
            sender.join(TIMEOUT_S)
        with psycopg.connect(url) as connection:
            row = connection.execute(COMMITTED).fetchone()
    if row is None or last_ack_at.empty() or not row[0] == row[2] == messages * readings:
        raise RuntimeError(f"not everything was committed and acknowledged: {row} of {messages * readings}")
    seconds = last_ack_at.get() - float(row[1])
    return messages * readings / seconds, {"messages": messages, "readings_per_message": readings, "gateways": GATEWAYS}


def ingest(bench: Bench) -> Measurement:
    """Committed and acknowledged readings per second from messages of 50, publisher on the same machine."""
    committed, conditions = _committed(bench, PIPE_MESSAGES, READINGS_PER_MESSAGE)
    yardstick, copied = bench.measured("pipe", pipe).value, bench.measured("copy", copy).value
    return Measurement(
        committed, "readings/s", "pipe", yardstick, {**conditions, "ratio_to_copy": round(committed / copied, 4)}
    )


def ingest_single(bench: Bench) -> Measurement:
    """Committed and acknowledged messages per second, one reading in each."""
    committed, conditions = _committed(bench, SINGLE_MESSAGES, 1)
    yardstick, copied = bench.measured("pipe", pipe).value, bench.measured("copy", copy).value
    conditions |= {"ratio_to_copy": round(committed / copied, 4)}
    return Measurement(committed, "messages/s", "pipe", yardstick, conditions)

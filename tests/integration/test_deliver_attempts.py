"""Deliveries against a real receiver that can be slow, broken, redirecting or gone."""

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks
from sqlalchemy import text

from app.db import deliveries
from app.db.scope import Scope
from app.domain import webhook
from app.errors import Conflict, Invalid, NotFound
from app.pipeline import deliver
from app.settings import Settings

SECRET = webhook.write_secret(bytes(range(32)))
NEW_SECRET = webhook.write_secret(bytes(range(1, 33)))
PAYLOAD = json.dumps({"type": "alert.opened", "data": {"text_zh": "能耗超标"}}, ensure_ascii=False)


class Receiver(http.server.ThreadingHTTPServer):
    """Answers by path: /500, /410, /redirect, /slow, /drip, /busy; anything else is received."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.released = threading.Event()

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        if self.path == "/slow":
            self.server.released.wait(20)
        status = {"/500": 500, "/410": 410, "/redirect": 302, "/busy": 429}.get(self.path, 200)
        self.send_response(status)
        if status == 302:
            self.send_header("location", self.server.url("/elsewhere"))
        if status == 429:
            self.send_header("retry-after", "900")
        if self.path != "/drip":
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")
            return
        self.end_headers()
        while not self.server.released.wait(0.05):
            try:
                self.wfile.write(b"x" * 100)
            except OSError:
                return

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()
    assert deliver.drain(20)


@pytest.fixture
def settings(database_url):
    return Settings(database_url=database_url, webhook_allowed_networks="127.0.0.0/8, ::1/128", webhook_timeout_s=0.6)


def endpoint(engine, url, name="official", **fields):
    with engine.begin() as connection:
        return deliveries.add_endpoint(connection, name=name, url=url, secret=SECRET, **fields)


def event(engine, now, count=1):
    with engine.begin() as connection:
        for _ in range(count):
            deliveries.write_event(
                connection, kind="alert.opened", alert_id=None,
                district_code=None, enterprise_id=None, payload=PAYLOAD, now=now,
            )  # fmt: skip


def rows(engine):
    with engine.connect() as connection:
        return deliveries.list_deliveries(connection)


def attempt(engine, settings, now):
    taken = deliver.run(engine, now, settings)
    assert deliver.drain(20)
    return taken


def now():
    return datetime.now(UTC)


def test_a_notice_arrives_signed_and_byte_for_byte(engine, settings, receiver):
    endpoint(engine, receiver.url("/hook?district=120110"))
    event(engine, now())
    assert attempt(engine, settings, now()) == 1
    ((path, headers, body),) = receiver.received
    assert path == "/hook?district=120110"
    assert body == PAYLOAD.encode()
    assert headers["host"] == receiver.url("")[7:]
    standardwebhooks.Webhook(SECRET).verify(body, headers)
    (row,) = rows(engine)
    assert (row["state"], row["attempts"], row["last_status"], row["last_error"]) == ("delivered", 1, 200, None)
    assert row["event_id"] == headers["webhook-id"]
    assert attempt(engine, settings, now() + timedelta(days=2)) == 0


def test_both_secrets_sign_for_a_day_after_a_rotation(engine, settings, receiver):
    endpoint_id = endpoint(engine, receiver.url())
    with engine.begin() as connection:
        until = deliveries.rotate(connection, endpoint_id, NEW_SECRET, now())
        with pytest.raises(Conflict, match="a third would end the first"):
            deliveries.rotate(connection, endpoint_id, SECRET, now())
    event(engine, now(), 1)
    attempt(engine, settings, now())
    ((_, headers, body),) = receiver.received
    for secret in (SECRET, NEW_SECRET):
        standardwebhooks.Webhook(secret).verify(body, headers)
    event(engine, until)
    attempt(engine, settings, until + timedelta(seconds=1))
    assert len(receiver.received[-1][1]["webhook-signature"].split(" ")) == 1


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/500", 500, "answered 500"),
        ("/redirect", 302, "redirects are not followed"),
        ("/slow", None, "no answer within 0.6 s"),
    ],
)
def test_failures_are_tried_again_with_the_same_id(engine, settings, receiver, path, status, error):
    endpoint(engine, receiver.url(path))
    start = now()
    event(engine, start)
    attempt(engine, settings, start)
    (row,) = rows(engine)
    assert (row["state"], row["attempts"], row["last_status"]) == ("pending", 1, status)
    assert error in row["last_error"]
    assert timedelta(seconds=4.5) <= row["next_attempt_at"] - start <= timedelta(seconds=8)
    assert attempt(engine, settings, start + timedelta(seconds=2)) == 0
    assert attempt(engine, settings, start + timedelta(seconds=10)) == 1
    first, second = receiver.received
    assert first[1]["webhook-id"] == second[1]["webhook-id"]
    assert first[1]["webhook-timestamp"] != second[1]["webhook-timestamp"]
    assert {path for path, *_ in receiver.received} == {path}  # the redirect was not followed


def test_an_endless_answer_after_200_is_received_and_ends(engine, settings, receiver):
    endpoint(engine, receiver.url("/drip"))
    event(engine, now())
    started = time.monotonic()
    attempt(engine, settings, now())
    assert time.monotonic() - started < 5
    assert rows(engine)[0]["state"] == "delivered"


def test_retry_after_is_respected(engine, settings, receiver):
    endpoint(engine, receiver.url("/busy"))
    start = now()
    event(engine, start)
    attempt(engine, settings, start)
    assert rows(engine)[0]["next_attempt_at"] - start >= timedelta(seconds=900)


def test_410_switches_the_endpoint_off(engine, settings, receiver):
    endpoint_id = endpoint(engine, receiver.url("/410"))
    event(engine, now())
    attempt(engine, settings, now())
    with engine.begin() as connection:
        (found,) = deliveries.list_endpoints(connection)
        assert (found["is_enabled"], found["dead"]) == (False, 1)
        assert "410" in found["disabled_reason"]
        assert "secret" not in found
    event(engine, now())
    assert len(rows(engine)) == 1
    with engine.begin() as connection:
        deliveries.set_enabled(connection, endpoint_id, is_enabled=True)
    event(engine, now())
    assert len(rows(engine)) == 2


def test_after_the_last_step_it_is_dead_and_an_operator_replays_it(engine, settings, receiver):
    endpoint(engine, receiver.url("/500"))
    at = now()
    event(engine, at)
    while attempt(engine, settings, at):
        at = rows(engine)[0]["next_attempt_at"] + timedelta(seconds=1)
    (row,) = rows(engine)
    assert (row["state"], row["attempts"]) == ("dead", 11)
    assert len(receiver.received) == 11
    with engine.begin() as connection:
        connection.execute(text("UPDATE endpoint SET url = :url"), {"url": receiver.url()})
        deliveries.replay(connection, row["id"], at)
    attempt(engine, settings, at)
    (row,) = rows(engine)
    assert (row["state"], row["attempts"]) == ("delivered", 1)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.received}) == 1


def test_a_dead_endpoint_delays_nobody_else(engine, settings, receiver, database_url):
    patient = settings.model_copy(update={"webhook_timeout_s": 10.0})
    endpoint(engine, receiver.url("/slow"), "dead")
    endpoint(engine, receiver.url("/good"), "good")
    event(engine, now(), 12)
    started = time.monotonic()
    while sum(path == "/good" for path, *_ in receiver.received) < 12:
        deliver.run(engine, now(), patient)
        assert time.monotonic() - started < 5
        time.sleep(0.01)
    assert sum(path == "/slow" for path, *_ in receiver.received) == 2  # so many may be under way
    receiver.released.set()


def test_two_workers_send_each_notice_once(engine, settings, receiver):
    for number in range(6):
        endpoint(engine, receiver.url(f"/{number}"), f"official {number}")
    event(engine, now(), 5)

    def work() -> None:
        while any(row["state"] == "pending" for row in rows(engine)):
            deliver.run(engine, now(), settings)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receiver.received) == 30
    assert len({(path, headers["webhook-id"]) for path, headers, _ in receiver.received}) == 30


def test_a_crash_after_the_post_sends_again_with_the_same_id(engine, settings, receiver):
    endpoint(engine, receiver.url())
    start = now()
    event(engine, start)
    with engine.begin() as connection:  # a worker that leased, posted, and died before the outcome
        (leased,) = deliveries.claim_due(connection, start, limit=5, lease=timedelta(seconds=60))
    assert attempt(engine, settings, start + timedelta(seconds=59)) == 0
    assert attempt(engine, settings, start + timedelta(seconds=61)) == 1
    (row,) = rows(engine)
    assert (row["state"], row["attempts"]) == ("delivered", 2)
    assert receiver.received[0][1]["webhook-id"] == leased.event_id
    with engine.begin() as connection:  # its late failure changes nothing any more
        step = webhook.NextStep(webhook.Outcome.RETRY, "late", start)
        deliveries.record(connection, leased, step, None, start)
    assert rows(engine)[0]["state"] == "delivered"


# The guard against requests into private networks


@contextmanager
def resolving_to(monkeypatch, *addresses):
    real = socket.getaddrinfo

    def fake(host, port, *arguments, **options):
        if host != "receiver.invalid":
            return real(host, port, *arguments, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", fake)
        yield


def test_private_networks_are_refused_by_default_and_nothing_is_sent(engine, settings, receiver):
    endpoint(engine, receiver.url())
    event(engine, now())
    closed = settings.model_copy(update={"webhook_allowed_networks": ""})
    attempt(engine, closed, now())
    (row,) = rows(engine)
    assert receiver.received == []
    assert row["state"] == "pending"
    assert "NENGHAO_WEBHOOK_ALLOWED_NETWORKS" in row["last_error"]


def test_the_checked_address_is_the_one_that_is_used(engine, settings, receiver, monkeypatch):
    """A name is resolved once; its Host stays the name's, though the connection goes to the checked address."""
    port = receiver.server_address[1]
    endpoint(engine, f"http://receiver.invalid:{port}/")
    event(engine, now())
    with resolving_to(monkeypatch, "127.0.0.1"):
        attempt(engine, settings, now())
    ((_, headers, _),) = receiver.received
    assert headers["host"] == f"receiver.invalid:{port}"
    assert rows(engine)[0]["state"] == "delivered"


def test_a_name_that_is_half_private_is_refused(engine, settings, receiver, monkeypatch):
    endpoint(engine, f"http://receiver.invalid:{receiver.server_address[1]}/")
    event(engine, now())
    with resolving_to(monkeypatch, "127.0.0.1", "10.0.0.1"):
        attempt(engine, settings, now())
    assert receiver.received == []
    assert "not public" in rows(engine)[0]["last_error"]


def test_a_receiver_that_is_not_there(engine, settings):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        endpoint(engine, f"http://127.0.0.1:{held.getsockname()[1]}/")
        event(engine, now())
        attempt(engine, settings, now())
    (row,) = rows(engine)
    assert row["state"] == "pending"
    assert "Connect" in row["last_error"]


def test_the_test_button_takes_the_same_road(engine, settings, receiver):
    good = endpoint(engine, receiver.url(), "good")
    blocked = endpoint(engine, "http://10.1.2.3/", "blocked")
    with engine.begin() as connection:
        tests = [deliveries.write_test(connection, endpoint_id, now())[0] for endpoint_id in (good, blocked)]
        with pytest.raises(NotFound):
            deliveries.write_test(connection, 999, now())
    assert attempt(engine, settings, now()) == 2
    ((_, headers, body),) = receiver.received
    standardwebhooks.Webhook(SECRET).verify(body, headers)
    assert json.loads(body)["type"] == "endpoint.test"
    held, delivered = rows(engine)
    assert [delivered["id"], held["id"]] == tests
    assert (delivered["state"], held["state"], "not public" in held["last_error"]) == ("delivered", "pending", True)


# What operators enter


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "ftp://x/"}, "https://"),
        ({"secret": "plain"}, "whsec_"),
        ({"kinds": ["alert.*", "alarm.*"]}, "no event is of kind 'alarm"),
        ({"district_code": "999999"}, "table of districts"),
    ],
)
def test_endpoints_that_cannot_work_are_refused(connection, change, message):
    fields = {"name": "x", "url": "https://x.example/", "secret": SECRET, "district_code": None, **change}
    with pytest.raises(Invalid, match=message):
        deliveries.add_endpoint(connection, **fields)


def test_names_are_unique_and_unknown_ids_are_named(connection):
    fields = {"name": "x", "url": "https://x.example/", "secret": SECRET}
    deliveries.add_endpoint(connection, **fields)
    with pytest.raises(Conflict, match="already"):
        deliveries.add_endpoint(connection, **fields)
    with pytest.raises(NotFound):
        deliveries.rotate(connection, 999, SECRET, now())
    with pytest.raises(NotFound):
        deliveries.replay(connection, 999, now())
    with pytest.raises(Invalid):
        deliveries.rotate(connection, 1, "plain", now())


def test_what_is_being_sent_is_not_replayed(engine):
    endpoint(engine, "https://x.example/")
    event(engine, now())
    with engine.begin() as connection:
        (leased,) = deliveries.claim_due(connection, now(), limit=1, lease=timedelta(seconds=60))
    with engine.begin() as connection, pytest.raises(Conflict, match="right now"):
        deliveries.replay(connection, leased.delivery_id, now())


def test_events_about_no_enterprise_are_outside_every_narrower_scope(engine):
    endpoint(engine, "https://x.example/")
    event(engine, now())
    with engine.connect() as connection:
        assert len(deliveries.list_deliveries(connection)) == 1
        assert deliveries.list_deliveries(connection, Scope(district_code="120110")) == []
        assert deliveries.list_deliveries(connection, Scope(enterprise_id=1)) == []

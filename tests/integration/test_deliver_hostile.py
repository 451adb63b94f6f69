"""Deliveries to receivers that mean harm: answers without end, and answers that cannot be read."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from app.db import deliveries
from app.domain import webhook
from app.pipeline import deliver
from app.settings import Settings

SECRET = webhook.write_secret(bytes(range(32)))
TIMEOUT_S = 0.6
PIECE_S = 0.05  # far below the timeout: no single wait of the sender is long


class Hostile:
    """Takes connections and answers each with `answer` at once, then with `piece` again and again until released."""

    def __init__(self, answer: bytes, piece: bytes) -> None:
        self.connections = 0
        self.released = threading.Event()
        self._answer, self._piece = answer, piece
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/in"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self.released.is_set():
                connection, _ = self._listener.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(self._answer)
            while self._piece and not self.released.wait(PIECE_S):
                connection.sendall(self._piece)
            self.released.wait(20)

    def close(self) -> None:
        self.released.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(
        database_url=database_url,  # type: ignore[arg-type]
        webhook_allowed_networks="127.0.0.0/8",
        webhook_timeout_s=TIMEOUT_S,
    )


@pytest.fixture
def hostile() -> Iterator[Callable[[bytes, bytes], Hostile]]:
    made: list[Hostile] = []

    def make(answer: bytes, piece: bytes = b"") -> Hostile:
        made.append(Hostile(answer, piece))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert deliver.drain(20)


def _notify(engine: Engine, name: str, url: str) -> None:
    """Add an endpoint and an event for it."""
    with engine.begin() as connection:
        deliveries.add_endpoint(connection, name=name, url=url, secret=SECRET)
        deliveries.write_event(
            connection, kind="alert.opened", alert_id=None, district_code=None,
            enterprise_id=None, payload="{}", now=datetime.now(UTC),
        )  # fmt: skip


def _attempt(engine: Engine, settings: Settings) -> dict[str, object]:
    """Make one attempt and return its row."""
    assert deliver.run(engine, datetime.now(UTC), settings) == 1
    assert deliver.drain(10 * TIMEOUT_S)
    with engine.connect() as connection:
        (row,) = deliveries.list_deliveries(connection)
    return row


@pytest.mark.parametrize(
    ("answer", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nx: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_an_answer_that_never_comes_to_its_status_ends_with_the_timeout(
    engine: Engine, settings: Settings, hostile: Callable[[bytes, bytes], Hostile], answer: bytes, piece: bytes
) -> None:
    _notify(engine, "slow", hostile(answer, piece).url)
    started = time.monotonic()
    row = _attempt(engine, settings)
    assert time.monotonic() - started < 5 * TIMEOUT_S
    assert (row["state"], row["attempts"], row["last_status"]) == ("pending", 1, None)
    assert "no answer within 0.6 s" in str(row["last_error"])


def test_a_retry_after_that_is_no_date_is_left_aside(
    engine: Engine, settings: Settings, hostile: Callable[[bytes], Hostile]
) -> None:
    never = b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
    _notify(engine, "odd", hostile(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\nRetry-After: " + never + b"\r\n\r\n").url)
    row = _attempt(engine, settings)
    assert (row["state"], row["attempts"], row["last_status"]) == ("pending", 1, 503)


def test_an_address_that_cannot_be_written_is_a_failure_like_others(engine: Engine, settings: Settings) -> None:
    _notify(engine, "broken", "http://127.0.0.1:9/in")
    with engine.begin() as connection:
        connection.execute(text("UPDATE endpoint SET url = 'http://127.0.0.1:9/☃☃' || repeat('x', 70000)"))
    row = _attempt(engine, settings)
    assert (row["state"], row["attempts"], row["last_status"]) == ("pending", 1, None)
    assert "URL too long" in str(row["last_error"])

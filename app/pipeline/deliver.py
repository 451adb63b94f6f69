"""Events to officials: lease, sign, post outside any transaction, write down the outcome.

Attempts run in a few threads; one dead endpoint holds at most two of them, so it delays nobody else. A process that
dies between the post and the outcome leaves a lease that runs out: the notice is sent again with the same webhook-id.
"""

import random
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import httpx2
import prometheus_client
import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.db import deliveries
from app.db.deliveries import IN_FLIGHT_PER_ENDPOINT, Attempt
from app.domain import webhook
from app.domain.webhook import Answer, NextStep, Outcome
from app.settings import Settings

THREADS = 8
# Answers are not used, only their status: so much is read, so that a polite receiver is not cut off.
ANSWER_BYTES_MAX = 16_384
ATTEMPTS = prometheus_client.Counter(
    "nenghao_delivery_attempts_total", "Attempts to deliver an event, by outcome", ["outcome"]
)

_log = structlog.get_logger(process="deliver")
_lock = threading.Lock()
_in_flight: Counter[int] = Counter()
_futures: set[Future[NextStep]] = set()
_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="deliver")


def run(engine: Engine, now: datetime, settings: Settings) -> int:
    """Lease what is due and hand it to the sending threads; return how many deliveries were taken, 0 when idle."""
    with _lock:
        free = THREADS - sum(_in_flight.values())
        busy = [endpoint for endpoint, count in _in_flight.items() if count >= IN_FLIGHT_PER_ENDPOINT]
    if free <= 0:
        return 0
    started = time.monotonic()
    with engine.begin() as connection:
        attempts = deliveries.claim_due(connection, now, limit=free, lease=_lease(settings), busy=busy)
    for attempt in attempts:
        with _lock:
            _in_flight[attempt.endpoint_id] += 1
        future = _pool.submit(_send_and_record, engine, attempt, settings, _clock(now, started))
        with _lock:
            _futures.add(future)
        future.add_done_callback(_done(attempt.endpoint_id))
    return len(attempts)


def drain(timeout_s: float) -> bool:
    """Wait for the attempts under way; return whether all ended. What did not is sent again after its lease."""
    with _lock:
        under_way = set(_futures)
    return not wait(under_way, timeout_s).not_done


def _lease(settings: Settings) -> timedelta:
    # The whole attempt has the timeout after the name is resolved; the rest is for that and for a slow database.
    return timedelta(seconds=4 * settings.webhook_timeout_s + 30)


def _clock(now: datetime, started: float) -> Callable[[], datetime]:
    """The stage's clock, carried on into its threads."""
    return lambda: now + timedelta(seconds=time.monotonic() - started)


def _done(endpoint_id: int) -> Callable[[Future[NextStep]], None]:
    def note(future: Future[NextStep]) -> None:
        if fault := future.exception():
            _log.error("attempt failed without an outcome", endpoint=endpoint_id, error=repr(fault))
        with _lock:
            _futures.discard(future)
            _in_flight[endpoint_id] -= 1
            if _in_flight[endpoint_id] <= 0:
                del _in_flight[endpoint_id]

    return note


def _send_and_record(engine: Engine, attempt: Attempt, settings: Settings, clock: Callable[[], datetime]) -> NextStep:
    answer = _post(attempt, settings, clock())
    step = webhook.next_step(answer, attempt.attempts, clock(), random.random())  # noqa: S311  spreads load only
    ATTEMPTS.labels(step.outcome).inc()
    try:
        with engine.begin() as connection:
            deliveries.record(connection, attempt, step, answer.status, clock())
    except SQLAlchemyError as error:
        # The lease runs out and the notice is sent again, with the same id.
        _log.warning("outcome not written", delivery=attempt.delivery_id, error=str(error))
    if step.outcome is not Outcome.DELIVERED:
        _log.warning("not delivered", delivery=attempt.delivery_id, outcome=str(step.outcome), error=step.error)
    return step


def _post(attempt: Attempt, settings: Settings, now: datetime) -> Answer:
    try:
        target = webhook.parse_target(attempt.url)
        allowed = webhook.parse_networks(settings.webhook_allowed_networks)
        address = webhook.allowed_address(_resolve(target), target, allowed)
        headers = webhook.headers(attempt.secrets, attempt.event_id, now, attempt.payload)
        return _post_to(attempt, address, headers, settings.webhook_timeout_s)
    except ValueError as error:  # a refused address, a broken secret or network list
        return Answer(None, str(error))
    except OSError as error:
        return Answer(None, f"the name of the receiver does not resolve: {error}")
    except httpx2.TimeoutException as error:
        return Answer(None, f"no answer within {settings.webhook_timeout_s:g} s ({type(error).__name__})")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return Answer(None, f"{type(error).__name__}: {error}"[:300])


def _resolve(target: webhook.Target) -> list[str]:
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _post_to(attempt: Attempt, address: str, headers: dict[str, str], timeout_s: float) -> Answer:
    """Post to the address that was checked, never to what the name resolves to a moment later (DNS rebinding).

    Host and TLS name stay those of the URL, so the certificate is checked against the name.
    """
    url = httpx2.URL(attempt.url)
    with (
        _Deadline(timeout_s) as deadline,
        httpx2.Client(verify=_tls(), timeout=timeout_s, follow_redirects=False, trust_env=False) as client,
        client.stream(
            "POST",
            url.copy_with(host=address),
            content=attempt.payload,
            headers={**headers, "host": url.netloc.decode("ascii"), "connection": "close"},
            extensions={"sni_hostname": url.host, "trace": deadline.watch},
        ) as response,
    ):
        answer = Answer(response.status_code, None, response.headers.get("retry-after"))
        _skim(response)
        return answer


class _Deadline:
    """Cuts the connection of one attempt when its time is over, and makes of that a TimeoutException.

    The client's own timeout starts anew with every byte: a receiver that sends a byte of its headers now and then
    would hold a thread for days, and a few such receivers all threads.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timer = threading.Timer(timeout_s, self._cut)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._is_over = False

    def watch(self, event: str, info: dict[str, Any]) -> None:
        """Take note of the connection; httpx2 calls this at each step of a request."""
        if event == "connection.connect_tcp.complete":
            with self._lock:
                # A handle of its own: the one that TLS is laid over is closed by that.
                self._connection = info["return_value"].get_extra_info("socket").dup()
                self._end_if_over()

    def _cut(self) -> None:
        with self._lock:
            self._is_over = True
            self._end_if_over()

    def _end_if_over(self) -> None:
        if self._is_over and self._connection is not None:
            with suppress(OSError):  # the receiver may have ended it already
                self._connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        if self._is_over and isinstance(error, httpx2.HTTPError):
            raise httpx2.ReadTimeout("the whole attempt took too long") from error


@cache
def _tls() -> ssl.SSLContext:
    """The trusted authorities, read once: reading them costs more than a whole delivery."""
    return httpx2.create_ssl_context(trust_env=False)


def _skim(response: httpx2.Response) -> None:
    """Read a little of the answer. Its status has decided already: a slow, broken or endless body changes nothing."""
    seen = 0
    try:
        for chunk in response.iter_raw():
            seen += len(chunk)
            if seen >= ANSWER_BYTES_MAX:
                return
    except httpx2.HTTPError:
        return

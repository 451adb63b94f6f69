"""What every request passes: its id, its metrics by route template, its log line, and the headers of the answer."""

import re
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi import Request, Response
from prometheus_client import Counter, Gauge, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import InternalError, from_http, respond
from app.db.access import KEY_COOKIE
from app.errors import Forbidden

UNSAFE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
KNOWN_METHODS = UNSAFE_METHODS | {"GET", "HEAD", "OPTIONS"}
MAX_BODY_BYTES = 8 * 1024 * 1024
# Nothing from another host, nothing inline: pages carry their own style and script files.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")

# Labels are the route's template, the method and the status: never a meter, a gateway or an enterprise.
REQUESTS = Counter("nenghao_http_requests_total", "HTTP requests answered", ["method", "route", "status"])
SECONDS = Histogram(
    "nenghao_http_request_seconds",
    "Time to answer a request",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_PROGRESS = Gauge("nenghao_http_requests_in_progress", "HTTP requests being answered now")

logger: structlog.stdlib.BoundLogger = structlog.get_logger(process="api")


# In a query a bare + means a space; between a time and a zone it is the sign that a person typed as instants are shown.
_BARE_PLUS = re.compile(rb"(=\d{4}-\d\d-\d\dT(?:[\d.:]|%3A)+)\+(?=\d\d(?::|%3A)?\d\d(?:&|$))", re.IGNORECASE)


def with_signs(query: bytes) -> bytes:
    """Return a query string in which instants keep the + of their zone: `T00:00:00+08:00` is not `T00:00:00 08:00`."""
    return _BARE_PLUS.sub(rb"\1%2B", query)


class Observed:
    """ASGI middleware around the whole application; a fault becomes a 500 without internals."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, _request_id(scope), is_private=not scope["path"].startswith("/static/"))
        scope.setdefault("state", {})["request_id"] = answer.request_id
        scope["query_string"] = with_signs(scope["query_string"])
        started = time.perf_counter()
        with IN_PROGRESS.track_inprogress():
            await self._respond(scope, receive, answer)
        _record(scope, answer.status, time.perf_counter() - started)

    async def _respond(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        request = Request(scope)
        if is_forged(request):
            await _refusal(request)(scope, receive, answer.send)
            return
        if _declared_bytes(request) > MAX_BODY_BYTES:
            await respond(request, from_http(HTTPException(413)))(scope, receive, answer.send)
            return
        try:
            await self.app(scope, _counted(receive), answer.send)
        except Exception:
            logger.exception("request failed", request_id=answer.request_id, route=route_of(scope))
            if answer.status is None:
                await _fault(request)(scope, receive, answer.send)


class _Answer:
    """Watches the answer on its way out: keeps its status, adds the headers."""

    def __init__(self, send: Send, request_id: str, *, is_private: bool) -> None:
        self._send, self.request_id, self._is_private = send, request_id, is_private
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: list[tuple[bytes, bytes]] = list(message.get("headers", []))
            present = {name for name, _ in headers}
            extra = [*SECURITY_HEADERS, (b"x-request-id", self.request_id.encode())]
            if self._is_private:
                extra.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers + [h for h in extra if h[0] not in present]}
        await self._send(message)


def _declared_bytes(request: Request) -> int:
    declared = request.headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() else 0


def _counted(receive: Receive) -> Receive:
    """Return a receive that stops a body which says no length, or a wrong one, at the limit."""
    seen_bytes = 0

    async def receive_within_limit() -> Message:
        nonlocal seen_bytes
        message = await receive()
        seen_bytes += len(message.get("body", b""))
        if seen_bytes > MAX_BODY_BYTES:
            raise HTTPException(413)
        return message

    return receive_within_limit


def is_forged(request: Request) -> bool:
    """Say whether a change that a browser would send with its cookie comes from another site's page.

    A key in the Authorization header is never sent by itself, so such requests pass. For the rest the browser's own
    Sec-Fetch-Site decides, else Origin must name this host; a change with neither is refused.
    """
    if request.method not in UNSAFE_METHODS or "authorization" in request.headers:
        return False
    if KEY_COOKIE not in request.cookies and request.url.path.startswith("/api/"):
        return False
    fetch_site = request.headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site != "same-origin"
    origin = request.headers.get("origin", "")
    return urlsplit(origin).netloc != request.headers.get("host")


def route_of(scope: Scope) -> str:
    """Return the template of the route that took the request, or "unmatched"."""
    path: Any = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "unmatched"


def _record(scope: Scope, status: int | None, seconds: float) -> None:
    method = scope["method"] if scope["method"] in KNOWN_METHODS else "other"
    route = route_of(scope)
    REQUESTS.labels(method, route, str(status or 499)).inc()
    SECONDS.labels(method, route).observe(seconds)


def _request_id(scope: Scope) -> str:
    """Return the caller's X-Request-ID where it is a plain word, so that it may be followed; else a new one."""
    given = Request(scope).headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _refusal(request: Request) -> Response:
    return respond(
        request,
        Forbidden(
            "a change by cookie must come from a page of this service: send the key as Authorization: Bearer instead",
            detail_zh="凭 Cookie 的更改须来自本服务的页面：请改用 Authorization: Bearer 发送密钥",
        ),
    )


def _fault(request: Request) -> Response:
    request_id = request.scope["state"]["request_id"]
    return respond(
        request,
        InternalError(
            f"the service failed on this request: tell its operator the request id {request_id}",
            detail_zh=f"服务处理此请求时出错：请将请求号 {request_id} 告知运维人员",
        ),
    )

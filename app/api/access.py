"""Keys at the door: who calls, which role may do what, how often, and one transaction per request."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi import params as parameters
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Connection

from app.api.problems import TooManyRequests
from app.db import access
from app.db.access import Caller
from app.errors import Forbidden, Invalid, Unauthenticated

__all__ = ["EVERYONE", "Bucket", "Caller", "Now", "RateLimit", "Transaction", "allow", "now", "transaction"]

# Every role that may look at figures; a gateway's key only sends readings.
EVERYONE = ("operator", "regulator", "official", "enterprise")

_bearer = HTTPBearer(
    auto_error=False, scheme_name="key", description="A key `nh_…` from `nenghao keys create`. 密钥以 nh_ 开头。"
)
_cookie = APIKeyCookie(
    name=access.KEY_COOKIE, auto_error=False, scheme_name="signed-in page", description="Set by the sign-in page."
)


def transaction(request: Request) -> Iterator[Connection]:
    """Open the request's one transaction; it commits before the answer is sent, or the answer is an error."""
    with request.app.state.engine.begin() as connection:
        yield connection


def now() -> datetime:
    """Return the present instant; a dependency, so that tests may stand elsewhere in time."""
    return datetime.now(UTC)


Transaction = Annotated[Connection, Depends(transaction, scope="function")]
Now = Annotated[datetime, Depends(now)]


@dataclass(slots=True)
class Bucket:
    """Tokens of one key: full at first, refilled evenly."""

    tokens: float
    filled_at_s: float


@dataclass(slots=True)
class RateLimit:
    """Token buckets of this process, one per key: a burst of so many requests, then a steady rate.

    Generous by default: it stops a runaway loop, not a busy client. Several processes each count for themselves.
    """

    burst: int = 600
    per_s: float = 60.0
    buckets: dict[int, Bucket] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def take(self, key_id: int, at_s: float) -> float:
        """Take one token and return how many are left; a negative answer means none was there to take."""
        with self.lock:
            bucket = self.buckets.setdefault(key_id, Bucket(self.burst, at_s))
            refill = max(0.0, at_s - bucket.filled_at_s) * self.per_s
            bucket.tokens, bucket.filled_at_s = min(self.burst, bucket.tokens + refill), at_s
            if bucket.tokens < 1:
                return bucket.tokens - 1
            bucket.tokens -= 1
            return bucket.tokens


def _limit(request: Request, response: Response, caller: Caller) -> None:
    limit: RateLimit = request.app.state.rate_limit
    left = limit.take(caller.key_id, time.monotonic())
    wait_s = math.ceil(-left / limit.per_s)
    headers = {
        "RateLimit-Limit": str(limit.burst),
        "RateLimit-Remaining": str(max(0, int(left))),
        "RateLimit-Reset": str(math.ceil((limit.burst - max(0.0, left)) / limit.per_s)),
    }
    if left < 0:
        raise TooManyRequests(
            f"this key has used its {limit.burst} requests: go on in {wait_s} s, at most {limit.per_s:g} a second",
            detail_zh=f"此密钥的 {limit.burst} 次请求已用完：{wait_s} 秒后再试，每秒最多 {limit.per_s:g} 次",
            headers={**headers, "Retry-After": str(max(1, wait_s))},
        )
    response.headers.update(headers)


def _given_key(
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    cookie: Annotated[str | None, Depends(_cookie)],
) -> str | None:
    return bearer.credentials if bearer else cookie


def _caller(
    request: Request,
    response: Response,
    connection: Transaction,
    at: Now,
    key: Annotated[str | None, Depends(_given_key)],
) -> Caller:
    caller = access.authenticate(connection, key, at) if key else None
    if caller is None:
        raise Unauthenticated(
            "no valid key: send Authorization: Bearer nh_… (a key may be unknown, expired or revoked)",
            detail_zh="没有有效密钥：请发送 Authorization: Bearer nh_…（密钥可能不存在、已过期或已撤销）",
        )
    _limit(request, response, caller)
    _check_parameters(request)
    return caller


def _check_parameters(request: Request) -> None:
    """Refuse a query parameter that the route does not have: a misspelt filter must not answer for everything."""
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    fields = get_flat_params(route.dependant)
    known = [field.alias for field in fields if isinstance(field.field_info, parameters.Query)]
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        raise Invalid(
            f"no such parameter here: {', '.join(unknown)}; there are {', '.join(known) or 'none'}",
            detail_zh=f"没有参数 {'、'.join(unknown)}；可用参数：{'、'.join(known) or '无'}",
            errors=[{"location": ["query", name], "message": "unknown parameter"} for name in unknown],
        )


def allow(*roles: str) -> Callable[[Caller], Caller]:
    """Return a dependency that gives the caller, or answers 401 without a valid key and 403 to other roles."""

    def allowed(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        if caller.role not in roles:
            raise Forbidden(
                f"role {caller.role} may not do this: it takes {' or '.join(roles)}",
                detail_zh=f"角色 {caller.role} 无权操作：需要 {' 或 '.join(roles)}",
            )
        return caller

    return allowed

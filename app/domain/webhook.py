"""Signed webhooks by the Standard Webhooks specification: secrets, signatures, answers, retries, allowed addresses."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from urllib.parse import urlsplit

# What may be asked for; endpoint.test goes to the endpoint that is tested, whatever it asks for.
EVENT_KINDS = ("alert.opened", "alert.resolved", "figure.revised")
SECRET_PREFIX = "whsec_"  # noqa: S105  the specification's public prefix, not a secret
# The specification asks for 24 to 64 random bytes.
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
# After the first attempt ten more, in seconds; together 23 h 43 min. A receiver that was down for a night still gets
# its notices; after that they are dead until an operator replays them.
RETRY_DELAYS_S = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 21600, 36000)
# Up to a tenth is taken off each delay at random, so that many deliveries to one receiver do not return together.
JITTER_SHARE = 0.1
RETRY_AFTER_MAX_S = 86_400
# Both secrets sign for a day after a rotation, so that the receiver can change over without missing a notice.
ROTATION_OVERLAP = timedelta(days=1)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Well-known prefix of NAT64: the last 32 bits are an IPv4 address that is reached through it.
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# What the library calls global and is not: protocol assignments (a cloud's metadata service is at 192.0.0.192), and the
# private addresses of IPv6 before fc00::/7.
NOT_PUBLIC = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv6Network("fec0::/10"))


class RefusedTarget(ValueError):
    """A webhook address that may not be used; the message says why and what to do."""


def parse_kind(pattern: str) -> str:
    """Return a pattern of event kinds such as alert.*; ValueError where no event would ever match it."""
    wanted = re.compile(re.escape(pattern).replace(r"\*", ".*"))
    if not any(wanted.fullmatch(kind) for kind in EVENT_KINDS):
        raise ValueError(
            f"no event is of kind {pattern!r}: there are {', '.join(EVENT_KINDS)}, or alert.* and figure.*"
        )
    return pattern


def parse_secret(secret: str) -> bytes:
    """Return the key of a secret written as whsec_<base64>; ValueError says what is wrong with another text."""
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError(f"a webhook secret starts with {SECRET_PREFIX}, followed by base64")
    try:
        key = base64.b64decode(secret[len(SECRET_PREFIX) :], validate=True)
    except binascii.Error as error:
        raise ValueError("a webhook secret is base64 after its prefix; this one does not decode") from error
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise ValueError(f"a webhook secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, this one {len(key)}")
    return key


def write_secret(key: bytes) -> str:
    """Return a key as whsec_<base64>."""
    return SECRET_PREFIX + base64.b64encode(key).decode("ascii")


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return "v1,<base64 HMAC-SHA256 of id.timestamp.body>"; the timestamp is in whole seconds."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    digest = hmac.new(parse_secret(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")


def headers(secrets: Sequence[str], message_id: str, sent_at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers of one attempt. The id is the same for every attempt; several secrets sign during rotation."""
    timestamp = int(sent_at.timestamp())
    return {
        "content-type": "application/json",
        "user-agent": "nenghao",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(secret, message_id, timestamp, body) for secret in secrets),
    }


class Outcome(StrEnum):
    """What came of an attempt; also the metric label."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver answered: a status, or None with the error that prevented one."""

    status: int | None
    error: str | None = None
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class NextStep:
    """What to write down after an attempt; next_attempt_at only for a retry."""

    outcome: Outcome
    error: str | None
    next_attempt_at: datetime | None = None


def next_step(answer: Answer, attempts: int, now: datetime, jitter: float) -> NextStep:
    """Return what follows the attempt number `attempts` (from 1). jitter is a random number in [0, 1).

    Only 2xx is success; a redirect is not followed; 410 means the receiver wants no more.
    """
    if answer.status is not None and 200 <= answer.status < 300:
        return NextStep(Outcome.DELIVERED, None)
    error = answer.error or _explain(answer.status)
    if answer.status == 410:
        return NextStep(Outcome.GONE, error)
    if attempts > len(RETRY_DELAYS_S):
        return NextStep(Outcome.DEAD, error)
    delay_s = RETRY_DELAYS_S[attempts - 1] * (1 - JITTER_SHARE * jitter)
    asked_s = retry_after_s(answer.retry_after, now)
    return NextStep(Outcome.RETRY, error, now + timedelta(seconds=max(delay_s, asked_s)))


def _explain(status: int | None) -> str:
    if status is not None and 300 <= status < 400:
        return f"answered {status}: redirects are not followed, enter the final address"
    return f"answered {status}, only 2xx counts as received"


def retry_after_s(header: str | None, now: datetime) -> float:
    """Return the seconds a Retry-After header asks for (a number or an HTTP date), at most a day; 0 without one."""
    if not header:
        return 0.0
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(min(int(text[:9]), RETRY_AFTER_MAX_S))
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a year of twenty digits is no ValueError
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), float(RETRY_AFTER_MAX_S))


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a comma-separated list of CIDRs; a malformed one raises ValueError naming it."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a webhook address."""

    scheme: str
    host: str
    port: int


def parse_target(url: str) -> Target:
    """Return the parts of a webhook address, or raise RefusedTarget."""
    if not url.isprintable() or " " in url:
        raise RefusedTarget(f"{url!r}: an address has no spaces, line breaks or invisible characters, leave them out")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RefusedTarget(f"{url!r} is no address: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise RefusedTarget(f"{url!r}: a webhook address starts with https:// (or http://) and a host name")
    if parts.username or parts.password:
        raise RefusedTarget("a webhook address carries no user name or password: notices are signed instead")
    if parts.fragment:
        raise RefusedTarget(f"{url!r}: a fragment is never sent, leave it out")
    return Target(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))


def allowed_address(addresses: Iterable[str], target: Target, allowed: Sequence[Network]) -> str:
    """Return the one address to connect to, of those a name resolves to, or raise RefusedTarget.

    Public addresses are allowed over https; private, loopback and link-local ones only inside the allowed networks,
    there over http too. If any address of the name is refused the name is refused: half-private names are a trick.
    """
    checked = [ipaddress.ip_address(text.split("%", 1)[0]) for text in addresses]
    if not checked:
        raise RefusedTarget(f"{target.host} has no address")
    for address in checked:
        inner = _inner(address)
        if any(inner in network for network in allowed if network.version == inner.version):
            continue
        is_public = inner.is_global and not any(inner in network for network in NOT_PUBLIC)
        where = target.host if target.host == str(address) else f"{target.host} is {address}, which"
        if not is_public or inner.is_multicast or inner.is_reserved or inner.is_unspecified:
            raise RefusedTarget(
                f"{where} is not public: add its network to NENGHAO_WEBHOOK_ALLOWED_NETWORKS if it is yours"
            )
        if target.scheme != "https":
            raise RefusedTarget(f"{target.host} is public: notices leave the private networks by https only")
    return str(checked[0])


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, if it leads to one."""
    if isinstance(address, ipaddress.IPv6Address):
        teredo = address.teredo
        inner = address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        return inner or address
    return address

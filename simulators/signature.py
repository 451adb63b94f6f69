"""Standard Webhooks signatures, verified by a receiver's own code (specification 1.0.0, symmetric `v1`)."""

import base64
import binascii
import hashlib
import hmac

TOLERANCE_S = 300
PREFIX = "whsec_"


class SignatureError(ValueError):
    """The request cannot be trusted; the message says why."""


def secret_bytes(secret: str) -> bytes:
    """Return the key of a secret `whsec_<base64>` (the prefix may be missing)."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise SignatureError("the secret is no base64 text after whsec_") from error
    if not key:
        raise SignatureError("the secret is empty")
    return key


def verify(secrets: list[str], headers: dict[str, str], body: bytes, now_s: float) -> str:
    """Return the webhook id of an authentic request; raise SignatureError otherwise.

    `headers` have lower-case names. Any of several secrets (while one is replaced by the next) and any of the
    signatures in the header will do. The timestamp may be five minutes off, in both directions.
    """
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    signatures = headers.get("webhook-signature", "")
    if not message_id or not timestamp or not signatures:
        raise SignatureError("webhook-id, webhook-timestamp or webhook-signature is missing")
    if not (timestamp.isascii() and timestamp.isdigit()):
        raise SignatureError(f"webhook-timestamp {timestamp[:40]!r} is no number of seconds")
    if abs(now_s - int(timestamp)) > TOLERANCE_S:
        raise SignatureError(f"webhook-timestamp is {int(now_s) - int(timestamp)} s off; at most {TOLERANCE_S}")
    content = f"{message_id}.{timestamp}.".encode() + body
    expected = [hmac.new(secret_bytes(secret), content, hashlib.sha256).digest() for secret in secrets]
    if not any(hmac.compare_digest(one, given) for given in _given(signatures) for one in expected):
        raise SignatureError("no signature fits the secret and the body")
    return message_id


def _given(header: str) -> list[bytes]:
    """Return the `v1` signatures of a header; other versions and broken ones are skipped."""
    given = []
    for part in header.split(" "):
        version, _, text = part.partition(",")
        if version == "v1":
            try:
                given.append(base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError):
                continue
    return given

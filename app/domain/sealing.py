"""The chain of receipts: each link covers its receipt, which covers its readings, and the link before it.

Altering or removing anything sealed breaks the chain from there on; without the later links nobody can mend it
unnoticed. The algorithm is SHA-256; a link is 32 bytes.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

FIRST_LINK = bytes(32)


def link(previous: bytes, kind: str, content: Mapping[str, Any]) -> bytes:
    """Return the digest of a link over the previous one, its kind (receipt or tombstone) and its content."""
    return hashlib.sha256(previous + kind.encode() + b"\0" + canonical(content)).digest()


def canonical(content: Mapping[str, Any]) -> bytes:
    """Return the one byte form of a record: JSON, keys sorted, no spaces, instants in UTC, bytes in hex."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain).encode()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    raise TypeError(f"a sealed record holds no {type(value).__name__}")

"""Messages gone wrong: the golden samples, each with a seq of its own, broken in ways drawn from a seed."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden" / "mqtt"
_SAMPLES = {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("up-*.json"))}
CORPUS = [
    *_SAMPLES.values(),
    *[raw for name, raw in _SAMPLES.items() if not name.startswith("up-state")] * 4,
    b'{"epoch": "e", "seq": 1, "readings": []}',
    b'{"epoch": "e", "seq": 1, "series": [{"point": "E1", "start": "2026-03-01T00:00Z", "step_s": 1, "values": []}]}',
    b'{"epoch": "e", "seq": 1, "readings": [], "readings": [{}]}',
    b'[{"epoch": "e", "seq": 1}]',
    b"\xff\xfe{\x00}\x00",
    b"",
]
NUMBERS = [
    *(b"1e999", b"-1e999", b"NaN", b"Infinity", b"-0.0", b"5e-324", b"1.7976931348623157e308", b"9" * 5000),
    *(b"0.1e-400", b"18446744073709551616", b"-9223372036854775809", b"9007199254740993", b"01", b"1_0"),
    *(b"true", b"null", b'"7"', b"[1]"),
]
STRINGS = [
    *(b'""', b'"\\u0000"', b'"\\ud800"', b'"\\u000g"', b'"\t"', b'"' + b"x" * 3000 + b'"', '"电表"'.encode()),
    *(b'"E000"', b'"E002"', b'"NOBODY"', b"null", b"0", b"{}"),
    *(b'"2026-02-30T00:00:00"', b'"2026-03-01T00:15:00+99:99"', b'"2026-03-01 00:15"', b'"2100-01-01T00:00Z"'),
    *(b'"9999-12-31T23:59:59.999999-23:59"', b'"0001-01-01T00:00:00+23:59"', b'"2019-12-31T23:59:59Z"'),
]
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?")
_DIGIT = re.compile(rb"[0-9]")
_STRING = re.compile(rb'"[^"\\]*"')


def mutants(count: int, seed: int) -> Iterator[bytes]:
    """Yield `count` messages, one in ten of them unharmed, one in fifty the one before once more."""
    chance, raw = random.Random(seed), b""
    for number in range(count):
        if number % 50 == 49:
            yield raw
            continue
        raw = re.sub(rb'"seq": [0-9]+', b'"seq": %d' % number, chance.choice(CORPUS), count=1)
        for _ in range(chance.choice((0, 1, 1, 1, 1, 2, 2, 2, 3, 8))):
            raw = chance.choice(_WAYS)(chance, raw)
        yield raw


def _flip(chance: random.Random, raw: bytes) -> bytes:
    at = chance.randrange(len(raw) + 1)
    return raw[:at] + chance.randbytes(1) + raw[at + 1 :]


def _insert(chance: random.Random, raw: bytes) -> bytes:
    at = chance.randrange(len(raw) + 1)
    return raw[:at] + chance.randbytes(chance.randrange(1, 9)) + raw[at:]


def _cut(chance: random.Random, raw: bytes) -> bytes:
    start, end = sorted(chance.choices(range(len(raw) + 1), k=2))
    return raw[:start] + raw[end:]


def _repeat(chance: random.Random, raw: bytes) -> bytes:
    start, end = sorted(chance.choices(range(len(raw) + 1), k=2))
    return raw[:end] + raw[start:end] * chance.randrange(1, 4) + raw[end:]


def _cross(chance: random.Random, raw: bytes) -> bytes:
    other = chance.choice(CORPUS)
    return raw[: chance.randrange(len(raw) + 1)] + other[chance.randrange(len(other) + 1) :]


def _nest(chance: random.Random, raw: bytes) -> bytes:
    depth = chance.choice((1, 50, 2000))
    return b"[" * depth + raw + b"]" * depth


def _number(chance: random.Random, raw: bytes) -> bytes:
    return _replaced(chance, raw, _NUMBER, NUMBERS)


def _string(chance: random.Random, raw: bytes) -> bytes:
    return _replaced(chance, raw, _STRING, STRINGS)


def _digit(chance: random.Random, raw: bytes) -> bytes:
    """Another time, value or seq: mostly a message that is as good as before."""
    return _replaced(chance, raw, _DIGIT, [b"%d" % digit for digit in range(10)])


def _replaced(chance: random.Random, raw: bytes, token: re.Pattern[bytes], others: list[bytes]) -> bytes:
    found = list(token.finditer(raw))
    if not found:
        return raw
    one = chance.choice(found)
    return raw[: one.start()] + chance.choice(others) + raw[one.end() :]


# Most leave the message readable, so that what is deeper than its syntax is reached as well.
_WAYS = [_flip, _insert, _cut, _repeat, _cross, _nest, *([_number, _string] * 4), *([_digit] * 16)]

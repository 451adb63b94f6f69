"""How values look on the wire: exact decimals as strings, instants in business time, pages by an opaque cursor."""

import base64
import binascii
import json
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from app.domain.calendar import local
from app.errors import Invalid

MAX_ID = 2**63 - 1


def _as_text(value: object) -> object:
    """Exact decimals come from the database as text or Decimal; both leave as plain digits."""
    return value if value is None or isinstance(value, str) else format(value, "f")


Exact = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(
        description="exact decimal number as a string",
        json_schema_extra={"format": "decimal"},
        pattern=r"^-?\d+(\.\d+)?$",
    ),
]
Instant = Annotated[
    datetime,
    PlainSerializer(local, return_type=str),
    Field(examples=["2026-10-01T08:15:00+08:00"], json_schema_extra={"format": "date-time"}),
]
Id = Annotated[int, Path(ge=1, le=MAX_ID, examples=[7])]
IdFilter = Annotated[int | None, Query(ge=1, le=MAX_ID, examples=[7])]
Limit = Annotated[int, Query(ge=1, le=500, description="rows in one page")]
DistrictFilter = Annotated[
    str | None, Query(pattern=r"^\d{6}$", description="district code (GB/T 2260)", examples=["120102"])
]
MONTH_PATTERN = r"^(19|20|21)[0-9]{2}-(0[1-9]|1[0-2])$"
Month = Annotated[str | None, Query(pattern=MONTH_PATTERN, description="calendar month", examples=["2026-10"])]


class Reasoned(BaseModel):
    """What a write may carry beside its content."""

    closed_year_reason: Annotated[str, Field(max_length=500)] | None = Field(
        default=None,
        description="why figures of a closed year are changed; required where they are, from operators alone",
        examples=["court order 2026-7"],
    )


class Answer(BaseModel):
    """Base of every answer's model: what is not in the model does not leave the service unseen."""

    model_config = ConfigDict(extra="forbid")


class Names(Answer):
    """A thing with its code and its names in both languages."""

    code: str = Field(examples=["120102"])
    name_zh: str = Field(examples=["河东区"])
    name_en: str = Field(examples=["Hedong District"])


def month_start(month: str | None) -> date | None:
    """Return the first day of a month given as `2026-10`."""
    return date.fromisoformat(f"{month}-01") if month else None


def encode_cursor(values: dict[str, Any]) -> str:
    """Return an opaque cursor for the place after a row."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, field: str = "id") -> int | None:
    """Return the place a cursor stands for; one that this service did not make raises Invalid."""
    if cursor is None:
        return None
    try:
        value = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))[field]
    except (binascii.Error, ValueError, KeyError, TypeError, IndexError):
        value = None
    if not isinstance(value, int) or not 0 < value <= MAX_ID:
        raise Invalid(
            "the cursor was not made by this list: start again without it",
            detail_zh="游标不是本列表给出的：请不带 cursor 重新开始",
            errors=[{"location": ["query", "cursor"], "message": "unknown cursor"}],
        )
    return value


Cursor = Annotated[
    str | None,
    Query(max_length=200, description="`next_cursor` of the page before; opaque", examples=["eyJpZCI6IDQxfQ"]),
]


def next_cursor(rows: list[dict[str, Any]], limit: int) -> str | None:
    """Cut a page that was read with one row too many, and return the cursor of what follows, if anything does."""
    if len(rows) <= limit:
        return None
    del rows[limit:]
    return encode_cursor({"id": rows[-1]["id"]})

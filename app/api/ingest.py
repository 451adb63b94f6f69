"""The HTTP twin of the MQTT lanes, for gateways that cannot speak MQTT: same payload, same ladder, same ack.

The one door from the application to `ingest`: what a message is and how it gets into the database is written there.
"""

import queue
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import Counter
from pydantic import Field

from app.api.access import Caller, Now, allow
from app.api.problems import TooLarge
from app.api.shapes import Answer
from app.errors import Problem, Unavailable
from ingest import payload
from ingest.store import Arrival, Outcome, Store, StoreUnavailableError

router = APIRouter(prefix="/api/v1/ingest", tags=["ingest"])
LANE = payload.LANES.index("http")
# Stores of this process, one connection each; a request that finds none free opens one more.
IDLE_STORES = 4
READINGS = Counter("nenghao_http_ingest_readings_total", "Readings over HTTP by result", ["result"])
REJECTS = Counter("nenghao_http_ingest_rejects_total", "Rejections over HTTP by reason", ["reason"])


class Rejected(Answer):
    """One item that was refused; it is kept in quarantine and need not be sent again."""

    index: int | None = Field(description="position in readings, then in each series; null: the message", examples=[3])
    reason: str = Field(examples=["unknown_point"])


class Ack(Answer):
    """What became of a message, once it is on disk; the gateway may delete it."""

    epoch: str | None = Field(examples=["9f3c2d7a"])
    lane: str = Field(examples=["http"])
    seq: int | None = Field(examples=[1042])
    accepted: int = Field(examples=[96])
    duplicate: int = Field(examples=[0])
    disputed: int = Field(examples=[0])
    rejected: list[Rejected]
    rejected_total: int | None = Field(None, description="where more than 1000 were refused: how many in all")
    committed_at: datetime


async def _body(request: Request) -> bytes:
    """Read a body of at most 256 KiB, as sent and as inflated; more raises TooLarge, bad gzip Problem."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > payload.MAX_BYTES:
            raise _too_large()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return bytes(body)
    if encoding != "gzip":
        raise Problem(
            f"content-encoding {encoding!r} is not understood: send gzip or nothing",
            detail_zh=f"不支持的内容编码 {encoding}：请用 gzip 或不压缩",
        )
    return _inflated(bytes(body))


def _inflated(body: bytes) -> bytes:
    """Inflate no further than the limit, so that a small body cannot fill the memory."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        inflated = inflater.decompress(body, payload.MAX_BYTES + 1)
    except zlib.error as error:
        raise Problem(f"the body is not gzip: {error}", detail_zh="内容不是合法的 gzip") from error
    if len(inflated) > payload.MAX_BYTES:
        raise _too_large()
    if not inflater.eof:
        raise Problem("the gzip body ends too early: send it whole", detail_zh="gzip 内容不完整")
    return inflated


def _too_large() -> TooLarge:
    return TooLarge(
        f"a message may have {payload.MAX_BYTES} bytes, also after inflation: send it in parts",
        detail_zh=f"单条报文（解压后）最多 {payload.MAX_BYTES} 字节：请分批发送",
    )


@contextmanager
def _store(request: Request) -> Iterator[Store]:
    """Lend a store; when one fails it is closed, and the idle ones with it: their connections are as old."""
    state = request.app.state
    if not hasattr(state, "ingest_stores"):
        state.ingest_stores = queue.LifoQueue(IDLE_STORES)
    stores: queue.LifoQueue[Store] = state.ingest_stores
    try:
        store = stores.get_nowait()
    except queue.Empty:
        store = Store(state.settings.database_url.get_secret_value())
    try:
        yield store
    except BaseException:
        store.close()
        while not stores.empty():
            stores.get_nowait().close()
        raise
    try:
        stores.put_nowait(store)
    except queue.Full:
        store.close()


@router.post(
    "",
    response_model=Ack,
    responses={204: {"description": "a `gone` answer was noted"}},
    summary="Send readings over HTTP 通过 HTTP 上报读数",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "example": {
                        "epoch": "9f3c2d7a",
                        "seq": 1042,
                        "readings": [{"point": "E001", "ts": "2026-10-01T08:15:00+08:00", "value": 104512.75}],
                    }
                }
            },
        }
    },
)
def send_readings(
    request: Request,
    caller: Annotated[Caller, Depends(allow("gateway"))],
    body: Annotated[bytes, Depends(_body)],
    now: Now,
) -> Response:
    """The message of GATEWAYS.md, by the key of the gateway (`nenghao keys create --role gateway --name CODE`); gzip
    is accepted. The answer is the ack of the MQTT contract, sent after the commit: delete the message on it alone.
    """
    arrival = Arrival(caller.name, LANE, body, now)
    try:
        outcome = _commit(request, arrival)
    except StoreUnavailableError as error:
        raise Unavailable(
            "the database does not take readings now; nothing of this message is stored: send it again later",
            detail_zh="数据库暂时无法写入，本报文未保存：请稍后重发",
        ) from error
    _count(outcome)
    if outcome.ack is None:
        return Response(status_code=204)
    return Response(payload.encode_ack(outcome.ack), media_type="application/json")


def _commit(request: Request, arrival: Arrival) -> Outcome:
    """Commit a message. A store that lay idle through a restart of the database fails once: then a fresh one tries."""
    try:
        return _commit_once(request, arrival)
    except StoreUnavailableError:
        return _commit_once(request, arrival)


def _commit_once(request: Request, arrival: Arrival) -> Outcome:
    with _store(request) as store:
        outcome = store.commit([arrival])[0]
        store.write_heard(at_once=True)  # its next message may be a quarter of an hour away
        return outcome


def _count(outcome: Outcome) -> None:
    ack: Any = outcome.ack
    if ack is None or outcome.is_repeat:
        return
    for result in ("accepted", "duplicate", "disputed"):
        READINGS.labels(result).inc(getattr(ack, result))
    for _, reason in ack.rejected:
        REJECTS.labels(reason).inc()

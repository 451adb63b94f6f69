"""An official's mailbox: receives webhooks, trusts none without a signature, prints what it would say."""

import json
import threading
import time
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from simulators.console import say
from simulators.signature import SignatureError, verify

FAILURES = ("500", "503", "429", "410", "redirect", "slow", "drop")
SLOW_S = 30.0
MOST_BYTES = 1 << 20


@dataclass(slots=True)
class Mailbox:
    """What the receiver knows. `fail_first` requests fail as `fail` says; None: all of them."""

    secrets: list[str]
    log: Path | None = None
    fail: str | None = None
    fail_first: int | None = None
    seen: set[str] = field(default_factory=set)
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def failure(self) -> str | None:
        """Count a request; return how it has to fail, if it has to."""
        with self.lock:
            self.requests += 1
            return self.fail if self.fail_first is None or self.requests <= self.fail_first else None

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        """Return (HTTP status, outcome) for a request: verified, duplicate, or refused with the reason."""
        try:
            message_id = verify(self.secrets, headers, body, time.time())
        except SignatureError as error:
            say(f"拒收，签名无效 REFUSED, signature not valid: {error}")
            return 401, f"refused: {error}"
        try:
            text = notice(json.loads(body))
        except (ValueError, TypeError, AttributeError) as error:
            say(f"签名有效，内容无法读取 signature verified, but the body cannot be read: {error}")
            return 400, f"unreadable: {error}"
        with self.lock:
            if message_id in self.seen:
                say(f"重复投递，已忽略 delivered before, ignored: {message_id}")
                return 200, "duplicate"
            self.seen.add(message_id)
        say(text)
        return 200, "verified"

    def write(self, entry: dict[str, Any]) -> None:
        """Append one JSON line to the log, if there is one."""
        if self.log is not None:
            with self.lock, self.log.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(entry, ensure_ascii=False) + "\n")


def notice(body: dict[str, Any]) -> str:
    """Return what an official reads, Chinese first; fields that are missing show as a dash."""
    data = body.get("data") or {}
    enterprise, line, district = (data.get(name) or {} for name in ("enterprise", "line", "district"))
    unit, level = data.get("unit") or "", data.get("level") or {}
    figures = [("实际 actual", "actual"), ("标杆 benchmark", "benchmark"), ("基准 baseline", "baseline")]
    lines = [
        f"━━ {body.get('type', '-')} · 签名已验证 signature verified ━━",
        f"企业 enterprise   {_pair(enterprise)} ({enterprise.get('uscc', '-')}), {_pair(district)}",
        f"生产线 line       {_pair(line)}: {data.get('product_zh') or '-'} {data.get('product_en') or ''}".rstrip(),
        f"期间 period       {data.get('period') or '-'}",
        "，".join(f"{label} {_text(data.get(name))} {unit}".rstrip() for label, name in figures),
        f"实测比例 measured share {_percent(data.get('measured_share'))}，能效比 ratio {_text(data.get('ratio'))}",
        f"依据 source       {_text(level.get('source'))} ({_text(level.get('confidence'))})",
    ]
    lines += [str(data[name]) for name in ("text_zh", "text_en", "url") if data.get(name)]
    return "\n".join(lines)


def _pair(named: dict[str, Any]) -> str:
    return f"{_text(named.get('name_zh'))} {named.get('name_en') or ''}".rstrip()


def _text(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)


def _percent(share: Any) -> str:
    try:
        return f"{Decimal(str(share)) * 100:.2f} %"
    except InvalidOperation:
        return "-"


class _Handler(BaseHTTPRequestHandler):
    """Answers POST on any path. `mailbox` and `is_ending` are set on the subclass made for a server."""

    mailbox: Mailbox
    is_ending: threading.Event

    def do_POST(self) -> None:
        """Take one webhook."""
        body = self.rfile.read(min(int(self.headers.get("content-length") or 0), MOST_BYTES))
        headers = {name.lower(): value for name, value in self.headers.items()}
        failure = self.mailbox.failure()
        status, outcome = self.mailbox.take(headers, body) if failure is None else (0, f"failed: {failure}")
        self.mailbox.write(
            {
                "received_at_s": time.time(),
                "path": self.path,
                "outcome": outcome,
                "headers": {name: value for name, value in headers.items() if name.startswith("webhook-")},
                "body": body.decode("utf-8", "replace"),
            }
        )
        if failure is None:
            self._answer(status)
        else:
            self._fail(failure)

    def _fail(self, failure: str) -> None:
        say(f"按要求失败 failing as asked: {failure}")
        if failure == "slow":
            self.is_ending.wait(SLOW_S)
            self._answer(200)
        elif failure == "redirect":
            self._answer(302, {"location": "http://127.0.0.1:9/"})
        elif failure == "drop":
            self.close_connection = True
        else:
            self._answer(int(failure), {"retry-after": "1"} if failure in ("429", "503") else {})

    def _answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the mailbox prints what matters."""


def make_server(mailbox: Mailbox, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server that listens (port 0: any free one); call `serve_forever`, then `shutdown`."""
    ending = threading.Event()
    handler = type("Handler", (_Handler,), {"mailbox": mailbox, "is_ending": ending})
    server = ThreadingHTTPServer((host, port), handler)
    server.daemon_threads = True
    server.block_on_close = False
    return server

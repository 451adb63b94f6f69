"""A real browser for the tests: Debian's headless Chromium, spoken to over its DevTools pipe.

The pipe needs no driver, no port and no package, and the browser ends by itself when its end of the pipe closes, even
if the test run was killed. Debian's driver would bring the whole desktop browser along, twice the size on the disk.
"""

import base64
import fcntl
import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.debian_tree import SYSTEM, Recipe, ensure_tree
from deploy.local.errors import LocalRuntimeError

PROGRAM = "usr/lib/chromium/chromium-headless-shell"
RECIPE = Recipe(
    name="browser",
    number=1,
    what="a headless Chromium for the tests",
    size="170 MB to fetch, 570 MB on the disk",
    packages=("chromium-headless-shell", "fonts-wqy-microhei"),
    needed=(PROGRAM, "usr/share/fonts/truetype/wqy/*.ttc"),
    programs=(PROGRAM,),
    libraries=("usr/lib/*/libpulse.so.0",),
    library_folders=("pulseaudio",),
)
# What a machine may have of its own when the packages cannot be fetched.
INSTALLED = ("/usr/bin/chromium-headless-shell", "/usr/bin/chromium")
OPTIONS = (
    *("--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps"),
    *("--disable-breakpad", "--mute-audio", "--hide-scrollbars", "--password-store=basic"),
)
ANSWER_TIMEOUT_S = 30.0
WAIT_S = 10.0
_POLL_S = 0.05


@dataclass(frozen=True)
class Chromium:
    """A browser's program, and what its environment needs to find the fonts beside it."""

    program: Path
    environment: Mapping[str, str]


def ensure_chromium(folder: Path, say: Callable[[str], None]) -> Chromium:
    """Return the browser unpacked in the folder, or this machine's own where that fails; else say what to do."""
    try:
        root = ensure_tree(RECIPE, folder, say)
    except LocalRuntimeError as error:
        own = next((Path(name) for name in INSTALLED if Path(name).exists()), None)
        if own is None:
            raise LocalRuntimeError(
                f"the pages are tested in a browser, and there is none: {error}\n"
                "Give this machine access to Debian's package mirror, or install chromium-headless-shell or chromium."
            ) from error
        say(f"the browser's packages could not be unpacked ({error}); using {own}")
        return Chromium(own, {})
    fonts = {} if root == SYSTEM else {"FONTCONFIG_SYSROOT": str(root)}
    return Chromium(root / PROGRAM, fonts)


def _pipe() -> tuple[int, int]:
    """A pipe whose descriptors are not among those that the browser gets."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


class Browser:
    """One running browser; every page of it has cookies of its own."""

    def __init__(self, chromium: Chromium, profile: Path) -> None:
        to_browser, our_write = _pipe()
        our_read, from_browser = _pipe()
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to be root in its sandbox
        words = [str(chromium.program), *OPTIONS, *sandbox, f"--user-data-dir={profile}", "about:blank"]
        # The protocol is on descriptors 3 and 4, and a shell puts them there.
        shell = ["bash", "-c", f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}']
        with (profile / "browser.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*shell, *words],
                pass_fds=(to_browser, from_browser),
                env={**os.environ, **chromium.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(to_browser)
        os.close(from_browser)
        self._read, self._write, self._log = our_read, our_write, profile / "browser.log"
        self._buffer, self._number = b"", 0
        self._pages: dict[str, Page] = {}

    def close(self) -> None:
        """Close the pipe, at which the browser ends."""
        os.close(self._write)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._read)

    @contextmanager
    def page(self, *, width: int = 1280, height: int = 900, language: str = "en", script: str = "") -> Iterator["Page"]:
        """A page as a new visitor sees it; `script` runs before the scripts of every document."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.call("Network.setExtraHTTPHeaders", headers={"Accept-Language": language})
        if script:
            page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
        page.resize(width, height)
        try:
            yield page
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)
            del self._pages[session]

    def call(self, method: str, session: str | None = None, **parameters: object) -> dict[str, Any]:
        """Send a command and return its result; events that come meanwhile go to their pages."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            answer = self._receive(deadline, method)
            if answer.get("id") != self._number:
                self._note(answer)
            elif "error" in answer:
                raise BrowserRefusal(f"{method}: {answer['error']['message']}")
            else:
                return dict(answer["result"])

    def _note(self, event: Mapping[str, Any]) -> None:
        page = self._pages.get(event.get("sessionId", ""))
        if page is not None and "method" in event:
            page.note(event["method"], event["params"])

    def _receive(self, deadline: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"the browser did not answer {method} within {ANSWER_TIMEOUT_S:.0f} s")
            received = os.read(self._read, 1 << 16)
            if not received:
                raise AssertionError(f"the browser ended:\n{self._log.read_text(errors='replace')[-2000:]}")
            self._buffer += received
        message, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(message))


class BrowserRefusal(Exception):
    """The browser could not do what it was told, for example because the document has just been left."""


@dataclass
class Page:
    """One page: what it asked for (`requests`), what it complained of (`errors`), and hands to use it with."""

    browser: Browser
    session: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send a command of this page."""
        return self.browser.call(method, self.session, **parameters)

    def note(self, method: str, event: Mapping[str, Any]) -> None:
        """Keep requests and complaints."""
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(event["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")

    def resize(self, width: int, height: int) -> None:
        """Take the size of a screen."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, url: str) -> None:
        """Go to an address and wait until everything of it is there."""
        answer = self.call("Page.navigate", url=url)
        assert not answer.get("errorText"), f"{url}: {answer['errorText']}"
        self.wait_for(f"{url} loaded", "document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, what: str, expression: str, timeout_s: float = WAIT_S) -> Any:
        """Return the first value of an expression that is not null, false or empty.

        A document that is just being left has none yet.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                value = self.evaluate(expression)
            except BrowserRefusal:
                value = None
            if value not in (None, False, "", 0):  # an element comes as {}
                return value
            time.sleep(_POLL_S)
        raise AssertionError(f"{what}: not within {timeout_s:.0f} s; the page reads:\n{self.text()[:2000]}")

    def wait_for_text(self, text: str, timeout_s: float = WAIT_S) -> None:
        """Wait until a text can be read on the page."""
        self.wait_for(f"text {text!r}", f"document.body?.innerText.includes({json.dumps(text)})", timeout_s)

    def text(self, selector: str = "body") -> str:
        """Return what a reader sees of an element."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element; one that is covered or not there fails."""
        found = self.wait_for(
            f"{selector} to click on",
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null;"
            " e.scrollIntoView({block: 'center'}); const r = e.getClientRects()[0]; if (!r) return null;"
            " const x = r.x + r.width / 2, y = r.y + r.height / 2, hit = document.elementFromPoint(x, y);"
            " return hit && (e === hit || e.contains(hit)) ? {x, y} : null; })()",
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **found)

    def write(self, selector: str, text: str) -> None:
        """Click into a field and type."""
        self.click(selector)
        self.wait_for(f"{selector} to write in", f"document.activeElement?.matches({json.dumps(selector)})")
        self.call("Input.insertText", text=text)

    def overflow_px(self) -> int:
        """Return by how much the page is wider than its window: 0 when nothing scrolls sideways."""
        return int(self.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def picture(self) -> bytes:
        """Return what the window shows, as PNG, to look at after a failure."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

"""The pages in a real browser: what people do on them, in both languages, on a desk and on a phone."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine

from tests.browser import Browser, Page
from tests.integration.api_site import Site, build
from tests.integration.served_site import served

PHONE = 390
# refresh.js waits 15 s; in the tests its clock runs 50 times as fast.
FASTER = "const wait = window.setInterval; window.setInterval = (f, ms) => wait(f, ms / 50);"


@pytest.fixture
def site(engine: Engine, database_url: str) -> Site:
    return build(engine, database_url)


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    with served(site.app) as found:
        yield found


@contextmanager
def visitor(
    browser: Browser, address: str, key: str | None, *, language: str = "en", width: int = 1280, script: str = ""
) -> Iterator[Page]:
    """A visitor who signed in; at the end nothing was complained of and no other host was asked."""
    with browser.page(width=width, language=language, script=script) as page:
        page.open(address + "/")
        if key is not None:
            page.write("#key", key)
            page.click(".sign-in button")
            page.wait_for("the overview", "document.querySelector('.figures')")
        yield page
        assert page.errors == []
        hosts = {urlsplit(url).netloc for url in page.requests if not url.startswith("data:")}
        assert hosts == {urlsplit(address).netloc}


def test_a_wrong_key_is_told_so_clearly(browser: Browser, address: str) -> None:
    with browser.page() as page:
        page.open(address + "/")
        page.write("#key", "nh_wrong")
        page.click(".sign-in button")
        page.wait_for("an error", "document.querySelector('[role=alert]')")
        assert page.text("[role=alert]") == "This key is not valid: it may be unknown, expired or revoked."
        assert page.evaluate("document.querySelector('.figures')") is None
        assert [error for error in page.errors if "401" not in error] == [], "a refused key is a 401, and no more"

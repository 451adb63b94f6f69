"""Which browser the tests take: the unpacked one, else this machine's, else a sentence that says what to do."""

from pathlib import Path

import pytest

from deploy.local.debian_tree import SYSTEM, Recipe
from deploy.local.errors import LocalRuntimeError
from tests import browser


def _unreachable(recipe: Recipe, folder: Path, say: object) -> Path:
    raise LocalRuntimeError("apt-get update failed: no route to the mirror")


def test_the_unpacked_browser_finds_the_fonts_of_its_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(browser, "ensure_tree", lambda *_: tmp_path)
    found = browser.ensure_chromium(tmp_path, print)
    assert found.program == tmp_path / browser.PROGRAM
    assert found.environment == {"FONTCONFIG_SYSROOT": str(tmp_path)}
    monkeypatch.setattr(browser, "ensure_tree", lambda *_: SYSTEM)
    assert browser.ensure_chromium(tmp_path, print).environment == {}


def test_the_machines_own_browser_stands_in_and_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "chromium"
    own.touch()
    monkeypatch.setattr(browser, "ensure_tree", _unreachable)
    monkeypatch.setattr(browser, "INSTALLED", (str(tmp_path / "none"), str(own)))
    said: list[str] = []
    assert browser.ensure_chromium(tmp_path, said.append).program == own
    assert "no route to the mirror" in said[0]


def test_without_any_browser_the_tests_fail_and_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(browser, "ensure_tree", _unreachable)
    monkeypatch.setattr(browser, "INSTALLED", (str(tmp_path / "none"),))
    with pytest.raises(LocalRuntimeError, match=r"(?s)no route to the mirror.*install chromium-headless-shell"):
        browser.ensure_chromium(tmp_path, print)

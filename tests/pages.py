"""Pages, opened in a real browser; the browser is the fixture `browser` of conftest.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def visit(browser: Any, path: Path, width: int = 1000) -> tuple[list[str], list[str], Any]:
    """Open a page without network: what it said, what it asked for, and the page."""
    context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
    tab = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)
    tab.wait_for_timeout(200)
    return said, asked, tab


def drawn_in_silence(browser: Any, text: str, folder: Path) -> int:
    """Open a reproduction's page as narrow as a telephone; it says nothing, fits, and draws all charts: how many."""
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    said, _, tab = visit(browser, path, width=400)
    charts = int(tab.locator("[data-chart]").count())
    assert tab.locator("svg.marks").count() == charts
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    assert said == []
    return charts


def specifications(text: str) -> dict[str, Any]:
    """The charts in a page by name; each has its place there."""
    found: dict[str, Any] = json.loads(re.findall(r'id="charts">(.*?)</script>', text, flags=re.S)[0])
    assert sorted(re.findall(r'data-chart="([^"]+)"', text)) == sorted(found)
    return found

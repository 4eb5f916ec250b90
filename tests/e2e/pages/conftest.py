"""The page's files and the gallery on a static server with the strict policy that the real origin has, and Chromium."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, Playwright

from tests.support import browser as chromium

ROOT = Path(__file__).parents[3]
FOLDERS = {"gallery": ROOT / "tests" / "e2e" / "gallery", "": ROOT / "web_client"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

Open = Callable[..., Awaitable[Page]]


class _Files(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".js": "text/javascript"}

    def translate_path(self, path: str) -> str:
        first, _, rest = path.partition("?")[0].lstrip("/").partition("/")
        if first == "gallery":
            return str(FOLDERS["gallery"] / (rest or "index.html"))
        file = FOLDERS[""] / first / rest
        return str(file if file.is_file() else FOLDERS[""] / "index.html")

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests say what went wrong."""


@pytest.fixture(scope="session")
def gallery() -> Iterator[str]:
    """Address of the gallery."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Files) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/gallery/"
        server.shutdown()
        thread.join()


@pytest_asyncio.fixture
async def open_state(gallery: str, playwright: Playwright) -> AsyncIterator[Open]:
    """Opens a state of the gallery in one browser of the test; fails on what the page throws or logs as an error."""
    logs: list[list[str]] = []
    async with chromium.launched(playwright, None) as browser:

        async def open_one(state: str, viewport: tuple[int, int] = chromium.DESKTOP, scheme: str = "dark") -> Page:
            context = await chromium.context_of(browser, viewport=viewport, scheme=scheme, base_url=gallery)
            page = await context.new_page()
            logs.append(chromium.watch_errors(page))
            await page.goto(f"{gallery}?state={state}")
            await page.wait_for_selector("body[data-ready]", timeout=20_000)
            return page

        yield open_one
        assert [error for log in logs for error in log] == []

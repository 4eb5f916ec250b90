"""Headless Chromium for tests: one browser process a person, each with a camera and microphone of its own."""

import base64
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.async_api import Browser, BrowserContext, Page, Playwright

from tests.support.media import Devices

# No background traffic, no throttling of pages that nobody looks at, no GPU.
FLAGS: Final = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--autoplay-policy=no-user-gesture-required",
    "--auto-select-desktop-capture-source=Entire screen",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)
DESKTOP: Final = (1280, 800)
PHONE: Final = (390, 844)


def executable() -> str | None:
    """Path of a Chromium that is installed, or None."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


def missing() -> str | None:
    return None if executable() else "Chromium is not installed (Debian package chromium)"


@asynccontextmanager
async def launched(
    playwright: Playwright, devices: Devices | None, extra: Sequence[str] = (), *, program: Path | None = None
) -> AsyncIterator[Browser]:
    """A Chromium whose camera and microphone play `devices`; `program` is what starts it where that is not itself."""
    flags = [*FLAGS, *extra]
    if devices:
        flags += [
            f"--use-file-for-fake-video-capture={devices.video}",
            f"--use-file-for-fake-audio-capture={devices.audio}",
        ]
    browser = await playwright.chromium.launch(
        executable_path=program or executable(),
        headless=True,
        args=flags,
        # Chromium refuses its sandbox to root, whom CI runs as.
        chromium_sandbox=os.geteuid() != 0,
    )
    try:
        yield browser
    finally:
        await browser.close()


def trusting(certificate: Path) -> str:
    """The flag that makes Chromium trust this one certificate (a PEM file), for the page and for TURN over TLS."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return f"--ignore-certificate-errors-spki-list={base64.b64encode(digest).decode()}"


async def context_of(
    browser: Browser,
    *,
    viewport: tuple[int, int] = DESKTOP,
    scheme: str = "dark",
    base_url: str,
    runs_anything: bool = False,
) -> BrowserContext:
    """A fresh profile that may use camera and microphone. With `runs_anything` pages' content security policies do not
    count: a probe may then bring a worklet of its own."""
    return await browser.new_context(
        base_url=base_url,
        viewport={"width": viewport[0], "height": viewport[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        permissions=["camera", "microphone"],
        ignore_https_errors=True,
        bypass_csp=runs_anything,
        reduced_motion="reduce",
    )


def watch_errors(page: Page) -> list[str]:
    """Collects what the page throws or logs as an error; tests assert that the list stays empty."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(f"pageerror: {error}"))
    page.on("console", lambda message: errors.append(f"console: {message.text}") if message.type == "error" else None)
    return errors


async def screenshot(page: Page, folder: Path, name: str) -> None:
    """Saves what the page shows; the pictures of a run are looked at by people."""
    folder.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=folder / f"{name}.png")

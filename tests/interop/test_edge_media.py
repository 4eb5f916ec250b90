"""Recordings of the data folder, served by the edge to whoever has a link."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from conference.adapters.files import FilesMediaFiles
from conference.adapters.files.links import MEDIA_PATH, Links, shared_secret
from conference.adapters.system import SystemClock
from conference.domain.records import StorageTier
from conference.settings import Settings
from local.edge.wiring import running

pytestmark = pytest.mark.interop
NAME = "rooms/0a1b/composite.mp4"
CLOCK = SystemClock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, host="127.0.0.1", port=0)


@pytest.fixture
def files(settings: Settings) -> FilesMediaFiles:
    """As the Functions app has them, in a process of its own: folder and secret are what both share."""
    folder = settings.media_folder
    return FilesMediaFiles(folder, CLOCK, Links.of(folder, settings.public_url))


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[aiohttp.ClientSession]:
    async with running(settings) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as found:
        yield found


async def _link(files: FilesMediaFiles, *, earlier: timedelta = timedelta(0)) -> str:
    parts = urlsplit(await files.link(NAME, CLOCK.now() - earlier))
    return f"{parts.path}?{parts.query}"


async def test_a_link_plays_the_recording_from_anywhere(client: aiohttp.ClientSession, files: FilesMediaFiles) -> None:
    await files.put(NAME, b"0123456789")
    link = await _link(files)
    async with client.get(link) as answer:
        assert (answer.status, await answer.read()) == (200, b"0123456789")
        assert answer.headers["Content-Type"] == "video/mp4"
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    async with client.get(link, headers={"Range": "bytes=4-6"}) as answer:
        assert (answer.status, await answer.read()) == (206, b"456")
    async with client.head(link) as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, "10")


async def test_nothing_else_is_served(client: aiohttp.ClientSession, files: FilesMediaFiles) -> None:
    await files.put(NAME, b"media")
    await files.put("rooms/other.mp4", b"other")
    link = await _link(files)
    for target in (
        link.partition("?")[0],
        link[:-1] + ("0" if link[-1] != "0" else "1"),
        link.replace(NAME, "rooms/other.mp4"),
        await _link(files, earlier=timedelta(minutes=16)),
        f"{MEDIA_PATH}/links.key",
        f"{MEDIA_PATH}/",
    ):
        async with client.get(target) as answer:
            assert answer.status == 404, target
    async with client.put(link, data=b"mine") as answer:
        assert answer.status == 405
    await files.move(NAME, StorageTier.ARCHIVE)
    async with client.get(link) as answer:
        assert answer.status == 404
    await files.delete(NAME)
    async with client.get(link) as answer:
        assert answer.status == 404


def test_all_processes_of_a_machine_have_one_secret(tmp_path: Path) -> None:
    first = shared_secret(tmp_path / "media" / "links.key")
    assert len(first) == 32
    assert shared_secret(tmp_path / "media" / "links.key") == first
    assert (tmp_path / "media" / "links.key").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in (tmp_path / "media").iterdir()] == ["links.key"]


@pytest.mark.parametrize("damage", [b"", b"short"])
def test_a_damaged_secret_signs_nothing(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "links.key").write_bytes(damage)
    with pytest.raises(OSError, match="is damaged"):
        shared_secret(tmp_path / "links.key")

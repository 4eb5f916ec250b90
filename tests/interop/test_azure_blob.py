"""Blob storage on Azurite: bearer tokens and user-delegation links over https, and what goes wrong on the way."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from azure.core.credentials import AccessToken

from conference.adapters.azure.calls import RETRIES
from conference.adapters.azure.credentials import EMULATOR_KEY, EmulatorCredential
from conference.adapters.blob import BlobMediaFiles, client
from conference.adapters.blob.client import Container
from conference.adapters.retries import Retries
from conference.domain.errors import Unavailable
from conference.ports.media_files import LONGEST_LINK, Draft
from local.azurite.server import Azurite
from tests.support.azurite import fresh_name, running
from tests.support.faults import HANG, LOST, RESET, FaultyFront, faulty

pytestmark = pytest.mark.interop

QUICK = Retries(attempts=5, attempt_s=1.0, total_s=10.0, base_s=0.01, wait_s=0.05)
NAME = "rooms/0a1b/00001.webm"
DRAFT = Draft(NAME, "recorder-1")
HOLDER = "0b7de0b0-6a5f-4f51-9d1d-0c7f5f2b5f01"


@pytest.fixture
async def front(azurite: Azurite) -> AsyncIterator[FaultyFront]:
    async with faulty(azurite.blob_endpoint) as found:
        yield found


@pytest.fixture
async def files(front: FaultyFront) -> AsyncIterator[BlobMediaFiles]:
    async with aclosing(Container(front.endpoint, fresh_name(), EMULATOR_KEY, retries=QUICK)) as container:
        yield BlobMediaFiles(container)


def _secured(server: Azurite, credential: EmulatorCredential, *, endpoint: str = "", **options: Any) -> Container:
    assert server.certificate is not None
    return Container(
        endpoint or server.blob_endpoint,
        fresh_name(),
        credential,
        connection_verify=str(server.certificate.ca_file),
        **options,
    )


# --- what goes wrong on the way ---


@pytest.mark.parametrize("fate", [503, 500, 429, RESET, HANG, LOST])
async def test_a_growing_file_survives_every_failure_whole(
    files: BlobMediaFiles, front: FaultyFront, fate: str | int
) -> None:
    await files.put("first", b"the container is there")
    for number in range(3):
        front.fates.extend([fate] if number else [fate, fate])
        await files.stage(DRAFT, number, bytes([number]) * 1_000)
    front.fates.append(fate)
    assert await files.staged(DRAFT) == [0, 1, 2]
    front.fates.append(fate)
    assert await files.commit(DRAFT, [0, 1, 2])
    front.fates.append(fate)
    assert await files.read(NAME) == b"\0" * 1_000 + b"\1" * 1_000 + b"\2" * 1_000


@pytest.mark.parametrize("fate", [503, RESET, LOST])
async def test_a_file_whose_answer_is_lost_is_put_once(
    files: BlobMediaFiles, front: FaultyFront, fate: str | int
) -> None:
    await files.put("first", b"the container is there")
    front.fates.append(fate)
    assert await files.put(NAME, b"media")
    assert not await files.put(NAME, b"other")
    assert await files.read(NAME) == b"media"


@pytest.mark.parametrize("fate", [503, HANG, RESET])
async def test_a_service_that_stays_away_is_unavailable_after_a_bounded_number_of_tries(
    files: BlobMediaFiles, front: FaultyFront, fate: str | int
) -> None:
    front.fates.extend([fate] * 50)
    with pytest.raises(Unavailable) as unavailable:
        await files.stage(DRAFT, 0, b"media")
    assert unavailable.value.retryable
    # The HTTP client itself repeats a request whose connection closes before an answer; at most once a try.
    assert QUICK.attempts <= front.seen <= 2 * QUICK.attempts


async def test_questions_and_what_moves_content_have_limits_of_their_own(
    azurite: Azurite, front: FaultyFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RETRIES.attempt_s < client.TRANSFERS.attempt_s
    monkeypatch.setattr(client, "RETRIES", replace(QUICK, attempts=1))
    monkeypatch.setattr(client, "TRANSFERS", replace(QUICK, attempts=2))
    async with aclosing(Container(front.endpoint, fresh_name(), EMULATOR_KEY)) as container:
        files = BlobMediaFiles(container)
        await files.put(NAME, b"media")
        for moves in (partial(files.put, "a", b"a"), partial(files.stage, DRAFT, 0, b"a"), partial(files.read, NAME)):
            front.fates.append(503)
            await moves()
        for asks in (partial(files.facts, NAME), partial(files.staged, DRAFT), partial(files.delete, NAME)):
            front.fates.append(503)
            with pytest.raises(Unavailable):
                await asks()


async def test_a_recording_goes_on_where_it_stopped_after_azurite_was_killed(tmp_path: Path) -> None:
    """An Azurite that keeps its blobs on disk: what was staged is there again."""
    with running(tmp_path / "clock", folder=tmp_path / "azurite") as server:
        retries = Retries(attempts=200, attempt_s=1.0, total_s=220.0, base_s=0.05, wait_s=0.1)
        async with aclosing(Container(server.blob_endpoint, fresh_name(), EMULATOR_KEY, retries=retries)) as container:
            files = BlobMediaFiles(container)
            await files.stage(DRAFT, 0, b"before")
            await asyncio.to_thread(server.stop)
            waiting = asyncio.create_task(files.stage(DRAFT, 1, b"after"))
            done, _ = await asyncio.wait([waiting], timeout=1.0)
            assert not done
            await asyncio.to_thread(server.start)
            await waiting
            assert await files.staged(DRAFT) == [0, 1]
            assert await files.commit(DRAFT, [0, 1])
            assert await files.read(NAME) == b"beforeafter"


# --- bearer tokens ---


async def test_a_user_delegation_link_reads_one_file_and_writes_none(secure_azurite: Azurite) -> None:
    async with aclosing(_secured(secure_azurite, EmulatorCredential())) as container:
        files = BlobMediaFiles(container)
        await files.put(NAME, b"media")
        await files.put("rooms/other.webm", b"other")
        now = datetime.now(UTC)
        url = await files.link(NAME, now)
        asked = parse_qs(urlsplit(url).query)
        assert (asked["sp"], asked["sr"], asked["spr"]) == (["r"], ["b"], ["https"])
        assert "skoid" in asked  # signed with a user-delegation key, not with the account's
        ends = datetime.fromisoformat(asked["se"][0])
        assert ends - now <= LONGEST_LINK
        async with httpx.AsyncClient(verify=_trust(secure_azurite)) as client:
            answer = await client.get(url)
            assert (answer.status_code, answer.content) == (200, b"media")
            assert answer.headers["content-type"] == "video/webm"
            assert (await client.get(url.replace(NAME, "rooms/other.webm"))).status_code == 403
            put = await client.put(url, content=b"mine", headers={"x-ms-blob-type": "BlockBlob"})
            assert put.status_code == 403
            ended = await files.link(NAME, now - timedelta(minutes=20))
            assert (await client.get(ended)).status_code == 403


def _trust(server: Azurite) -> ssl.SSLContext:
    assert server.certificate is not None
    return ssl.create_default_context(cafile=server.certificate.ca_file)


async def test_a_delegation_key_serves_many_links(secure_azurite: Azurite) -> None:
    async with aclosing(_secured(secure_azurite, EmulatorCredential())) as container:
        files = BlobMediaFiles(container)
        now = datetime.now(UTC)
        links = [await files.link(NAME, now + timedelta(minutes=minute)) for minute in range(0, 400, 60)]
        keys = [parse_qs(urlsplit(url).query)["ske"][0] for url in links]
        assert len(set(keys)) == 2  # of six hours each
        for url, ends in zip(links, keys, strict=True):
            assert parse_qs(urlsplit(url).query)["se"][0] <= ends


class CountingCredential(EmulatorCredential):
    def __init__(self) -> None:
        self.asked = 0

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.asked += 1
        return await super().get_token(*scopes)


async def test_a_token_that_the_service_no_longer_takes_is_replaced(secure_azurite: Azurite) -> None:
    """As after a key roll-over or with a clock that differs: 401, although the token claims to be good for an hour."""
    credential = CountingCredential()
    async with faulty(secure_azurite.blob_endpoint, secure_azurite.certificate) as front:
        container = _secured(secure_azurite, credential, endpoint=front.endpoint, retries=QUICK)
        async with aclosing(container):
            files = BlobMediaFiles(container)
            assert await files.put("first", b"media")
            assert credential.asked == 1
            front.fates.append(401)
            assert await files.put(NAME, b"media")
            assert credential.asked == 2


async def test_a_block_for_a_leased_name_waits_for_the_end_of_the_lease(azurite: Azurite) -> None:
    async with aclosing(Container(azurite.blob_endpoint, fresh_name(), EMULATOR_KEY)) as container:
        files = BlobMediaFiles(container)
        await files.put(NAME, b"media")
        assert await files.lease(NAME, HOLDER, seconds=15)
        with pytest.raises(Unavailable, match="the leased file") as unavailable:
            await files.stage(DRAFT, 0, b"a")
        assert unavailable.value.retryable
        assert await files.release(NAME, HOLDER)
        await files.stage(DRAFT, 0, b"a")


async def test_chunks_of_eight_tracks_at_once_arrive_whole(azurite: Azurite) -> None:
    async with aclosing(Container(azurite.blob_endpoint, fresh_name(), EMULATOR_KEY)) as container:
        files = BlobMediaFiles(container)
        bodies = [os.urandom(300_000) for _ in range(8)]
        await asyncio.gather(*(files.put(f"track-{n}/00000.webm", body) for n, body in enumerate(bodies)))
        read = await asyncio.gather(*(files.read(f"track-{n}/00000.webm") for n in range(8)))
        assert read == bodies

"""The Functions app's services on Azure's, as the settings build them: Azurite over https and the local vault."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import pytest

from conference.adapters.azure.credentials import EMULATOR_KEY
from conference.adapters.memory import memory_stores
from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.adapters.queues import AzureEventQueue
from conference.adapters.retries import Retries
from conference.adapters.sql.migrate import migrate
from conference.domain.errors import Unavailable
from conference.protocol.events import decode_event
from conference.settings import Settings
from functions import events, wiring
from functions.services import Services
from local.azurite.server import Azurite, Certificate
from tests.support.azurite import fresh_name, running
from tests.support.meetings import a_consent, a_meeting, user
from tests.support.vault import KEY, running_vault

pytestmark = pytest.mark.interop


@asynccontextmanager
async def _services(chosen: Settings) -> AsyncIterator[Services]:
    built = await wiring.build(chosen)
    try:
        yield built.services
    finally:
        await built.close()


async def test_an_app_on_azures_services_signs_queues_and_links(secure_azurite: Azurite, tmp_path: Path) -> None:
    trusted = secure_azurite.certificate
    assert trusted is not None
    async with running_vault(trusted) as vault:
        chosen = Settings(
            data_dir=tmp_path,
            oidc_issuer="https://issuer.example",
            queues="azure",
            media_files="azure",
            blob_endpoint=secure_azurite.blob_endpoint,
            queue_endpoint=secure_azurite.queue_endpoint,
            recordings_container=fresh_name(),
            keyvault_url=vault.url,
            keyvault_key=KEY,
            ca_file=trusted.ca_file,
        )
        await migrate(chosen.sql_url)
        async with _services(chosen) as services, _services(chosen) as other:
            await _signs_with_one_set(services, other)
            await _links_to_recordings(services, trusted)
            await _moves_events(services, other)
    assert not list(tmp_path.rglob("*.pem"))  # no signing key is on this disk


async def _signs_with_one_set(services: Services, other: Services) -> None:
    now = services.clock.now()
    token = await services.tokens.mint_service(subject="signaling", audience="tunnel", now=now)
    assert await other.tokens.verify_service(token, audience="tunnel", now=now) == "signaling"


async def _links_to_recordings(services: Services, trusted: Certificate) -> None:
    await services.media_files.put("rooms/a/composite.mp4", b"media")
    url = await services.media_files.link("rooms/a/composite.mp4", services.clock.now())
    async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=trusted.ca_file)) as client:
        assert (await client.get(url)).content == b"media"


async def _moves_events(services: Services, other: Services) -> None:
    now = services.clock.now()
    meeting = a_meeting(now)
    await services.meetings.create(meeting)
    for number in range(3):
        await services.meetings.record_consent(a_consent(meeting, user(number), now, number))
    assert await events.relay(services) == 4
    received = await other.queue.receive(events.QUEUE, now=now)
    assert [decode_event(message.body).seq for message in received] == [1, 2, 3, 4]
    assert all([await other.queue.delete(events.QUEUE, message) for message in received])


async def test_events_wait_while_azurite_is_down_and_none_is_lost_or_doubled(tmp_path: Path) -> None:
    """The relay meets the outage in the middle, fails, and goes on where it stopped."""
    clock, ids = ManualClock(), SequenceIds()
    stores = memory_stores(ids)
    meeting = a_meeting(clock.now())
    await stores.meetings.create(meeting)
    with running(tmp_path / "clock", folder=tmp_path / "azurite") as server:
        retries = Retries(attempts=2, attempt_s=1.0, total_s=4.0, base_s=0.05, wait_s=0.05)
        async with aclosing(AzureEventQueue(server.queue_endpoint, EMULATOR_KEY, retries=retries)) as queue:
            used = {field.name: getattr(stores, field.name) for field in fields(stores)}
            services = cast(Services, SimpleNamespace(**{**used, "queue": queue, "clock": clock}))
            assert await events.relay(services) == 1
            for number in range(5):
                await stores.meetings.record_consent(a_consent(meeting, user(number), clock.now(), number))
            await asyncio.to_thread(server.stop)
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await events.relay(services)
                clock.advance(31)  # what was claimed is free again
            await asyncio.to_thread(server.start)
            assert await events.relay(services) == 5
            received = await queue.receive(events.QUEUE, now=clock.now(), limit=32)
            assert [decode_event(message.body).seq for message in received] == [1, 2, 3, 4, 5, 6]

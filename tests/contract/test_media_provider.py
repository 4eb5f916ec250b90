"""Port `MediaProvider`: over memory, over Azure Communication Services and LiveKit with their real SDKs.

The services are the servers of this repository, which check every signature and token.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import jwt
import pytest
from azure.core.credentials import AccessToken, AccessTokenInfo, AzureKeyCredential

from conference.adapters.acs.rooms import ROOM_LIFE, AcsRooms
from conference.adapters.livekit import LiveKitRooms
from conference.adapters.retries import Retries
from conference.domain.errors import Unavailable
from conference.domain.ids import MeetingId, Secret, UserId
from conference.domain.meetings import Role
from conference.ports.media_provider import MediaProvider, OwnMedia, ProviderAccess, RoomPlan
from local.acs.server import AcsServer
from local.edge.certificates import Certificates
from tests.support.providers import (
    ACS_KEY,
    QUICK,
    Behind,
    BehindAcs,
    BehindLiveKit,
    behind_acs,
    behind_livekit,
    behind_memory,
    served,
)

pytestmark = pytest.mark.contract
USER = UserId("00000000-0000-4000-8000-0000000000aa")
SERVICES: dict[str, Callable[[], AbstractAsyncContextManager[Behind]]] = {"acs": behind_acs, "livekit": behind_livekit}
ALL = {"memory": behind_memory, **SERVICES}


@pytest.fixture(params=ALL)
async def behind(request: pytest.FixtureRequest) -> AsyncIterator[Behind]:
    async with ALL[request.param]() as found:
        yield found


@pytest.fixture(params=SERVICES)
async def service(request: pytest.FixtureRequest) -> AsyncIterator[Behind]:
    async with SERVICES[request.param]() as found:
        yield found


@pytest.fixture
async def acs() -> AsyncIterator[BehindAcs]:
    async with behind_acs() as found:
        yield found


@pytest.fixture
async def livekit() -> AsyncIterator[BehindLiveKit]:
    async with behind_livekit() as found:
        yield found


def now() -> datetime:
    return datetime.now(UTC)


def a_plan(opens_in: timedelta = timedelta(0)) -> RoomPlan:
    created = now() - timedelta(seconds=1)
    return RoomPlan(MeetingId(str(uuid4())), created, created + opens_in, 50)


async def opened(behind: Behind, plan: RoomPlan) -> tuple[str, str]:
    """The room and its host's identity."""
    host = await behind.provider.new_identity(USER)
    room = await behind.provider.open_room(plan, {host: Role.HOST})
    assert room is not None
    return room, host


async def admitted(behind: Behind, plan: RoomPlan, room: str, role: Role) -> ProviderAccess:
    identity = await behind.provider.new_identity(UserId(str(uuid4())))
    return await behind.provider.admit(plan, room, identity, role, now=now())


# --- the contract ---


async def test_of_one_meeting_there_is_one_room_however_often_it_is_asked_for(behind: Behind) -> None:
    plan = a_plan()
    first, host = await opened(behind, plan)
    again = await asyncio.gather(*(behind.provider.open_room(plan, {host: Role.HOST}) for _ in range(5)))
    assert set(again) == {first}
    assert behind.rooms() == 1
    other, _ = await opened(behind, a_plan())
    assert other != first
    assert behind.rooms() == 2


async def test_a_room_that_was_taken_back_can_be_made_again(behind: Behind) -> None:
    plan = a_plan()
    first, host = await opened(behind, plan)
    await behind.provider.close_room(first)
    later = replace(plan, created_at=plan.created_at + timedelta(seconds=1))
    room = await behind.provider.open_room(later, {host: Role.HOST})
    assert room is not None
    assert behind.rooms() == 1
    assert behind.role_of(await behind.provider.admit(later, room, host, Role.HOST, now=now())) is not None


@pytest.mark.parametrize("role", Role)
async def test_who_is_admitted_gets_in_with_their_role(behind: Behind, role: Role) -> None:
    plan = a_plan()
    room, _ = await opened(behind, plan)
    access = await admitted(behind, plan, room, role)
    assert access.room_id == room
    told = Role.ATTENDEE if isinstance(behind, BehindLiveKit) and role is Role.HOST else role
    assert behind.role_of(access) is told
    assert abs(access.expires_at - now() - behind.provider.token_life) < timedelta(seconds=60)
    assert access.token.reveal() not in repr(access)


async def test_an_access_given_again_is_of_the_same_guest(behind: Behind) -> None:
    plan = a_plan()
    room, _ = await opened(behind, plan)
    first = await admitted(behind, plan, room, Role.ATTENDEE)
    again = await behind.provider.admit(plan, room, first.identity, Role.ATTENDEE, now=now())
    assert again.identity == first.identity
    assert behind.role_of(again) is Role.ATTENDEE


async def test_a_changed_role_holds_for_who_is_in_the_room(behind: Behind) -> None:
    plan = a_plan()
    room, _ = await opened(behind, plan)
    access = await admitted(behind, plan, room, Role.ATTENDEE)
    assert behind.role_of(access) is Role.ATTENDEE
    for role in (Role.VIEWER, Role.VIEWER, Role.ATTENDEE):
        await behind.provider.change_role(room, access.identity, role)
        current = (
            access
            if not isinstance(behind, BehindAcs)
            else await behind.provider.admit(plan, room, access.identity, role, now=now())
        )
        assert behind.role_of(current) is role


async def test_who_is_revoked_does_not_get_in_again(behind: Behind) -> None:
    plan = a_plan()
    room, _ = await opened(behind, plan)
    access, other = [await admitted(behind, plan, room, Role.ATTENDEE) for _ in range(2)]
    assert behind.role_of(access) is Role.ATTENDEE
    for _ in range(2):
        await behind.provider.revoke(room, access.identity, now=now())
        assert behind.role_of(access) is None
    assert behind.role_of(other) is Role.ATTENDEE


async def test_a_closed_room_lets_nobody_in(behind: Behind) -> None:
    plan = a_plan()
    room, _ = await opened(behind, plan)
    access = await admitted(behind, plan, room, Role.ATTENDEE)
    for _ in range(2):
        await behind.provider.close_room(room)
        assert behind.role_of(access) is None
    assert behind.rooms() == 0
    await behind.provider.revoke(room, access.identity, now=now())  # of a room that is gone: nothing


async def test_a_dropped_identity_is_void(behind: Behind) -> None:
    plan = a_plan()
    room, _ = await opened(behind, plan)
    access = await admitted(behind, plan, room, Role.ATTENDEE)
    for _ in range(2):
        await behind.provider.drop_identity(access.identity)
    if not isinstance(behind, BehindLiveKit):  # whose identities are names that nobody keeps
        assert behind.role_of(access) is None


async def test_our_own_media_needs_no_room() -> None:
    own: MediaProvider = OwnMedia()
    assert await own.open_room(a_plan(), {USER: Role.HOST}) is None
    assert await own.new_identity(USER) == USER
    assert own.token_life == timedelta(0)
    await own.change_role("", USER, Role.VIEWER)
    await own.revoke("", USER, now=now())
    await own.drop_identity(USER)
    await own.close_room("")


# --- Azure Communication Services ---


async def test_the_room_has_the_meetings_window_and_roster(acs: BehindAcs) -> None:
    plan = a_plan(timedelta(hours=2))
    room, host = await opened(acs, plan)
    made = acs.server.resource.rooms[room]
    assert abs(made.valid_from - plan.opens) < timedelta(milliseconds=1)
    assert made.valid_until - made.valid_from == ROOM_LIFE
    assert made.roster == {host: "Presenter"}


async def test_a_host_who_comes_early_opens_the_room(acs: BehindAcs) -> None:
    plan = a_plan(timedelta(hours=2))
    room, host = await opened(acs, plan)
    access = await acs.provider.admit(plan, room, host, Role.HOST, now=now())
    assert acs.role_of(access) is Role.HOST


async def test_a_room_in_use_is_carried_on(acs: BehindAcs) -> None:
    created = now() - ROOM_LIFE / 2
    plan = RoomPlan(MeetingId(str(uuid4())), created, created, 50)
    room, host = await opened(acs, plan)
    await acs.provider.admit(plan, room, host, Role.HOST, now=now())
    assert acs.server.resource.rooms[room].valid_until > now() + ROOM_LIFE - timedelta(minutes=1)


async def test_a_room_that_is_gone_is_no_room_to_be_admitted_to(acs: BehindAcs) -> None:
    plan = a_plan()
    room, host = await opened(acs, plan)
    await acs.provider.close_room(room)
    with pytest.raises(Unavailable) as refused:
        await acs.provider.admit(plan, room, host, Role.HOST, now=now())
    assert refused.value.retryable is False


async def test_a_viewers_token_starts_no_call(acs: BehindAcs) -> None:
    plan = a_plan()
    room, _ = await opened(acs, plan)
    scopes = [await _scopes(acs, plan, room, role) for role in Role]
    assert scopes == [["voip"], ["voip"], ["voip.join"]]


async def _scopes(acs: BehindAcs, plan: RoomPlan, room: str, role: Role) -> list[str]:
    token = (await admitted(acs, plan, room, role)).token.reveal()
    scopes: list[str] = jwt.decode(token, options={"verify_signature": False})["scp"]
    return scopes


async def test_a_wrong_key_is_refused_and_not_tried_again() -> None:
    server = AcsServer(ACS_KEY, lambda: now().timestamp())
    async with served(server.application()) as origin:
        provider = AcsRooms(origin, AzureKeyCredential("bm90IHRoZSBrZXkgYXQgYWxs"), retries=QUICK)
        with pytest.raises(Unavailable) as refused:
            await provider.new_identity(USER)
        await provider.close()
    assert refused.value.retryable is False
    assert server.requests == []


async def test_a_clock_that_is_wrong_is_refused() -> None:
    server = AcsServer(ACS_KEY, lambda: now().timestamp() + 3_600)
    async with served(server.application()) as origin:
        provider = AcsRooms(origin, AzureKeyCredential(ACS_KEY), retries=QUICK)
        with pytest.raises(Unavailable):
            await provider.new_identity(USER)
        await provider.close()


class Entra:
    """A token credential, as azure-identity's are."""

    async def get_token(self, *scopes: str, **more: object) -> AccessToken:
        assert scopes == ("https://communication.azure.com//.default",)
        return AccessToken("an-entra-token", int(now().timestamp()) + 3_600)

    async def get_token_info(self, *scopes: str, **more: object) -> AccessTokenInfo:
        token = await self.get_token(*scopes)
        return AccessTokenInfo(token.token, token.expires_on)

    async def close(self) -> None:
        return None

    async def __aenter__(self) -> "Entra":
        return self

    async def __aexit__(self, *exception: object) -> None:
        return None


async def test_an_identity_of_entra_opens_the_service_over_tls(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "tls")
    certificates.ensure(["127.0.0.1"], now())
    server = AcsServer(ACS_KEY, lambda: now().timestamp(), bearer="an-entra-token")
    async with served(server.application(), certificates.server_context()) as origin:
        provider = AcsRooms(origin, Entra(), ca_file=certificates.ca_file, retries=QUICK)
        behind = BehindAcs(server, provider)
        plan = a_plan()
        room, host = await opened(behind, plan)
        assert behind.role_of(await provider.admit(plan, room, host, Role.HOST, now=now())) is Role.HOST
        await provider.close()


# --- LiveKit ---


async def test_a_secret_that_is_wrong_is_refused_and_not_tried_again(livekit: BehindLiveKit) -> None:
    async with served(livekit.server.application()) as origin:
        provider = LiveKitRooms(origin, "APIparley", Secret("another-secret-that-is-long-enough"), retries=QUICK)
        with pytest.raises(Unavailable) as refused:
            await provider.open_room(a_plan(), {})
        await provider.close()
    assert refused.value.retryable is False
    assert livekit.server.requests == ["CreateRoom"]


async def test_a_room_that_stood_empty_is_there_again_for_who_is_admitted(livekit: BehindLiveKit) -> None:
    plan = a_plan()
    room, host = await opened(livekit, plan)
    livekit.server.rooms.clear()
    access = await livekit.provider.admit(plan, room, host, Role.HOST, now=now())
    assert livekit.role_of(access) is Role.ATTENDEE
    assert livekit.server.rooms[room].max_participants == 50


async def test_clients_are_told_the_websocket_address() -> None:
    provider = LiveKitRooms("https://livekit.example.com", "key", Secret("s" * 32))
    assert provider.clients_url == "wss://livekit.example.com"


# --- faults ---


@pytest.mark.parametrize("kind", ["busy", "down"])
async def test_a_busy_service_is_asked_again(service: Behind, kind: str) -> None:
    service.faults.order(kind, times=2)
    await opened(service, a_plan())
    assert service.rooms() == 1


async def test_a_slow_answer_is_waited_for(service: Behind) -> None:
    service.faults.order("slow", path="oom", seconds=0.1)
    await opened(service, a_plan())
    assert service.calls("room") == 1


@pytest.mark.parametrize("kind", ["busy", "down"])
async def test_a_service_that_stays_busy_is_given_up_after_three_attempts(service: Behind, kind: str) -> None:
    service.faults.order(kind, times=100)
    before = len(service.server.requests)  # type: ignore[attr-defined]
    with pytest.raises(Unavailable) as refused:
        await service.provider.open_room(a_plan(), {})
    assert refused.value.retryable
    assert len(service.server.requests) - before == 3  # type: ignore[attr-defined]
    assert service.rooms() == 0


async def test_a_long_wait_is_left_to_the_caller(acs: BehindAcs) -> None:
    acs.faults.order("busy", times=100, retry_after_s=30)
    with pytest.raises(Unavailable) as refused:
        await acs.provider.open_room(a_plan(), {})
    assert refused.value.after_s == 30
    assert acs.calls("room") == 1


async def test_a_short_wait_is_kept(acs: BehindAcs) -> None:
    patient = Retries(attempt_s=2.0, total_s=6.0, base_s=0.01)
    async with behind_acs(patient) as found:
        found.faults.order("busy", retry_after_s=1)
        started = asyncio.get_running_loop().time()
        await found.provider.open_room(a_plan(), {})
        assert asyncio.get_running_loop().time() - started >= 1


@pytest.mark.parametrize("kind", ["silent", "lost"])
async def test_an_answer_that_never_comes_doubles_no_room(service: Behind, kind: str) -> None:
    service.faults.order(kind, path="oom")  # /rooms of one, CreateRoom of the other
    plan = a_plan()
    room, _ = await opened(service, plan)
    assert service.rooms() == 1
    assert service.calls("room") == 2
    assert await service.provider.open_room(plan, {}) == room


async def test_an_identity_that_may_have_been_made_is_not_asked_for_again(acs: BehindAcs) -> None:
    acs.faults.order("lost", path="/identities")
    with pytest.raises(Unavailable):
        await acs.provider.new_identity(USER)
    assert acs.calls("identity") == 1
    assert len(acs.server.resource.identities) == 1


@pytest.mark.parametrize("kind", ["silent", "lost", "busy"])
async def test_a_revocation_outlasts_faults(service: Behind, kind: str) -> None:
    plan = a_plan()
    room, _ = await opened(service, plan)
    access = await admitted(service, plan, room, Role.ATTENDEE)
    assert service.role_of(access) is Role.ATTENDEE
    service.faults.order(kind)
    await service.provider.revoke(room, access.identity, now=now())
    assert service.role_of(access) is None


async def test_a_service_that_never_answers_is_given_up_in_time(service: Behind) -> None:
    service.faults.order("silent", times=100)
    started = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable):
        await service.provider.close_room("a-room")
    assert asyncio.get_running_loop().time() - started < QUICK.total_s + 1


@pytest.mark.parametrize("name", SERVICES)
async def test_a_half_open_socket_is_given_up_in_time(name: str) -> None:
    """The connection is made, by the kernel, and nobody ever reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        provider = _provider(name, origin)
        with pytest.raises(Unavailable):
            await provider.open_room(a_plan(), {})
        await provider.close()


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_that_is_not_there_is_unavailable(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    provider = _provider(name, origin)
    with pytest.raises(Unavailable) as refused:
        await provider.open_room(a_plan(), {})
    assert refused.value.retryable
    await provider.close()


def _provider(name: str, origin: str) -> AcsRooms | LiveKitRooms:
    if name == "acs":
        return AcsRooms(origin, AzureKeyCredential(ACS_KEY), retries=QUICK)
    return LiveKitRooms(origin, "APIparley", Secret("s" * 32), retries=QUICK)

"""Meetings whose media is another provider's, over REST: what is booked, admitted, revoked and closed, and when not."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from conference.adapters.memory.media_provider import MemoryMediaProvider
from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import MeetingId
from conference.domain.meetings import MediaProvider, Role
from conference.domain.records import DomainEvent
from conference.ports.media_provider import OwnMedia
from conference.protocol.events import encode_event
from functions import media
from functions.events import handle

pytestmark = pytest.mark.unit
ACS = {"settings": {"mediaProvider": "acs"}}
PAGE_WAITS_S = 15  # web_client/protocol/api.js


def reason(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition("/")[2]


@pytest.fixture
def acs(stage: Any) -> MemoryMediaProvider:
    provider = MemoryMediaProvider(timedelta(hours=1))
    stage.change(providers={MediaProvider.PARLEY: OwnMedia(), MediaProvider.ACS: provider})
    return provider


async def stored(stage: Any, meeting_id: str) -> Any:
    return await stage.services.meetings.get(MeetingId(meeting_id))


async def events(stage: Any, meeting_id: str) -> list[DomainEvent]:
    return list(await stage.services.outbox.events(MeetingId(meeting_id)))


async def test_a_meeting_comes_with_its_room_window_and_host(stage: Any, ada: Any, acs: MemoryMediaProvider) -> None:
    meeting = await ada.creates_meeting(**ACS, scheduledTime="2026-01-05T10:00:00Z")
    assert meeting["settings"]["mediaProvider"] == "acs"
    room_id = (await stored(stage, meeting["id"])).provider_room
    room = acs.rooms[room_id]
    assert (room.meeting_id, room.opens.isoformat()) == (meeting["id"], "2026-01-05T09:45:00+00:00")
    assert list(room.roster.values()) == [Role.HOST]
    assert room.roster.keys() == acs.identities


async def test_a_meeting_that_is_open_at_once_has_a_room_that_is_too(
    stage: Any, ada: Any, acs: MemoryMediaProvider
) -> None:
    meeting = await ada.creates_meeting(**ACS)
    (room,) = acs.rooms.values()
    assert room.opens == stage.clock.now()
    soon = await ada.creates_meeting(**ACS, scheduledTime="2026-01-01T12:10:00Z")
    assert acs.rooms[(await stored(stage, soon["id"])).provider_room].opens == stage.clock.now()
    assert meeting["id"] != soon["id"]


@pytest.mark.parametrize("path", ["meetings", "rooms"])
async def test_a_join_answers_the_way_into_the_room(
    stage: Any, ada: Any, ben: Any, acs: MemoryMediaProvider, path: str
) -> None:
    meeting = await ada.creates_meeting(**ACS)
    grant = (await ben.post(f"/v1/{path}/{meeting['id']}/join", {"userId": ben.id})).json()
    assert grant["token"] == grant["signalingToken"]  # ours, beside the provider's
    way = grant["provider"]
    assert (way["name"], way["endpoint"], way["expiresAt"]) == ("acs", "memory://rooms", "2026-01-01T13:00:00Z")
    assert way["roomId"] == (await stored(stage, meeting["id"])).provider_room
    assert acs.tokens[way["token"]] == way["identity"]
    assert acs.rooms[way["roomId"]].roster[way["identity"]] is Role.ATTENDEE


async def test_each_role_is_told_and_the_host_is_known_from_the_beginning(
    ada: Any, ben: Any, admin: Any, acs: MemoryMediaProvider
) -> None:
    meeting = await ada.creates_meeting(**ACS)
    (room,) = acs.rooms.values()
    host = (await ada.joins(meeting["id"])).json()["provider"]["identity"]
    attendee = (await ben.joins(meeting["id"])).json()["provider"]["identity"]
    viewer = (await admin.joins(meeting["id"], role="viewer")).json()["provider"]["identity"]
    assert room.roster == {host: Role.HOST, attendee: Role.ATTENDEE, viewer: Role.VIEWER}


async def test_joining_again_gives_the_same_guest_a_new_access(ada: Any, ben: Any, acs: MemoryMediaProvider) -> None:
    meeting = await ada.creates_meeting(**ACS)
    first, again = [(await ben.joins(meeting["id"])).json()["provider"] for _ in range(2)]
    assert first["identity"] == again["identity"]
    assert first["token"] != again["token"]
    assert len(acs.identities) == 2


async def test_joins_at_once_make_one_guest(ada: Any, ben: Any, acs: MemoryMediaProvider) -> None:
    meeting = await ada.creates_meeting(**ACS)
    answers = await asyncio.gather(*(ben.joins(meeting["id"]) for _ in range(5)))
    assert {answer.json()["provider"]["identity"] for answer in answers} < acs.identities
    assert len(acs.identities) == 2


async def test_a_place_is_held_as_long_as_the_access_lasts(
    stage: Any, ada: Any, ben: Any, admin: Any, acs: Any
) -> None:
    meeting = await ada.creates_meeting(settings={"mediaProvider": "acs", "maxParticipants": 2})
    for person in (ada, ben):
        assert (await person.joins(meeting["id"])).status_code == 200
    stage.clock.advance(3_599)
    assert reason(await admin.joins(meeting["id"])) == (409, "room-full")
    stage.clock.advance(2)
    assert (await admin.joins(meeting["id"])).status_code == 200


async def test_a_room_that_is_open_at_once_answers_the_hosts_way_in(ada: Any, acs: MemoryMediaProvider) -> None:
    room = (await ada.post("/v1/rooms", {"hostId": ada.id, **ACS})).json()
    assert acs.rooms[room["provider"]["roomId"]].roster == {room["provider"]["identity"]: Role.HOST}
    own = (await ada.post("/v1/rooms", {"hostId": ada.id})).json()
    assert "provider" not in own


async def test_meetings_of_our_own_have_no_room_elsewhere(ada: Any, ben: Any, acs: MemoryMediaProvider) -> None:
    meeting = await ada.creates_meeting()
    assert "provider" not in (await ben.joins(meeting["id"])).json()
    assert acs.rooms == {}
    assert acs.identities == set()


async def test_the_deployments_provider_is_that_of_meetings_that_choose_none(
    stage: Any, ada: Any, acs: MemoryMediaProvider
) -> None:
    stage.change(config=replace(stage.services.config, media_provider=MediaProvider.ACS))
    assert (await ada.creates_meeting())["settings"]["mediaProvider"] == "acs"
    for settings in ({"mediaProvider": "parley"}, {"aiEnabled": True}, {"isRecordingEnabled": True}):
        own = await ada.creates_meeting(settings=settings)
        assert own["settings"]["mediaProvider"] == "parley"
    assert len(acs.rooms) == 1


# --- refusals ---


@pytest.mark.parametrize(
    "settings",
    [
        {"mediaProvider": "livekit"},
        {"mediaProvider": "acs", "aiEnabled": True},
        {"mediaProvider": "acs", "isRecordingEnabled": True},
        {"mediaProvider": "acs", "waitingRoom": True},
    ],
)
async def test_what_the_provider_does_not_give_is_refused_and_books_nothing(
    ada: Any, acs: MemoryMediaProvider, settings: dict[str, Any]
) -> None:
    response = await ada.post("/v1/meetings", {"hostId": ada.id, "settings": settings})
    assert reason(response) == (422, "not-available")
    assert acs.rooms == {}


async def test_the_provider_of_a_meeting_does_not_change(ada: Any, acs: MemoryMediaProvider) -> None:
    for settings, other in (({}, "acs"), ({"mediaProvider": "acs"}, "parley")):
        meeting = await ada.creates_meeting(settings=settings)
        path, body = f"/v1/rooms/{meeting['id']}", {"settings": {"mediaProvider": other}}
        assert reason(await ada.call("PATCH", path, body, If_Match="*")) == (422, "not-available")
        kept = {"settings": {"mediaProvider": settings.get("mediaProvider", "parley"), "maxParticipants": 9}}
        assert (await ada.call("PATCH", path, kept, If_Match="*")).status_code == 200


async def test_nobody_is_muted_where_the_media_is_not_ours(ada: Any, ben: Any, acs: MemoryMediaProvider) -> None:
    meeting = await ada.creates_meeting(**ACS)
    place = (await ben.joins(meeting["id"])).json()["participantId"]
    muted = await ada.post(f"/v1/rooms/{meeting['id']}/participants/{place}/mute")
    assert reason(muted) == (422, "not-available")


# --- repetition, and a provider or store that is away ---


async def test_a_repeated_creation_makes_one_room(stage: Any, ada: Any, acs: MemoryMediaProvider) -> None:
    body = {"hostId": ada.id, **ACS}
    answers = [await ada.post("/v1/meetings", body, Idempotency_Key="k") for _ in range(3)]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(acs.rooms) == 1
    assert len(acs.identities) == 1
    other = await ada.post("/v1/meetings", {**body, "password": "tea"}, Idempotency_Key="k")
    assert reason(other) == (422, "idempotency-conflict")
    assert len(acs.rooms) == 1


async def test_creations_at_once_under_one_key_make_one_room(ada: Any, acs: MemoryMediaProvider) -> None:
    body = {"hostId": ada.id, **ACS}
    answers = await asyncio.gather(*(ada.post("/v1/meetings", body, Idempotency_Key="k") for _ in range(5)))
    assert [answer.status_code for answer in answers] == [201] * 5
    assert len(acs.rooms) == 1
    (room,) = acs.rooms.values()
    assert room.roster.keys() & acs.identities
    assert len(acs.identities) == 1


async def test_a_provider_that_is_away_is_told_and_nothing_is_left_behind(
    stage: Any, ada: Any, acs: MemoryMediaProvider
) -> None:
    acs.away = True
    body = {"hostId": ada.id, **ACS}
    refused = await ada.post("/v1/meetings", body, Idempotency_Key="k")
    assert reason(refused) == (503, "provider-unavailable")
    assert refused.headers["Retry-After"] == "7"
    assert (await ada.get("/v1/meetings")).json()["items"] == []
    acs.away = False
    assert (await ada.post("/v1/meetings", body, Idempotency_Key="k")).status_code == 201
    assert len(acs.rooms) == len(acs.identities) == 1


async def test_a_room_that_cannot_be_made_leaves_no_identity(
    ada: Any, acs: MemoryMediaProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*given: Any) -> None:
        raise Unavailable("rooms")

    monkeypatch.setattr(acs, "open_room", fails)
    assert reason(await ada.post("/v1/meetings", {"hostId": ada.id, **ACS})) == (503, "provider-unavailable")
    assert acs.identities == set()


@pytest.mark.parametrize("call", ["new_identity", "open_room"])
async def test_a_provider_that_answers_too_late_is_given_up(
    ada: Any, acs: MemoryMediaProvider, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    async def hangs(*given: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(media, "MOST_S", 0.1)
    monkeypatch.setattr(acs, call, hangs)
    refused = await ada.post("/v1/meetings", {"hostId": ada.id, **ACS})
    assert reason(refused) == (503, "provider-unavailable")
    assert acs.identities == set()


async def test_whatever_a_request_asks_of_a_provider_is_given_up_before_a_page_does(
    ada: Any, ben: Any, acs: MemoryMediaProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout, allowed = asyncio.timeout, list[float]()

    def noted(delay: float) -> asyncio.Timeout:
        allowed.append(delay)
        return timeout(delay)

    meeting = await ada.creates_meeting(**ACS)
    monkeypatch.setattr(asyncio, "timeout", noted)
    for path, body, asked in (
        ("/v1/rooms", {"hostId": ada.id, **ACS}, 3),  # an identity, a room, an access
        (f"/v1/meetings/{meeting['id']}/join", {"userId": ben.id}, 2),
    ):
        allowed.clear()
        assert (await (ada if "hostId" in body else ben).post(path, body)).is_success
        assert len(allowed) == asked
        assert sum(allowed) < PAGE_WAITS_S


async def test_a_meeting_that_is_not_stored_leaves_no_room(
    stage: Any, ada: Any, acs: MemoryMediaProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*given: Any, **more: Any) -> None:
        raise Unavailable("store")

    monkeypatch.setattr(stage.services.meetings, "create", fails)
    assert reason(await ada.post("/v1/meetings", {"hostId": ada.id, **ACS})) == (503, "unavailable")
    assert acs.rooms == {}
    assert acs.identities == set()


async def test_a_meeting_that_was_stored_without_an_answer_keeps_its_room(
    stage: Any, ada: Any, acs: MemoryMediaProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = stage.services.meetings.create

    async def answers_late(*given: Any, **more: Any) -> None:
        await create(*given, **more)
        raise Unavailable("store")

    body = {"hostId": ada.id, **ACS}
    with monkeypatch.context() as patched:
        patched.setattr(stage.services.meetings, "create", answers_late)
        assert (await ada.post("/v1/meetings", body, Idempotency_Key="k")).status_code == 503
    meeting = (await ada.post("/v1/meetings", body, Idempotency_Key="k")).json()
    assert (await ada.joins(meeting["id"])).json()["provider"]["roomId"] in acs.rooms
    assert len(acs.rooms) == 1


async def test_a_join_that_the_provider_misses_takes_no_place(
    stage: Any, ada: Any, ben: Any, acs: MemoryMediaProvider
) -> None:
    meeting = await ada.creates_meeting(settings={"mediaProvider": "acs", "maxParticipants": 2})
    acs.away = True
    assert reason(await ben.joins(meeting["id"])) == (503, "provider-unavailable")
    assert await stage.services.meetings.live_count(MeetingId(meeting["id"]), stage.clock.now()) == 0
    acs.away = False
    assert (await ben.joins(meeting["id"])).status_code == 200
    acs.away = True
    assert reason(await ben.joins(meeting["id"])) == (503, "provider-unavailable")
    assert await stage.services.meetings.live_count(MeetingId(meeting["id"]), stage.clock.now()) == 1


async def test_a_join_that_fails_by_a_fault_of_ours_takes_no_place(
    stage: Any, ada: Any, ben: Any, acs: MemoryMediaProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*args: object, **options: object) -> None:
        raise RuntimeError("a fault")

    meeting = await ada.creates_meeting(settings={"mediaProvider": "acs", "maxParticipants": 2})
    monkeypatch.setattr(acs, "admit", fails)
    assert (await ben.joins(meeting["id"])).status_code == 500
    assert await stage.services.meetings.live_count(MeetingId(meeting["id"]), stage.clock.now()) == 0


async def test_a_meeting_outlives_the_providers_set_up(stage: Any, ada: Any, acs: MemoryMediaProvider) -> None:
    meeting = await ada.creates_meeting(**ACS)
    stage.change(providers={MediaProvider.PARLEY: OwnMedia()})
    assert (await ada.get(f"/v1/meetings/{meeting['id']}")).status_code == 200
    assert reason(await ada.joins(meeting["id"])) == (503, "provider-unavailable")
    assert (await ada.call("PUT", f"/v1/meetings/{meeting['id']}/end")).status_code == 200


# --- moderation and the end ---


async def test_a_changed_role_is_told(ada: Any, ben: Any, acs: MemoryMediaProvider) -> None:
    meeting = await ada.creates_meeting(**ACS)
    grant = (await ben.joins(meeting["id"])).json()
    path = f"/v1/rooms/{meeting['id']}/participants/{grant['participantId']}/role"
    assert (await ada.post(path, {"role": "viewer"})).status_code == 200
    (room,) = acs.rooms.values()
    assert room.roster[grant["provider"]["identity"]] is Role.VIEWER
    acs.away = True
    assert reason(await ada.post(path, {"role": "attendee"})) == (503, "provider-unavailable")
    acs.away = False
    assert (await ada.post(path, {"role": "attendee"})).status_code == 200
    assert room.roster[grant["provider"]["identity"]] is Role.ATTENDEE


async def test_removal_revokes(stage: Any, ada: Any, ben: Any, acs: MemoryMediaProvider) -> None:
    meeting = await ada.creates_meeting(**ACS)
    grant = (await ben.joins(meeting["id"])).json()
    path = f"/v1/rooms/{meeting['id']}/participants/{grant['participantId']}/remove"
    assert (await ada.post(path)).status_code == 200
    (room,) = acs.rooms.values()
    assert grant["provider"]["identity"] not in room.roster
    assert grant["provider"]["token"] not in acs.tokens
    assert reason(await ben.joins(meeting["id"])) == (403, "removed")


async def test_removal_after_the_place_lapsed_revokes_too(
    stage: Any, ada: Any, ben: Any, acs: MemoryMediaProvider
) -> None:
    meeting = await ada.creates_meeting(**ACS)
    grant = (await ben.joins(meeting["id"])).json()
    await stage.services.meetings.expire_leases(stage.clock.advance(3_601))
    path = f"/v1/rooms/{meeting['id']}/participants/{grant['participantId']}/remove"
    assert (await ada.post(path)).status_code == 200
    assert grant["provider"]["token"] not in acs.tokens


async def test_a_removal_that_the_provider_missed_is_told_and_repeated(
    stage: Any, ada: Any, ben: Any, acs: MemoryMediaProvider
) -> None:
    meeting = await ada.creates_meeting(**ACS)
    grant = (await ben.joins(meeting["id"])).json()
    acs.away = True
    path = f"/v1/rooms/{meeting['id']}/participants/{grant['participantId']}/remove"
    assert reason(await ada.post(path)) == (503, "provider-unavailable")
    assert reason(await ben.joins(meeting["id"])) == (403, "removed")
    acs.away = False
    left = (await events(stage, meeting["id"]))[-1]
    for _ in range(2):
        await handle(stage.services, encode_event(left))
        assert grant["provider"]["token"] not in acs.tokens


async def test_the_end_closes_the_room(ada: Any, acs: MemoryMediaProvider) -> None:
    meeting = await ada.creates_meeting(**ACS)
    for _ in range(2):
        assert (await ada.call("PUT", f"/v1/meetings/{meeting['id']}/end")).status_code == 200
        assert acs.rooms == {}


async def test_an_end_that_the_provider_missed_is_repeated_from_the_queue(
    stage: Any, ada: Any, acs: MemoryMediaProvider
) -> None:
    meeting = await ada.creates_meeting(**ACS)
    acs.away = True
    assert (await ada.call("PUT", f"/v1/meetings/{meeting['id']}/end")).status_code == 200
    ended = (await events(stage, meeting["id"]))[-1]
    with pytest.raises(Refused, match="provider"):
        await handle(stage.services, encode_event(ended))
    acs.away = False
    await handle(stage.services, encode_event(ended))
    assert acs.rooms == {}

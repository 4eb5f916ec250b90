"""The signaling session: what may be said when, limits, time-outs and close codes."""

import json
from typing import Any

import pytest

from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, ParticipantId, UserId
from conference.protocol import messages as m
from conference.protocol.dialect import ClientCodec, Dialect
from conference.protocol.session import (
    Close,
    CloseCode,
    Depart,
    Enter,
    Identity,
    Limits,
    Output,
    Ping,
    Reattach,
    Send,
    Serve,
    Session,
    State,
    ToPeer,
    ToSfu,
)

pytestmark = pytest.mark.protocol

CODEC = ClientCodec()
JOIN = {"roomId": "r1", "token": "t"}


def message(type_: str, payload: dict[str, Any] | None = None, **more: object) -> str:
    return json.dumps({"type": type_, "payload": payload or {}, **more})


def fresh(*, token: str | None = None, limits: Limits | None = None) -> Session:
    return Session(CODEC, limits or Limits(), 0.0, token=token)


def identity(role: m.Role = "attendee") -> Identity:
    return Identity(MeetingId("r1"), UserId("ann"), ParticipantId("p1"), role, "g1", 3, 10)


def welcome() -> m.RoomJoined:
    return m.RoomJoined(
        participant_id="p1",
        user_id="ann",
        snapshot=m.Snapshot(room_id="r1", participants=[], tracks=[]),
        resume_secret="s",
        topology="sfu",
        epoch=3,
        generation="g1",
        seq=10,
    )


def joined(role: m.Role = "attendee", *, type_: str = "JoinRoom") -> Session:
    session = fresh()
    session.receive(message(type_, JOIN, id="1"), 0.0)
    session.joined(identity(role), welcome(), None)
    return session


def only_error(outputs: list[Output]) -> m.Error:
    assert len(outputs) == 1
    output = outputs[0]
    assert isinstance(output, Send)
    assert isinstance(output.message.payload, m.Error)
    return output.message.payload


def test_a_join_is_an_effect_and_its_answer_names_the_request() -> None:
    session = fresh()
    outputs = session.receive(message("JoinRoom", JOIN, id="7"), 1.0)
    assert isinstance(outputs[0], Enter)
    assert outputs[0].token == "t"
    assert session.state is State.ENTERING
    (answer,) = session.joined(identity(), welcome(), "00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    assert isinstance(answer, Send)
    assert (answer.message.type, answer.message.reply_to) == ("RoomJoined", "7")
    assert answer.message.traceparent is not None
    assert session.deadline == 20.0


def test_nothing_but_a_join_is_served_before_it() -> None:
    session = fresh()
    for type_, payload in (
        ("UpdateState", {"isMuted": True}),
        ("SendMessage", {"text": "x", "messageId": "1"}),
        ("SetReceive", {"tracks": []}),
        ("SendOffer", {"targetUserId": "sfu", "sdp": ""}),
    ):
        assert only_error(session.receive(message(type_, payload), 0.0)).code == "not-joined"
    assert session.state is State.AWAITING


def test_a_second_join_answers_an_error_and_the_call_goes_on() -> None:
    session = joined()
    assert only_error(session.receive(message("JoinRoom", JOIN), 0.0)).code == "already-joined"
    resume = {"participantId": "p1", "resumeSecret": "s", "generation": "g", "lastSeq": 0}
    assert only_error(session.receive(message("Resume", resume), 0.0)).code == "already-joined"
    assert isinstance(session.receive(message("UpdateState", {"isMuted": True}), 0.0)[0], Serve)


def test_resume_is_an_effect() -> None:
    session = fresh()
    resume = {"participantId": "p1", "resumeSecret": "s", "generation": "g", "lastSeq": 4}
    assert isinstance(session.receive(message("Resume", resume), 0.0)[0], Reattach)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", CloseCode.MALFORMED),
        ("\ud800", CloseCode.MALFORMED),
        ('{"type":"UpdateState","payload":{]}', CloseCode.MALFORMED),
        ('{"type":"UpdateState","payload":"' + "x" * 300_000 + '"}', CloseCode.TOO_BIG),
    ],
)
def test_what_is_no_message_closes_the_connection(text: str, code: CloseCode) -> None:
    (output,) = joined().receive(text, 0.0)
    assert isinstance(output, Close)
    assert output.code is code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"type":"Nonsense","payload":{}}', "unknown-type"),
        ('{"type":"UpdateState","payload":{"isMuted":1}}', "invalid-message"),
        ('{"type":"UpdateState","payload":{"isTall":true}}', "invalid-message"),
        ('{"type":"UpdateState","payload":{},"extra":1}', "invalid-message"),
        ('{"payload":{}}', "invalid-message"),
        ("[]", "invalid-message"),
        ("17", "invalid-message"),
    ],
)
def test_a_message_that_is_wrong_answers_an_error_and_the_connection_stays(text: str, code: str) -> None:
    session = joined()
    assert only_error(session.receive(text, 0.0)).code == code
    assert session.state is State.JOINED


def test_a_binary_frame_closes() -> None:
    assert joined().binary() == [Close(CloseCode.UNSUPPORTED, "binary")]


def test_part_a_names_are_understood_and_remembered() -> None:
    session = fresh()
    (effect,) = session.receive(message("join_room", JOIN), 0.0)
    assert isinstance(effect, Enter)
    assert session.dialect is Dialect.SNAKE
    session.joined(identity(), welcome(), None)
    session.transports([("t1", "publish"), ("t2", "subscribe")])
    (effect,) = session.receive(message("offer", {"targetUserId": "sfu", "sdp": "v=0"}), 0.0)
    assert isinstance(effect, ToSfu)
    assert isinstance(effect.message.payload, m.SendOffer)
    assert effect.message.payload.transport_id == "t1"
    assert only_error(session.receive(message("SendOffer", {"targetUserId": "sfu", "sdp": ""}), 0.0)).code == (
        "unknown-type"
    )


def test_a_first_message_of_no_vocabulary_decides_nothing() -> None:
    session = fresh()
    assert only_error(session.receive(message("nonsense"), 0.0)).code == "unknown-type"
    assert session.dialect is None
    session.receive(message("join_room", JOIN), 0.0)
    assert session.dialect is Dialect.SNAKE


def sfu_session() -> Session:
    session = joined()
    session.transports([("pub", "publish"), ("sub", "subscribe")])
    return session


def sdp(transport: str, **more: object) -> dict[str, Any]:
    return {"targetUserId": "sfu", "transportId": transport, "negotiationId": 1, "sdp": "v=0", **more}


def test_an_offer_on_an_unknown_transport_is_refused() -> None:
    assert only_error(sfu_session().receive(message("SendOffer", sdp("other")), 0.0)).code == "unknown-transport"


def test_after_a_resume_an_answer_that_may_have_been_lost_is_repeated() -> None:
    session = joined()
    session.transports([("pub", "publish"), ("sub", "subscribe")], offered=True)
    (effect,) = session.receive(message("SendAnswer", sdp("sub")), 0.0)
    assert isinstance(effect, ToSfu)
    assert only_error(sfu_session().receive(message("SendAnswer", sdp("sub")), 0.0)).code == "before-offer"


def test_each_transport_has_one_side_that_offers() -> None:
    session = sfu_session()
    session.offered("sub")
    assert only_error(session.receive(message("SendOffer", sdp("sub")), 0.0)).code == "wrong-direction"
    assert only_error(session.receive(message("SendAnswer", sdp("pub")), 0.0)).code == "wrong-direction"
    assert isinstance(session.receive(message("SendAnswer", sdp("sub")), 0.0)[0], ToSfu)


def test_a_candidate_before_an_offer_is_refused_and_after_it_passes() -> None:
    session = sfu_session()
    candidate = message("SendIceCandidate", {"targetUserId": "sfu", "transportId": "pub", "candidate": None})
    assert only_error(session.receive(candidate, 0.0)).code == "before-offer"
    session.receive(message("SendOffer", sdp("pub")), 0.0)
    assert isinstance(session.receive(candidate, 0.0)[0], ToSfu)


def test_a_stale_epoch_is_refused() -> None:
    session = sfu_session()
    assert only_error(session.receive(message("SendOffer", sdp("pub", epoch=2)), 0.0)).code == "stale-epoch"
    assert isinstance(session.receive(message("SendOffer", sdp("pub", epoch=3)), 0.0)[0], ToSfu)


def test_sdp_for_another_person_is_for_that_person_only() -> None:
    session = sfu_session()
    (effect,) = session.receive(message("SendOffer", {**sdp("x"), "targetUserId": "bob"}), 0.0)
    assert isinstance(effect, ToPeer)
    assert effect.target == "bob"
    to_self = message("SendOffer", {**sdp("x"), "targetUserId": "ann"})
    assert only_error(session.receive(to_self, 0.0)).code == "invalid-message"


def test_only_a_host_moderates() -> None:
    moderate = message("Moderate", {"action": "mute", "targetUserId": "bob"})
    assert only_error(joined().receive(moderate, 0.0)).code == "not-host"
    assert isinstance(joined("host").receive(moderate, 0.0)[0], Serve)


def test_leave_departs_and_closes() -> None:
    assert joined().receive(message("Leave"), 0.0) == [Depart(), Close(CloseCode.NORMAL, "left")]


def test_who_does_not_join_in_time_is_closed() -> None:
    session = fresh()
    session.receive(message("KeepAlive"), 9.0)
    assert session.deadline == 10.0
    assert session.tick(9.9) == []
    assert session.tick(10.0) == [Close(CloseCode.TIMED_OUT, "no-join")]


def test_pings_go_out_and_silence_closes() -> None:
    session = joined()
    assert session.deadline == 20.0
    assert session.tick(20.0) == [Ping()]
    session.alive(20.1)
    assert session.tick(40.0) == [Ping()]
    assert session.tick(60.0) == [Ping()]
    assert session.deadline == pytest.approx(65.1)
    assert session.tick(65.1) == [Close(CloseCode.TIMED_OUT, "silence")]
    assert session.deadline == float("inf")


def test_a_flood_closes_the_connection() -> None:
    session = fresh(limits=Limits(messages_per_s=10, burst=20))
    session.receive(message("JoinRoom", JOIN), 0.0)
    session.joined(identity(), welcome(), None)
    outputs = [session.receive(message("KeepAlive"), 1.0) for _ in range(25)]
    closes = [o for batch in outputs for o in batch if isinstance(o, Close)]
    assert closes == [Close(CloseCode.TOO_MANY, "rate-limited")]
    assert sum(isinstance(o, Serve) for batch in outputs for o in batch) == 20


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("token-refused", CloseCode.REFUSED),
        ("removed", CloseCode.REMOVED),
        ("room-ended", CloseCode.ROOM_ENDED),
        ("not-a-participant", CloseCode.REFUSED),
    ],
)
def test_a_refusal_is_told_and_closes(reason: str, code: CloseCode) -> None:
    session = fresh()
    session.receive(message("JoinRoom", JOIN, id="1"), 0.0)
    told, close = session.refused(Refused(reason))
    assert isinstance(told, Send)
    assert told.message.reply_to == "1"
    assert close == Close(code, reason)


def test_an_unavailable_directory_leaves_the_connection_open_for_another_try() -> None:
    session = fresh()
    session.receive(message("JoinRoom", JOIN, id="1"), 5.0)
    error = only_error(session.unavailable(8.0, "presence"))
    assert error.retryable
    assert session.deadline == 18.0
    assert isinstance(session.receive(message("JoinRoom", JOIN), 9.0)[0], Enter)


def test_each_room_event_is_wanted_once_in_order_and_by_whom_it_addresses() -> None:
    session = joined()
    assert not session.wants(10, None)  # part of the snapshot
    assert session.wants(11, None)
    assert not session.wants(11, None)
    assert not session.wants(12, UserId("bob"))
    assert session.wants(13, UserId("ann"))
    assert session.wants(0, None)
    assert not fresh().wants(1, None)


def test_large_messages_and_those_that_the_whole_room_hears_count_more() -> None:
    session = fresh(limits=Limits(messages_per_s=1, burst=20))
    session.receive(message("JoinRoom", JOIN), 0.0)
    session.joined(identity(), welcome(), None)
    large = message("SetReceive", {"tracks": [{"trackId": "t" * 60}] * 500})
    assert 40_000 > len(large) > 36_864
    assert [type(output) for output in session.receive(large, 0.0)] == [Serve]  # 10 of the 19 that are left
    assert [type(output) for output in session.receive(message("UpdateState", {"isMuted": True}), 0.0)] == [Serve]
    chat = message("SendMessage", {"text": "a", "messageId": "1"})
    assert session.receive(chat, 0.0) == [Close(CloseCode.TOO_MANY, "rate-limited")]


def test_the_token_of_the_subprotocol_serves_until_it_was_used() -> None:
    session = fresh(token="jwt")
    for _ in range(2):
        (effect,) = session.receive(message("JoinRoom", {"roomId": "r1"}), 0.0)
        assert isinstance(effect, Enter)
        assert effect.token == "jwt"
        session.unavailable(1.0, "presence")

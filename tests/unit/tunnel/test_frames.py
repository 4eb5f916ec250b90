"""What a frames-session does with signaling: the SFU's messages stop at the gateway, the browser's are made to fit."""

from typing import Any

import pytest

from conference.protocol.negotiation import RemoteTransport
from conference.protocol.tunnel import control as c
from media_workers.tunnel.frames.path import MediaPath, PathCallbacks, Services
from media_workers.tunnel.frames.peer import FramePeer
from media_workers.tunnel.frames.receive_level import limited
from tests.support.quiet_node import QuietEndpoints

pytestmark = [pytest.mark.unit]


def quiet_services() -> Services:
    numbers = iter(range(1, 10_000))

    def srtp(profile: str, receive_key: bytes, send_key: bytes) -> Any:
        raise AssertionError("no keys without a handshake")

    return Services(QuietEndpoints(), srtp, lambda: 0.0, lambda n: "a" * n, lambda: next(numbers), lambda: "id")


def peer(signals: list[dict[str, Any]], said: list[c.ControlMessage]) -> FramePeer:
    return FramePeer(signals.append, said.append, lambda frame: None, quiet_services(), lambda ip, port: True)


SOUND = c.OpenTrack(track_id="t", kind="audio", source="microphone", codec="opus", streams=[c.LayerStream(stream=1)])


async def opened(signals: list[dict[str, Any]]) -> FramePeer:
    made = peer(signals, [])
    payload = {"transportId": "p1", "direction": "publish"}
    assert made.signal_from_server({"type": "SfuEndpoint", "payload": payload})
    made.control(SOUND)
    return made


def test_joining_says_what_frames_can_carry_and_no_mesh() -> None:
    made = peer([], [])
    join = {"type": "JoinRoom", "id": "1", "payload": {"roomId": "r", "capabilities": {"mesh": True, "codecs": []}}}
    sent = made.signal_from_client(join)
    assert sent
    assert sent["payload"]["capabilities"] == {"mesh": False, "codecs": ["opus", "VP8", "H264"], "dataChannel": False}
    join["payload"] = {"roomId": "r", "capabilities": {"codecs": ["vp8", "AV1"]}}
    sent = made.signal_from_client(join)
    assert sent
    assert sent["payload"]["capabilities"]["codecs"] == ["opus", "VP8"]


@pytest.mark.parametrize("kind", ["SendOffer", "SendAnswer", "SendIceCandidate"])
def test_a_browser_does_not_negotiate_with_the_sfu(kind: str) -> None:
    made = peer([], [])
    assert made.signal_from_client({"type": kind, "payload": {"targetUserId": "sfu"}}) is None
    other = {"type": kind, "payload": {"targetUserId": "somebody"}}
    assert made.signal_from_client(other) == other


def test_what_concerns_people_passes_as_it_is() -> None:
    made = peer([], [])
    for kind in ("ParticipantJoined", "MessageReceived", "Moderated", "ActiveSpeakers", "SetSend"):
        assert not made.signal_from_server({"type": kind, "payload": {}})
    chat = {"type": "SendMessage", "payload": {"text": "hello"}}
    assert made.signal_from_client(chat) is chat


async def test_one_offer_is_outstanding_at_most_and_goes_again_after_a_resume() -> None:
    signals: list[dict[str, Any]] = []
    made = await opened(signals)
    made.control(c.CloseTrack(track_id="t"))
    assert [one["type"] for one in signals] == ["SendOffer"]
    assert not made.signal_from_server({"type": "Resumed", "payload": {"epoch": 4}})
    assert signals[1] is signals[0]
    made.signal_from_server({"type": "Error", "replyTo": "id", "payload": {"code": "busy"}})
    assert signals[2]["payload"]["tracks"] == []
    assert signals[2]["payload"]["epoch"] == 4
    await made.close()


async def test_an_answer_that_cannot_be_read_is_counted() -> None:
    signals: list[dict[str, Any]] = []
    made = await opened(signals)
    payload = {"sourceUserId": "sfu", "negotiationId": 1, "sdp": "nonsense"}
    assert made.signal_from_server({"type": "ReceiveAnswer", "payload": payload})
    assert made.refused == 1
    await made.close()


async def test_frames_go_to_no_address_that_signaling_did_not_name() -> None:
    callbacks = PathCallbacks(lambda data: None, lambda data: None, lambda state: None)
    path = MediaPath(quiet_services(), lambda ip, port: port == 7, callbacks)
    remote = RemoteTransport("ufrag", "p" * 24, (("sha-256", "AB"),))
    path.connect(remote, [("127.0.0.1", 9), ("10.0.0.1", 80)])
    path.add_candidate(("127.0.0.1", 443))
    assert path._agent.tick(10.0) == []
    assert path.dropped == 3
    assert path._socket is None
    await path.close()


def test_a_low_level_asks_for_half_and_audio_for_no_picture() -> None:
    wish = {"tracks": [{"trackId": "a", "width": 640, "height": 360, "pinned": True}]}
    low = limited(wish, "low", ["a", "b"])["tracks"]
    assert low[0] == {"trackId": "a", "width": 320, "height": 180, "pinned": True}
    assert low[1]["trackId"] == "b"
    assert [track["visible"] for track in limited(wish, "audio", ["b"])["tracks"]] == [False, False]
    assert limited(wish, "all", [])["tracks"] == wish["tracks"]

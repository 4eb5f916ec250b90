"""What a frames-session does with signaling: the SFU's messages stop at the gateway, the browser's are made to fit."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from conference.protocol.negotiation import RemoteTransport
from conference.protocol.rtp import RtpPacket
from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import DISCARDABLE, Frame, FrameType
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


# --- pictures that are lost before they have a number -----------------------------------------------------------------
KEY_FRAME, DELTA = b"\x10\x00\x00\x9d\x01\x2a\x40\x01\xb4\x00", b"\x11\x00\x00picture"
PICTURES = c.OpenTrack(track_id="v", kind="video", source="camera", codec="vp8", streams=[c.LayerStream(stream=3)])


class Publishing:
    """A browser's video whose path to the SFU a test opens and shuts."""

    def __init__(self, made: FramePeer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peer, self.sent = made, list[RtpPacket]()
        made.control(PICTURES)
        self.path = made._uplink._path
        assert self.path
        monkeypatch.setattr(self.path, "send_rtp", self.sent.append)
        made._uplink._layers[3].out.payload_type = 96

    def way(self, *, is_open: bool) -> None:
        assert self.path
        self.path.state = "connected" if is_open else "connecting"

    def picture(self, payload: bytes, *, lost: int = 0, flags: int = 0) -> bool:
        """Whether it went to the SFU."""
        before = len(self.sent)
        self.peer.frame(Frame(FrameType.VIDEO, 3, payload, flags=flags), lost)
        return len(self.sent) > before

    def asks(self) -> bool:
        return self.peer._uplink._layers[3].key_frames.is_pending


@pytest.fixture
async def publishing(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Publishing]:
    made = await opened([])
    yield Publishing(made, monkeypatch)
    await made.close()


async def test_a_picture_that_was_dropped_is_followed_by_a_key_frame_and_by_nothing_else(
    publishing: Publishing,
) -> None:
    publishing.way(is_open=True)
    assert not publishing.picture(DELTA), "a stream begins with a key frame"
    assert publishing.asks()
    assert publishing.picture(KEY_FRAME)
    assert publishing.picture(DELTA)
    publishing.way(is_open=False)
    assert not publishing.picture(DELTA)
    publishing.way(is_open=True)
    assert not publishing.picture(DELTA), "its reference never reached the SFU, and no number is missing"
    assert publishing.picture(KEY_FRAME)
    assert publishing.picture(DELTA)


async def test_what_a_wire_lost_or_the_rate_forbade_counts_as_dropped_and_a_discardable_picture_does_not(
    publishing: Publishing,
) -> None:
    publishing.way(is_open=True)
    assert publishing.picture(KEY_FRAME)
    assert not publishing.picture(DELTA, lost=2)
    assert publishing.picture(KEY_FRAME)
    publishing.peer.drop(Frame(FrameType.VIDEO, 3, DELTA, flags=DISCARDABLE))
    assert publishing.picture(DELTA)
    publishing.peer.drop(Frame(FrameType.VIDEO, 3, DELTA))
    assert not publishing.picture(DELTA)
    assert publishing.picture(KEY_FRAME, lost=1)


async def test_a_muted_picture_is_followed_by_a_key_frame(publishing: Publishing) -> None:
    publishing.way(is_open=True)
    assert publishing.picture(KEY_FRAME)
    publishing.peer.control(c.Muted(stream=3, muted=True))
    assert not publishing.picture(DELTA)
    publishing.peer.control(c.Muted(stream=3, muted=False))
    assert not publishing.picture(DELTA)
    assert publishing.picture(KEY_FRAME)


# --- offers that are not taken, and ICE restarts ---
async def test_an_offer_that_cannot_be_served_now_is_said_again_a_few_times() -> None:
    signals: list[dict[str, Any]] = []
    made = await opened(signals)
    for number in range(1, 9):
        refused = {"code": "sfu-unavailable", "retryable": True}
        made.signal_from_server({"type": "Error", "replyTo": signals[-1]["id"], "payload": refused})
        made._uplink.tick(100.0 * number)
    assert len(signals) == 6, "the first one and five more"
    assert [one["payload"]["negotiationId"] for one in signals] == [1, 2, 3, 4, 5, 6]
    made.signal_from_server({"type": "SfuEndpoint", "payload": {"transportId": "p2", "direction": "publish"}})
    assert signals[-1]["payload"]["transportId"] == "p2"
    await made.close()


async def test_the_epoch_of_offers_is_the_one_that_signaling_said_last() -> None:
    signals: list[dict[str, Any]] = []
    made = peer(signals, [])
    assert not made.signal_from_server({"type": "RoomJoined", "payload": {"epoch": 1}})
    assert not made.signal_from_server({"type": "SwitchTopology", "payload": {"epoch": 2, "to": "sfu"}})
    made.signal_from_server({"type": "SfuEndpoint", "payload": {"transportId": "p1", "direction": "publish"}})
    made.control(SOUND)
    assert signals[0]["payload"]["epoch"] == 2
    await made.close()


async def test_a_silent_publish_path_is_offered_with_other_credentials() -> None:
    signals: list[dict[str, Any]] = []
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    services = replace(quiet_services(), token=lambda length: next(letters) * length)
    made = FramePeer(signals.append, lambda message: None, lambda frame: None, services, lambda ip, port: True)
    made.signal_from_server({"type": "SfuEndpoint", "payload": {"transportId": "p1", "direction": "publish"}})
    made.control(SOUND)
    path = made._uplink._path
    assert path
    first = path.local
    path._callbacks.silent()
    assert len(signals) == 1, "one offer is outstanding at most"
    made._uplink.refused("id")
    assert len(signals) == 2
    second = path.local
    assert (first.ice_ufrag, first.ice_pwd) != (second.ice_ufrag, second.ice_pwd)
    assert first.fingerprint == second.fingerprint
    assert f"a=ice-ufrag:{second.ice_ufrag}" in signals[1]["payload"]["sdp"]
    await made.close()


class Silence:
    """A connected path without a socket, on a clock of the test's."""

    def __init__(self) -> None:
        self.now, self.restarts = 0.0, 0
        self.states: list[str] = []
        callbacks = PathCallbacks(lambda data: None, lambda data: None, self.states.append, self._restart)
        self.path = MediaPath(replace(quiet_services(), clock=lambda: self.now), lambda ip, port: False, callbacks)
        self.path._agent.state, self.path._agent.selected = "connected", ("127.0.0.1", 7)
        self.path._agent._candidates.append(("127.0.0.1", 7))
        self.path.state, self.path._is_secure = "connected", True

    def _restart(self) -> None:
        self.restarts += 1

    def at(self, now: float) -> tuple[str, int]:
        self.now = now
        self.path.tick()
        return self.path.state, self.restarts

    def answered(self) -> None:
        self.path._agent._heard = self.now


def test_a_silent_path_is_begun_anew_three_times_and_fails_when_consent_is_over() -> None:
    silence = Silence()
    assert silence.at(4.9) == ("connected", 0)
    assert silence.at(5.0) == ("connecting", 1)
    assert silence.at(9.9) == ("connecting", 1)
    assert silence.at(10.0) == ("connecting", 2)
    assert silence.at(20.0) == ("connecting", 3)
    assert silence.at(29.9) == ("connecting", 3)
    assert silence.at(30.1) == ("failed", 3)
    assert silence.states == ["connecting", "failed"]


def test_an_answer_brings_a_silent_path_back_and_a_short_cut_is_not_told() -> None:
    silence = Silence()
    assert silence.at(4.0) == ("connected", 0)
    silence.answered()
    assert silence.at(8.9) == ("connected", 0)
    assert silence.at(9.1) == ("connecting", 1)
    silence.answered()
    assert silence.at(9.2) == ("connected", 1)
    assert silence.at(14.2) == ("connecting", 2)  # another silence, from its beginning
    assert silence.states == ["connecting", "connected", "connecting"]

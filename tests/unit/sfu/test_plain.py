"""Taps and pipes of a node without sockets: who owns them, how long, and what is refused."""

import base64
from typing import Any

import pytest

from conference.domain.errors import ProtocolError
from conference.ports.forwarding import (
    AddPlainTransport,
    IceChanged,
    RemoveSender,
    RemoveTransport,
    SelectLayer,
    SetSender,
    SetTrack,
)
from conference.protocol import control
from conference.protocol import control_plain as cp
from media_workers.sfu.node import ORPHAN_TIMEOUT_S
from tests.support.quiet_node import Inbox, QuietNode

pytestmark = pytest.mark.unit

KEY = base64.b64encode(bytes(28)).decode()
KEYS = cp.MediaKeys(profile="AEAD_AES_128_GCM", receive_key=KEY, send_key=KEY)
FAR = cp.MediaAddress(ip="192.0.2.50", port=5_000)


def open_tap(world: QuietNode, link: Inbox | None = None, **changes: Any) -> control.Ok:
    fields: dict[str, Any] = {"room_id": "r", "tap_id": "t", "purpose": "ai", "address": FAR, "keys": KEYS}
    return world.ask(cp.OpenTap(**fields | {"kinds": ["audio"]} | changes), link)  # type: ignore[return-value]


def open_pipe(world: QuietNode, **changes: Any) -> cp.PipeOpened:
    fields: dict[str, Any] = {"pipe_id": "p", "address": FAR, "keys": KEYS}
    opened = world.ask(cp.OpenPipe(**fields | changes))
    assert isinstance(opened, cp.PipeOpened)
    return opened


def piped(**changes: Any) -> cp.PipeTrack:
    fields: dict[str, Any] = {
        "pipe_id": "p",
        "room_id": "r",
        "track_id": "far-cam",
        "participant_id": "far",
        "user_id": "u",
        "kind": "video",
        "source": "camera",
        "codec": cp.PlainCodec(name="VP8", payload_type=96, clock_rate=90_000, rtx_payload_type=97),
        "streams": [cp.PlainStream(ssrc=5, rtx_ssrc=6, rid="q"), cp.PlainStream(ssrc=7, rtx_ssrc=8, rid="f")],
    }
    return cp.PipeTrack(**fields | changes)


@pytest.fixture
async def world() -> QuietNode:
    """ann publishes and has granted AI."""
    made = QuietNode(workers=2)
    ann = made.open("ann", grants=["ai"])
    made.publish("ann", ann["publish"])
    return made


async def test_a_tap_nobody_owns_is_closed_after_a_while_unless_it_is_opened_again(world: QuietNode) -> None:
    for endpoint in world.dtls.opened:
        endpoint.callbacks.on_state("connected")
    open_tap(world)
    (transport,) = [command.transport_id for command in world.engine.of(AddPlainTransport)]
    world.ask(control.AttachSession(room_id="r", participant_id="ann"), other := Inbox())
    world.node.link_lost(world.link)
    world.wait(ORPHAN_TIMEOUT_S - 1)
    open_tap(world, other)
    world.wait(2)
    assert world.node.hello().taps == ["t"]
    world.node.link_lost(other)
    world.ask(control.AttachSession(room_id="r", participant_id="ann"))
    world.wait(ORPHAN_TIMEOUT_S)
    assert world.node.hello().taps == []
    assert RemoveTransport(transport) in world.engine.commands


async def test_a_tap_with_other_keys_replaces_the_former(world: QuietNode) -> None:
    open_tap(world)
    other = base64.b64encode(bytes(27) + b"x").decode()
    open_tap(world, keys=cp.MediaKeys(profile="AEAD_AES_128_GCM", receive_key=other, send_key=other))
    first, second = (command.transport_id for command in world.engine.of(AddPlainTransport))
    assert first != second
    assert RemoveTransport(first) in world.engine.commands
    assert len(world.link.of(cp.TapTrack)) == 2


async def test_a_tap_takes_the_kinds_and_the_purpose_that_were_asked_for_only(world: QuietNode) -> None:
    open_tap(world, purpose="recording")
    assert not world.engine.of(SetSender)
    open_tap(world, tap_id="other", kinds=["video"])
    assert [(s.track_id, s.rtx_ssrc is not None) for s in world.engine.of(SetSender)] == [("r/ann-cam", True)]


async def test_a_grant_that_is_withdrawn_removes_the_sender_in_the_same_batch(world: QuietNode) -> None:
    open_tap(world)
    before = len(world.engine.commands)
    world.ask(control.UpdateSession(participant_id="ann", role="attendee", grants=["recording"]))
    assert [type(command) for command in world.engine.commands[before:]] == [RemoveSender]


async def test_each_layer_goes_into_a_pipe_by_itself(world: QuietNode) -> None:
    opened = open_pipe(world, worker=1)
    assert opened.address.port == 8
    world.ask(cp.PipeRoom(pipe_id="p", room_id="r", piped=True))
    (told,) = world.link.of(cp.PipeTrack, track_id="ann-cam")
    assert [stream.rid for stream in told.streams] == ["q", "h", "f"]
    pinned = world.engine.of(SelectLayer)
    assert [(command.rid, command.strict) for command in pinned] == [("q", True), ("h", True), ("f", True)]
    assert len({stream.ssrc for stream in told.streams} | {stream.rtx_ssrc for stream in told.streams}) == 6


async def test_what_comes_out_of_a_pipe_is_a_track_of_the_room(world: QuietNode) -> None:
    open_pipe(world)
    world.ask(piped())
    world.ask(piped())  # told again after a lost link
    command = world.engine.of(SetTrack)[-1]
    assert (command.track_id, command.ssrcs, command.rids) == ("r/far-cam", ((5, 6), (7, 8)), ("q", "f"))
    opened = world.ask(control.OpenSession(room_id="r", participant_id="eve", user_id="e", role="attendee"))
    assert isinstance(opened, control.SessionOpened)
    assert {track.track_id for track in opened.tracks} == {"ann-mic", "ann-cam", "far-cam"}
    world.ask(cp.PipeTrackEnded(pipe_id="p", room_id="r", track_id="far-cam"))
    assert not world.core.rooms["r"].guests


async def test_what_came_out_of_one_pipe_does_not_go_into_another(world: QuietNode) -> None:
    open_pipe(world)
    open_pipe(world, pipe_id="second")
    world.ask(piped())
    world.ask(cp.PipeRoom(pipe_id="second", room_id="r", piped=True))
    assert {track.track_id for track in world.link.of(cp.PipeTrack)} == {"ann-mic", "ann-cam"}


async def test_who_comes_over_another_pipe_has_left_the_first(world: QuietNode) -> None:
    open_pipe(world)
    open_pipe(world, pipe_id="second")
    world.ask(piped())
    world.ask(piped(track_id="far-mic2", streams=[cp.PlainStream(ssrc=9)]))
    world.ask(piped(pipe_id="second"))
    (guest,) = world.core.rooms["r"].guests.values()
    assert (guest.pipe_id, set(guest.tracks)) == ("second", {"far-cam"})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"pipe_id": "other"}, "unknown-pipe"),
        ({"track_id": "a b"}, "bad-track-id"),
        ({"track_id": "ann-cam"}, "duplicate-track"),
        ({"kind": "audio"}, "unsupported-codec"),
        ({"codec": cp.PlainCodec(name="VP7", payload_type=96, clock_rate=90_000)}, "unsupported-codec"),
        (
            {"codec": cp.PlainCodec(name="VP8", payload_type=96, clock_rate=90_000, parameters={"a": "b\r\nc"})},
            "unsupported-codec",
        ),
        ({"streams": [cp.PlainStream(ssrc=1), cp.PlainStream(ssrc=2)]}, "bad-streams"),
    ],
)
async def test_a_piped_track_that_makes_no_sense_is_refused(
    world: QuietNode, changes: dict[str, Any], code: str
) -> None:
    open_pipe(world)
    with pytest.raises(ProtocolError) as caught:
        world.ask(piped(**changes))
    assert caught.value.code == code


async def test_a_lost_pipe_is_told_with_its_rooms_and_forgotten(world: QuietNode) -> None:
    open_pipe(world)
    (transport,) = [command.transport_id for command in world.engine.of(AddPlainTransport)]
    world.ask(cp.PipeRoom(pipe_id="p", room_id="elsewhere", piped=True))
    world.ask(piped())
    world.raise_event(IceChanged(transport, "connected"), IceChanged(transport, "disconnected"))
    assert world.link.of(cp.PipeConnected)
    (lost,) = world.link.of(cp.PipeLost)
    assert lost.rooms == ["elsewhere", "r"]
    assert RemoveTransport(transport) in world.engine.commands
    assert set(world.core.rooms) == {"r"}


async def test_a_pipe_keeps_a_room_without_people_until_it_is_closed(world: QuietNode) -> None:
    open_pipe(world)
    world.ask(cp.PipeRoom(pipe_id="p", room_id="later", piped=True))
    assert "later" in world.core.rooms
    world.ask(cp.ClosePipe(pipe_id="p"))
    assert "later" not in world.core.rooms
    assert isinstance(world.ask(cp.ClosePipe(pipe_id="p")), control.Ok)

"""Both engines against each other where links, keys and forms of packets change: restarts of ICE, transports that go
and come back, taps, DTLS, header extensions in two bytes, what is not RTP at all."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from conference.ports.forwarding import (
    AddPlainTransport,
    AddTransport,
    DropPairs,
    ExtensionIds,
    RemoveSender,
    RemoveTransport,
    RestartIce,
    SelectLayer,
    SendDtls,
    SetSender,
)
from conference.protocol import rtcp, rtp, stun
from conference.protocol.rtp import RtpPacket
from tests.support.comparing import differences
from tests.support.engine import IDS, PWD, has_native
from tests.support.recording import Arrive, Item, NativeDriver, Recording, ReferenceDriver, keys_of, play
from tests.support.studio import SHARES, Studio

needs_native = pytest.mark.skipif(not has_native(), reason="the native wheel is not installed")
pytestmark = [pytest.mark.contract, needs_native]

WIDE_IDS = ExtensionIds(mid=4, audio_level=1, transport_cc=20, abs_send_time=2, orientation=13)


def compare(studio: Studio) -> None:
    recording = studio.recording()
    reference, native = (play(driver, recording) for driver in (ReferenceDriver(3), NativeDriver(5)))
    found = differences(recording, reference, native)
    assert not found, "\n".join(found)


def call(studio: Studio, pictures: int = 3) -> None:
    """Everybody's pictures and sound for a moment, from a key frame on."""
    for at in range(pictures):
        studio.perform(("frames", 7 if at == 0 else 0, at, 0))
        studio.perform(("sound", at, 0, 0))
        studio.perform(("frame", 1, 8 if at == 0 else 0, 0))


def raw(studio: Studio, peer: str, data: bytes) -> None:
    studio.arrive(peer, data, "raw")
    studio.wait(3)


def check(studio: Studio, peer: str, ufrag: str, pwd: str, **changes: bool) -> None:
    raw(studio, peer, stun.binding_request(b"r" * 12, f"{ufrag}:far", pwd, use_candidate=True, **changes))


def restart(studio: Studio) -> None:
    studio.apply(RestartIce("bob", "again", "n" * 24))
    call(studio)
    check(studio, "bob", "ufragbob", PWD)  # the old credentials hold until the new ones are used
    check(studio, "bob", "again", "n" * 24)
    check(studio, "bob", "ufragbob", PWD)  # and then no more
    call(studio)


def drop_pairs(studio: Studio) -> None:
    studio.apply(DropPairs("bob"))
    call(studio)
    check(studio, "bob", "ufragbob", PWD)
    studio.apply(RestartIce("bob", "again", "n" * 24))
    check(studio, "bob", "again", "n" * 24)
    call(studio)


def stranger(studio: Studio) -> None:
    studio.addresses["eve"] = ("10.0.0.9", 9)
    studio.known[("10.0.0.9", 9)] = "bob"
    for data in (b"\x16hello", b"\x80\x60" + bytes(40), b"\0\1\0\x50" + bytes(40), b"\xffwhat", b"\x80"):
        raw(studio, "eve", data)
    check(studio, "eve", "ufragbob", "x" * 24)
    check(studio, "eve", "nobody", PWD)
    check(studio, "eve", "ufragbob", PWD)  # with the password it is one more pair of Bob's
    raw(studio, "bob", b"\xffwhat")
    raw(studio, "bob", b"\x80\x60\x00")
    studio.addresses["cid"] = studio.addresses["bob"]
    check(studio, "cid", "ufragcid", PWD)  # Bob's address is held by Bob
    call(studio)


def dtls(studio: Studio) -> None:
    raw(studio, "ann", b"\x16client hello")
    studio.apply(SendDtls("ann", (b"\x16server hello", b"\x16certificate")))
    studio.apply(SendDtls("nobody", (b"\x16",)))
    raw(studio, "dan", b"\x16a plain transport has none")
    call(studio)


def silence(studio: Studio) -> None:
    studio.wait(9_000)
    studio.check("bob")
    studio.wait(9_000)
    call(studio)
    studio.wait(31_000)
    call(studio)


def leave(studio: Studio) -> None:
    studio.apply(RemoveTransport("bob"))
    call(studio)
    studio.apply(RemoveTransport("bob"))
    studio.apply(RemoveTransport("ann"))
    call(studio)


def tap(studio: Studio) -> None:
    keys, to = keys_of("tap"), ("10.0.0.7", 7_000)
    for at in range(SHARES - 1):
        studio.apply(AddTransport(f"idle-tap-{at}", f"idletap{at}", PWD))
    studio.addresses["tap"] = to
    studio.known[to] = "tap"
    studio.apply(AddPlainTransport("tap", to, keys.profile, keys.receive_key, keys.send_key))
    ids = ExtensionIds(audio_level=1, abs_send_time=2, orientation=5, dependency_descriptor=6)
    sender = studio.subscribe("tap", "cam", ids)
    studio.apply(SelectLayer(sender.sender_id, "h", strict=True))
    studio.subscribe("tap", "mic", ids)
    call(studio)
    studio.wait(4_000)
    studio.arrive("tap", rtcp.receiver_report(rtcp.ReceiverReport(1)), "rtcp")
    call(studio)
    studio.ask(sender, "pli")
    studio.wait(4_000)


def two_byte_forms(studio: Studio) -> None:
    for name in list(studio.senders):
        studio.apply(RemoveSender(name))
    studio.subscribe("bob", "cam", WIDE_IDS)
    studio.subscribe("cid", "mic", replace(WIDE_IDS, transport_cc=None, mid=15))
    call(studio)


def nothing_asked_for(studio: Studio) -> None:
    for name in list(studio.senders):
        studio.apply(RemoveSender(name))
    studio.subscribe("bob", "cam", ExtensionIds())
    studio.subscribe("cid", "mic", ExtensionIds())
    call(studio)


def odd_packets(studio: Studio) -> None:
    call(studio)
    source = studio.stages[0].sources[2]

    def send(payload: bytes, *, extensions: dict[int, bytes] | None = None, kind: int = 96, padding: int = 0) -> None:
        number, stamp = source.next(studio.now)
        packet = RtpPacket(kind, number & 0xFFFF, stamp, source.ssrc, payload, extensions=extensions, padding=padding)
        studio.arrive("ann", rtp.build(packet), "rtp")
        studio.wait(3)

    send(b"")
    send(b"", padding=255)
    send(b"\x90")
    send(b"\x90\xe0\x81")
    send(b"\x10\x01no extended fields")
    send(b"\x90\x80\x05\x01a short picture id, and no TL0PICIDX")
    send(b"\x90\xe0\x81\0\7\x20\1" + b"x" * 1_200, extensions={3: b"\1", 4: b"", 10: b"f", 13: b""})
    send(b"\x90\xe0\x81\0\7\x20\1rest", extensions={20: b"two bytes", 13: b"\2\3", 1: b"", 3: b"\1\2\3"})
    send(b"\x90\xe0\x81\0\7\x20\1rest", kind=97)
    send(b"\x90\xe0\x81\0\7\x20\1rest", kind=100)
    call(studio)


def odd_feedback(studio: Studio) -> None:
    """(Not transport-wide feedback: the reference engine, which has no estimate, steps over it unread.)"""
    call(studio)
    for data in (
        b"\x80\xc9\0\1\0\0\0\1\x80\xc9\0\x09",  # longer than the datagram
        b"\x81\xcd\0\2\0\0\0\1\0\0\0\2",  # a NACK without numbers
        b"\x81\xce\0\2\0\0\0\1\0\0\0\2",  # a PLI for nobody's SSRC
        b"\x9f\xc8\0\6" + bytes(24),  # a sender report with blocks that are not there
        b"\xa0\xc9\0\1\0\0\0\7",  # padding longer than the packet
        b"\x82\xcb\0\2\0\0\0\1\0\0\0\2",  # BYE
        b"\x80\xd0\0\1abcd",  # an unknown type
    ):
        studio.arrive("bob", data, "rtcp")
        studio.wait(3)
    call(studio)


def round_trip(studio: Studio) -> None:
    """What was sent again just now is not sent again before a round trip has passed."""
    sender = studio.senders["bob/pic"]
    studio.perform(("clock", 2, 0, 0))
    studio.wait(500)
    call(studio)
    studio.ask(sender, "report", round_trip_us=150_000)
    for pause_ms in (5, 100, 100, 5):
        studio.ask(sender, "nack", numbers=(0, 1))
        studio.wait(pause_ms)


def layers_renamed(studio: Studio) -> None:
    """Renegotiated without the lowest layer; the others keep their streams, and a pin its layer."""
    for name in ("bob/cam", "cid/cam"):
        studio.apply(SelectLayer(name, "h", strict=True))
    call(studio)
    command = studio.stages[0].command()
    studio.apply(replace(command, rids=("h", "f")))
    call(studio)
    studio.apply(command)
    call(studio)


def layers_swapped(studio: Studio) -> None:
    """Renegotiated with the layers in another order, as some browsers number them."""
    call(studio)
    command = studio.stages[0].command()
    studio.apply(replace(command, rids=("h", "q", "f")))
    studio.apply(SelectLayer("bob/cam", "h"))
    studio.apply(SelectLayer("cid/cam", "q"))
    call(studio)
    call(studio)


def ids_again(studio: Studio) -> None:
    """A transport's id is used again, a track moves to another peer, a sender names a track that is gone."""
    studio.apply(AddTransport("bob", "newbob", PWD))
    call(studio)
    check(studio, "bob", "newbob", PWD)
    stage = studio.stages[1]
    studio.apply(replace(stage.command(), transport_id="bob"))
    call(studio)
    studio.apply(SetSender("x", "cid", "gone", "0", stage.codec, IDS, 77, 78, "x"))
    studio.apply(RemoveSender("nobody"), SelectLayer("nobody", "q"), RemoveTransport("nobody"))
    call(studio)


SCENES: tuple[Callable[[Studio], None], ...] = (
    restart,
    drop_pairs,
    stranger,
    dtls,
    silence,
    leave,
    tap,
    two_byte_forms,
    nothing_asked_for,
    odd_packets,
    odd_feedback,
    round_trip,
    layers_renamed,
    layers_swapped,
    ids_again,
)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_both_engines_do_the_same_when_links_and_forms_change(scene: Callable[[Studio], None]) -> None:
    studio = Studio()
    call(studio)
    scene(studio)
    compare(studio)


def _is_anns(*items: Arrive) -> bool:
    return all(item.datagrams[0][0] == "ann" and item.datagrams[0][3] == "rtp" for item in items)


def in_drains(recording: Recording, since: int) -> Recording:
    """What Ann sends between two other things comes in one drain, once the call has begun."""
    items: list[Item] = []
    for item in recording.items:
        last = items[-1] if items else None
        if item.at >= since and isinstance(item, Arrive) and isinstance(last, Arrive) and _is_anns(item, last):
            items[-1] = Arrive(item.at, (*last.datagrams, *item.datagrams))
        else:
            items.append(item)
    return replace(recording, items=tuple(items))


def test_drains_of_many_datagrams_give_each_stream_the_same() -> None:
    """Batching is the native engine's own: within one drain it goes sender by sender, so the order between streams, and
    with it the transport-wide numbers, may differ."""
    studio = Studio()
    call(studio)
    begun = studio.now * 1_000
    for _ in range(4):
        call(studio)
    recording = in_drains(studio.recording(), begun)
    assert max(len(item.datagrams) for item in recording.items if isinstance(item, Arrive)) > 6
    hearings = [play(driver, recording) for driver in (ReferenceDriver(3), NativeDriver(5))]
    for hearing in hearings:
        for ear in hearing.streams.values():
            for packet in ear.packets:
                packet.extensions.pop(3)
    found = differences(recording, *hearings)
    assert not found, "\n".join(found)


def test_a_layer_that_goes_on_under_another_ssrc_is_not_taken_back_by_late_packets() -> None:
    """The native engine counts what comes late as of an unknown stream; the reference engine goes on reporting it."""
    studio = Studio()
    call(studio)
    for name in ("bob/cam", "cid/cam"):
        studio.apply(SelectLayer(name, "q"))
    call(studio)
    source = studio.stages[0].sources[0]
    old, number = source.ssrc, source.number
    source.ssrc, source.number = 900, 30_000
    call(studio)
    source.ssrc, source.number = old, number
    studio.perform(("frame", 0, 0, 0))
    source.ssrc, source.number = 900, 30_100
    call(studio)
    recording = studio.recording()
    found = differences(recording, *(play(driver, recording) for driver in (ReferenceDriver(3), NativeDriver(5))))
    assert not [difference for difference in found if difference.startswith("stream")]

"""What the data plane's benches compute: slopes, rates, and the session descriptions for Janus."""

import os
import time

import pytest

from conference.protocol import sdp
from tests.bench import dataplane_janus_sdp as descriptions
from tests.bench.dataplane import Comparison
from tests.bench.dataplane_generator import LoadError, LoadPeer
from tests.bench.dataplane_measuring import Slope
from tests.bench.dataplane_scenario import Scenario
from tests.bench.dataplane_slope import Point, process_cpu_s, spread, us_per_packet

pytestmark = pytest.mark.unit

PEER = LoadPeer("p0-0", "192.0.2.1", 4_000, "ufrag", "a password of many letters", "AA:BB")


def test_a_slope_leaves_out_what_costs_without_packets() -> None:
    points = [Point(rate, 0.05 + rate * 2e-6) for rate in (1_000.0, 5_000.0, 9_000.0)]
    assert us_per_packet(points) == pytest.approx(2.0)


def test_a_slope_is_the_best_line_through_noise() -> None:
    noisy = [Point(0.0, 0.001), Point(10_000.0, 0.019), Point(20_000.0, 0.041)]
    assert us_per_packet(noisy) == pytest.approx(2.0)


def test_one_rate_has_no_slope() -> None:
    with pytest.raises(ValueError, match="two different rates"):
        us_per_packet([Point(5.0, 1.0), Point(5.0, 2.0)])
    with pytest.raises(ValueError, match="two different rates"):
        us_per_packet([])


def test_the_cpu_of_a_process_is_that_of_all_its_threads() -> None:
    before, own = process_cpu_s(os.getpid()), time.process_time()
    deadline = time.process_time() + 0.02
    while time.process_time() < deadline:
        pass
    used, own = process_cpu_s(os.getpid()) - before, time.process_time() - own
    assert used == pytest.approx(own, abs=0.005)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    def slopes(*costs: float) -> list[Slope]:
        return [Slope(cost, ()) for cost in costs]

    made = Comparison({"native": slopes(2.0, 4.0, 9.0), "sendto": slopes(4.0, 8.0, 9.0)}, {"janus": "not here"})
    assert made.ratio("sendto") == 0.5
    assert made.cost("native") == 4.0
    assert made.ratio("janus") is None
    assert made.cost("janus") is None
    assert str(spread([3.0, 1.0, 2.0])) == "2.00 (1.00 to 3.00)"


def test_a_scenario_sends_at_the_rate_that_arrives() -> None:
    rooms = Scenario("rooms", 1, 10, ("video",), rooms=20)
    scale = rooms.scale_for(20_000)
    sent = sum(stream["frames_per_s"] * stream["frame_packets"] for stream in rooms.send(scale))
    assert sent * rooms.fan_out == pytest.approx(20_000)
    assert len(rooms.receive()) == 200


def test_publishers_of_sound_take_turns() -> None:
    sound = Scenario("sound", 10, 200, ("audio",))
    assert sorted(stream["phase"] for stream in sound.send(1.0)) == pytest.approx([n / 10 for n in range(10)])
    assert {stream["frames_per_s"] for stream in sound.send(1.0)} == {50.0}


def test_in_a_meeting_everybody_receives_all_but_what_is_his_own_of_his_room() -> None:
    meeting = Scenario("meeting", 3, 3, ("video", "audio"), rooms=2, has_simulcast=True, is_meeting=True)
    heard = [name for name in meeting.publisher_names() if meeting.receives("s1-2", name)]
    assert heard == ["p1-0", "p1-1"]
    ssrcs = [ssrc for track in meeting.tracks() for ssrc in track.ssrcs]
    assert len(ssrcs) == len(set(ssrcs)) == 6 * 4
    assert [stream["rid"] for stream in meeting.send(1.0)[:4]] == ["q", "h", "f", None]


def test_an_offer_says_what_the_generator_sends() -> None:
    (section,) = sdp.parse(descriptions.offer(PEER, "video", 7)).sections
    assert (section.kind, section.formats, section.direction) == ("video", ("96", "97"), "sendonly")
    assert section.get("setup") == "active", "the generator is the DTLS client"
    assert section.get("candidate") == "1 1 udp 2113937151 192.0.2.1 4000 typ host"
    assert section.get("ssrc") == "7 cname:p0-0"


def test_an_answer_takes_every_section_of_the_offer() -> None:
    offered = descriptions.offer(PEER, "audio", 7).replace("a=setup:active", "a=setup:actpass")
    text = descriptions.answer(offered, PEER)
    (section,) = sdp.parse(text).sections
    assert (section.mid, section.direction, section.formats) == ("1", "recvonly", ("111",))
    assert not section.has("ssrc")
    assert descriptions.transport_cc(text) == 3


def test_where_janus_is_stands_in_its_description() -> None:
    text = descriptions.offer(PEER, "video", 7)
    found = descriptions.connection("s", text, "AEAD_AES_128_GCM")
    assert found["remote"] == {
        "ip": "192.0.2.1",
        "port": 4_000,
        "ufrag": "ufrag",
        "pwd": "a password of many letters",
        "fingerprint": "AA:BB",
    }
    with pytest.raises(LoadError, match="no candidate"):
        descriptions.connection("s", text.replace("a=candidate", "a=other"), "AEAD_AES_128_GCM")

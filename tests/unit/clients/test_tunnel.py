"""The tunnel's session in the client without a gateway: which wire follows, what ends the session, what is bounded."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parley_client.errors import NotOffered, WayFailed
from parley_client.ladder import Way
from parley_client.media import ice_for, turn_way
from parley_client.proxies import Proxies
from parley_client.rest import IceServer
from parley_client.tunnel import MAX_MESSAGES, TunnelClient
from parley_client.wires import Kind, _Order

from conference.domain.errors import ProtocolError
from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import Frame, FrameType

pytestmark = pytest.mark.unit

URL = "https://meet.example.com"


class Changes(TunnelClient):
    """A session whose wires are fakes; `works` are the kinds that start."""

    def __init__(self, kind: Kind, *works: Kind) -> None:
        super().__init__(None, URL)  # type: ignore[arg-type]
        self.kind, self.works = kind, works
        self.tried: list[Kind] = []

    async def change(self, kind: Kind) -> None:
        self.tried.append(kind)
        if kind not in self.works:
            raise WayFailed("blocked")
        self.kind = kind


@pytest.mark.parametrize(
    ("kind", "works", "tried"),
    [
        ("websocket", ["websocket"], ["websocket"]),
        ("websocket", ["poll"], ["websocket", "stream", "poll"]),
        ("poll", ["websocket"], ["poll", "websocket"]),
        ("stream", ["websocket"], ["stream", "poll", "websocket"]),
    ],
)
async def test_a_lost_wire_is_followed_by_its_own_kind_then_those_below_then_those_above(
    kind: Kind, works: list[Kind], tried: list[Kind]
) -> None:
    tunnel = Changes(kind, *works)
    told: list[Kind] = []
    tunnel.changed = told.append
    await tunnel._recover()
    assert tunnel.tried == tried
    assert told == [works[0]]
    assert not tunnel.closed.is_set()


async def test_without_any_wire_the_session_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parley_client.tunnel.RECOVER_S", 0.05)
    monkeypatch.setattr("parley_client.tunnel.AGAIN_S", 0.02)
    tunnel = Changes("websocket")
    await tunnel._recover()
    assert tunnel.closed.is_set()
    assert (tunnel.code, tunnel.why) == (1006, "blocked")
    with pytest.raises(ConnectionError):
        tunnel.signal("{}")


async def test_silence_is_the_loss_of_a_wire() -> None:
    tunnel = Changes("websocket")
    await tunnel._tick(10.0)
    assert not tunnel._lost.is_set()
    await tunnel._tick(13.0)
    assert tunnel._lost.is_set()


async def test_messages_that_nobody_reads_end_the_session() -> None:
    tunnel = Changes("websocket")
    for number in range(MAX_MESSAGES + 1):
        tunnel.take([Frame(FrameType.SIGNAL, 0, b"{}", number)])
    assert tunnel.messages.qsize() == MAX_MESSAGES
    assert tunnel.code == 1013


async def test_a_path_is_refused_by_its_code_and_answers_to_nobody_are_passed_over() -> None:
    tunnel = Changes("websocket")
    tunnel._control(c.PathOpened(stream=99))
    opening = tunnel.path("127.0.0.1", 9)
    task = asyncio.create_task(opening)
    await asyncio.sleep(0)
    tunnel._control(c.PathRefused(stream=1, code="not-a-media-node"))
    tunnel._control(c.PathRefused(stream=1, code="again"))
    assert await task == (1, "not-a-media-node")


def test_answers_of_two_polls_are_put_into_their_order_and_a_lost_one_is_noticed() -> None:
    came: list[int] = []
    order = _Order(lambda frames: came.extend(frame.sequence for frame in frames))
    for number in (1, 0, 3, 2):
        order.take(number, [Frame(FrameType.SIGNAL, 0, b"", number)])
    assert came == [0, 1, 2, 3]
    for number in range(5, 5 + _Order.AHEAD):
        order.take(number, [])
    with pytest.raises(ProtocolError, match="missing"):
        order.take(20, [])


async def test_only_udp_candidates_lead_through_the_tunnel_two_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = Proxies(Changes("websocket"))

    async def port(self: Proxies, ip: str, number: int, connection: int) -> int | None:
        return None if ip == "10.0.0.9" else number + 1

    monkeypatch.setattr(Proxies, "_port", port)
    lines = [
        "v=0",
        "a=candidate:1 1 udp 1 10.0.0.9 5000 typ host",
        "a=candidate:1 1 UDP 1 10.0.0.1 5000 typ host",
        "a=candidate:2 1 tcp 1 10.0.0.1 5000 typ host tcptype passive",
        "a=candidate:broken",
        "a=candidate:5 1 udp 1 10.0.0.1 x typ host",
        "a=candidate:3 1 udp 1 10.0.0.2 6000 typ host",
        "a=candidate:4 1 udp 1 10.0.0.3 7000 typ host",
        "a=end-of-candidates",
    ]
    sdp = await proxies.rewrite("\r\n".join(lines) + "\r\n", 0)
    assert sdp.split("\r\n") == [
        "v=0",
        "a=candidate:1 1 UDP 1 127.0.0.1 5001 typ host",
        "a=candidate:3 1 udp 1 127.0.0.1 6001 typ host",
        "a=end-of-candidates",
        "",
    ]


@pytest.mark.parametrize(
    ("url", "way"),
    [
        ("turn:a:3478", "turn-udp"),
        ("turn:a?transport=udp", "turn-udp"),
        ("turn:a:3478?transport=tcp", "turn-tcp"),
        ("turns:a:443?transport=tcp", "turn-tls"),
        ("turns:a", "turn-tls"),
        ("turns:a?transport=udp", None),
        ("turn:a?transport=sctp", None),
        ("stun:a", None),
    ],
)
def test_each_turn_transport_is_a_way_of_its_own(url: str, way: Way | None) -> None:
    assert turn_way(url) == way
    servers = [IceServer(("stun:x",)), IceServer((url,), "name", "password")]
    if way is None:
        with pytest.raises(NotOffered):
            ice_for("turn-tls", servers)
    else:
        (chosen,) = ice_for(way, servers).servers
        assert (chosen.urls, chosen.username, chosen.credential) == (url, "name", "password")


@given(st.text(max_size=80))
def test_what_is_no_turn_address_is_no_way(url: str) -> None:
    assert turn_way(url) in (None, "turn-udp", "turn-tcp", "turn-tls")


def test_udp_uses_no_server_at_all() -> None:
    assert ice_for("udp", [IceServer(("stun:public.example",))]).servers == ()

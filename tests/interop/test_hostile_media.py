"""Hostile datagrams against a running native engine, over real sockets: counters count, the living call goes on.

A million of them, and the law of sealing, are tests of the engine without sockets (dataplane/core/tests/hostile.rs).
"""

import asyncio
import random
import socket
from collections.abc import AsyncIterator

import psutil  # type: ignore[import-untyped]
import pytest

from conference.adapters.media.srtp import SrtpContext
from conference.ports.forwarding import DtlsReceived, IceChanged
from conference.protocol import rtp
from tests.support.engine import DELTA, KEY_FRAME, Bench, EnginePeer, NativeFactory, bench, has_native, media
from tests.support.waiting import eventually

needs_native = pytest.mark.skipif(not has_native(), reason="the native data plane is not installed (no Rust toolchain)")
pytestmark = [pytest.mark.interop, needs_native]

GARBAGE = 100_000
MAX_GROWTH = 16 << 20
CLIENT_HELLO = bytes((22, 0xFE, 0xFD)) + bytes(8) + b"\0\x14\1" + bytes(19)


@pytest.fixture
async def engine() -> AsyncIterator[Bench]:
    async with bench(NativeFactory()) as made:
        yield made


async def call(engine: Bench) -> tuple[EnginePeer, EnginePeer]:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    engine.publish(ann, "cam")
    engine.subscribe(bob, "cam")
    await engine.settle()
    ann.send_rtp(media(1, payload=KEY_FRAME))
    await eventually(lambda: len(bob.rtp) == 1)
    return ann, bob


def garbage(count: int) -> list[bytes]:
    source = random.Random(5)
    kinds = (b"\0\1", b"\x80\x60", b"\x81\xc9", b"\x40\0", b"\x16\xfe")
    return [kinds[number % 5] + source.randbytes(source.randrange(0, 200)) for number in range(count)]


async def test_garbage_costs_nothing_but_counters(engine: Bench) -> None:
    ann, bob = await call(engine)
    process = psutil.Process()
    packets = garbage(500)
    stranger = engine.stranger()
    for packet in packets:  # what is allocated once is allocated now
        stranger.send(packet)
    await eventually(lambda: engine.dropped("stranger") > 0)
    before, events = process.memory_info().rss, len(engine.of(DtlsReceived))
    for number in range(GARBAGE):
        (stranger if number % 2 else ann).send(packets[number % len(packets)][:1] + b"\xff" + packets[number % 500][2:])
        if number % 200 == 0:
            await asyncio.sleep(0)
        if number % 10_000 == 0:
            ann.send_rtp(media(2 + number // 10_000))
    await eventually(lambda: engine.dropped("stranger") > GARBAGE // 20, within_s=20)
    count = len(bob.rtp)
    ann.send_rtp(media(500, payload=KEY_FRAME))
    await eventually(lambda: len(bob.rtp) > count)
    assert process.memory_info().rss - before < MAX_GROWTH
    assert not engine.of(IceChanged, state="failed")
    theirs = [e for e in engine.of(DtlsReceived)[events:] if e.transport_id != "ann"]
    assert theirs == [], "a stranger's datagram is no event"


async def test_a_strangers_client_hello_never_reaches_the_handshake(engine: Bench) -> None:
    ann, _ = await call(engine)
    engine.stranger().send(CLIENT_HELLO)
    ann.send(CLIENT_HELLO)
    await eventually(lambda: engine.of(DtlsReceived) == [DtlsReceived("ann", CLIENT_HELLO)])
    await eventually(lambda: engine.dropped("stranger") == 1)


async def test_wrong_keys_replays_and_sizes_are_refused_while_the_call_goes_on(engine: Bench) -> None:
    ann, bob = await call(engine)
    wrong = SrtpContext("AEAD_AES_128_GCM", bytes([7]) * 28, bytes([8]) * 28)
    forged = wrong.seal_rtp(rtp.build(media(2)))
    assert forged is not None
    ann.send(forged)
    sealed = ann.send_rtp(media(3))
    for _ in range(5):
        ann.send(sealed)
    for size in (0, 1, 11, 12, 1_501, 9_000, 65_507):
        ann.send(b"\x80" + bytes(size - 1) if size else b"")
    await eventually(lambda: engine.dropped("srtp-refused") >= 6)
    await eventually(lambda: engine.dropped("oversize") >= 3)
    ann.send_rtp(media(4))
    await eventually(lambda: len(bob.rtp) == 3)


async def test_a_socket_that_sends_more_than_is_read_loses_its_own_only(engine: Bench) -> None:
    ann, bob = await call(engine)
    flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        for _ in range(20_000):
            flood.sendto(b"\x80" + bytes(1_200), ("127.0.0.1", engine.engine.ports[0]))
    finally:
        flood.close()

    def is_going_on() -> bool:
        ann.number += 1
        ann.send_rtp(media(100 + ann.number, payload=DELTA))
        return len(bob.rtp) > 3

    await eventually(is_going_on)

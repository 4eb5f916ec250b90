"""CPU that the reference engine spends on a packet that it forwards: decrypt once, rewrite and encrypt for everybody.

One publisher, SUBSCRIBERS subscribers that do not read; packets are encrypted before the clock runs. For information:
the reference engine is the oracle of a native one, and small rather than fast.
"""

import asyncio
import statistics
import time
from typing import Final

from conference.protocol.rtp import RtpPacket
from tests.bench.results import Result
from tests.support.engine import DELTA, KEY_FRAME, Bench, EnginePeer, ReferenceFactory, bench, media
from tests.support.waiting import eventually

NAMES: Final = ("sfu.reference.us_per_packet",)
SUBSCRIBERS: Final = 10
ROUNDS: Final = 5
PACKETS: Final = 400  # a round
BATCH: Final = 20
FILLER: Final = bytes(1_100)  # about what a packet of video carries


class Publisher:
    """Numbers its packets on."""

    def __init__(self, peer: EnginePeer) -> None:
        self._peer = peer
        self._number = 0
        peer.mutilate = lambda sealed: None  # keeps what is sealed from being sent at once

    def seal(self, payload: bytes) -> bytes:
        """The next packet, encrypted and not sent yet."""
        self._number += 1
        packet: RtpPacket = media(self._number, payload=payload)
        return self._peer.send_rtp(packet)

    def send(self, sealed: bytes) -> None:
        self._peer.send(sealed)


async def _round(made: Bench, publisher: Publisher) -> float:
    """Microseconds of CPU for each forwarded packet."""
    packets = [publisher.seal(DELTA + FILLER) for _ in range(PACKETS)]
    stats = made.engine.stats
    before, used = stats().forwarded_packets, time.process_time()
    for start in range(0, PACKETS, BATCH):
        for sealed in packets[start : start + BATCH]:
            publisher.send(sealed)
        wanted = before + (start + BATCH) * SUBSCRIBERS
        async with asyncio.timeout(10):
            while stats().forwarded_packets < wanted:  # noqa: ASYNC110 - the engine tells nobody
                await asyncio.sleep(0)
    return (time.process_time() - used) / (stats().forwarded_packets - before) * 1e6


async def _measure() -> float:
    async with bench(ReferenceFactory()) as made:
        publisher = Publisher(peer := await made.peer("publisher"))
        made.publish(peer, "camera")
        subscribers = [await made.peer(f"subscriber{number}") for number in range(SUBSCRIBERS)]
        for subscriber in subscribers:
            made.subscribe(subscriber, "camera")
        publisher.send(publisher.seal(KEY_FRAME))
        await eventually(lambda: made.engine.stats().forwarded_packets >= SUBSCRIBERS)
        for subscriber in subscribers:
            asyncio.get_running_loop().remove_reader(subscriber.socket.fileno())
        return statistics.median([await _round(made, publisher) for _ in range(ROUNDS)])


def run() -> list[Result]:
    return [Result(NAMES[0], asyncio.run(_measure()), "µs of CPU")]

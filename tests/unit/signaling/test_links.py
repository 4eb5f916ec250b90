"""The control link's queue towards a node that does not read."""

import asyncio

import aiohttp
import pytest

from conference.domain.ids import NodeId
from conference.ports.presence import MediaNode
from conference.protocol import control as c
from conference.protocol.envelope import Message
from media_workers.signaling.links import ControlLink

pytestmark = pytest.mark.unit


class Nobody:
    def link_up(self, link: ControlLink, hello: c.Hello) -> None:
        """Not needed here."""

    def link_down(self, link: ControlLink) -> None:
        """Not needed here."""

    def link_message(self, link: ControlLink, message: Message) -> None:
        """Not needed here."""


async def test_what_waits_for_a_node_is_bounded_in_bytes() -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    async with aiohttp.ClientSession() as http:
        link = ControlLink(MediaNode(NodeId("n"), "local", "ws://127.0.0.1:1", 0.0, 0), http, never, Nobody())
        link.up = True  # and nobody takes anything out of the queue
        offer = c.Offer(participant_id="p", transport_id="t", negotiation_id=1, sdp="x" * 200_000)
        replies: list[Message] = []
        for _ in range(200):
            link.send(offer, on_reply=replies.append)
        assert 100 < len(replies) < 150  # of 16 MiB
        assert {reply.type for reply in replies} == {"ControlError"}
        await link.stop()

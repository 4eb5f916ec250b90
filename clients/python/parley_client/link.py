"""One way into a room: a signaling connection, the media that it negotiates, and below both a tunnel, if need be.

A link is made for each rung of the ladder. It joins with a token of its own, which takes the seat over from the link
before it, so that the room sees neither a leave nor a second person.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from parley_client.errors import ClientError, JoinRefused, SignalingEnded, WayFailed
from parley_client.media import Media
from parley_client.proxies import Proxies
from parley_client.signaling import Payload, Signaling
from parley_client.tunnel import TunnelClient

CONNECT_S: Final = 5.0
RESUME_TRIES: Final = 4
RESUME_S: Final = 0.3  # the first pause; the next is twice as long
# Close codes that end the call: left, removed, joined from elsewhere, ended.
FINAL: Final[Mapping[int, str]] = {1000: "left", 4403: "removed", 4409: "replaced", 4410: "ended"}
CAPABILITIES: Final[Payload] = {"simulcast": False, "mesh": False}


@dataclass(frozen=True, slots=True)
class Names:
    """How canonical message names are said and heard: as they are, unless a dialect is spoken."""

    say: Callable[[str], str] = lambda name: name
    hear: Callable[[str], str] = lambda name: name


CANONICAL: Final = Names()
Connect = Callable[[], Awaitable[Signaling]]
MakeMedia = Callable[["Link"], Media]


class Link:
    """`lost` is set with `why` when media or signaling is gone for good; `heard` is called with each message."""

    def __init__(
        self,
        connect: Connect,
        make_media: MakeMedia,
        *,
        names: Names = CANONICAL,
        tunnel: TunnelClient | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        self._connect, self._names = connect, names
        self.tunnel, self._proxies = tunnel, proxies
        self.media = make_media(self)
        self.signaling: Signaling | None = None
        self.joined: Payload = {}
        self.seq = 0
        self.stage = ""
        self.lost = asyncio.Event()
        self.why = ""
        self.heard: Callable[[str, Payload], None] = lambda type_, payload: None
        self.own_state: Payload = {}
        self._pump: asyncio.Task[None] | None = None

    # --- into the room ---
    async def enter(self, room_id: str, token: str, *, display_name: str | None = None) -> Payload:
        """Joins; gives RoomJoined. Raises WayFailed, JoinRefused."""
        self.stage = "opening signaling"
        self.signaling = await self._connected_signaling()
        named = {} if display_name is None else {"displayName": display_name}
        self.stage = "waiting for RoomJoined"
        await self.send("JoinRoom", {"roomId": room_id, "token": token, "capabilities": CAPABILITIES, **named})
        self.joined = await self._first_answer("RoomJoined")
        self.seq = int(self.joined.get("seq", 0))
        self.stage = "waiting for a media server"
        self._pump = asyncio.create_task(self._pumped())
        return self.joined

    async def _connected_signaling(self) -> Signaling:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await self._connect()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise WayFailed(f"signaling does not answer: {type(error).__name__}") from None

    async def _first_answer(self, wanted: str) -> Payload:
        """The first message of that type, or what refuses it."""
        assert self.signaling is not None
        async for message in self.signaling.stream():
            name = self._names.hear(message["type"])
            if name == wanted:
                return dict(message["payload"])
            if name == "Error":
                raise WayFailed(f"signaling refuses: {message['payload'].get('code', '')}")
        code = self.signaling.close_code
        if self.final:
            raise JoinRefused(self.final, "Signaling has ended the connection.")
        raise WayFailed(f"signaling closed with {code}")

    async def connected(self) -> None:
        """Returns when the publish transport is connected. Raises WayFailed."""
        waits = [asyncio.ensure_future(each.wait()) for each in (self.media.connected, self.lost)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if not self.media.connected.is_set():
            raise WayFailed(self.why)

    async def send(self, type_: str, payload: Payload | None = None) -> None:
        """By the canonical name. Raises SignalingEnded."""
        if self.signaling is None:
            raise SignalingEnded(None)
        try:
            await self.signaling.send(self._names.say(type_), payload)
        except (ConnectionError, aiohttp.ClientError):
            raise SignalingEnded(self.signaling.close_code) from None

    # --- what comes ---
    async def _pumped(self) -> None:
        """Each message to media and to the call, in order; the link is lost when this ends."""
        assert self.signaling is not None
        try:
            async for message in self.signaling.stream():
                self.seq = max(self.seq, int(message.get("seq", 0)))
                await self._take(self._names.hear(message["type"]), message["payload"])
        except Exception as error:  # aiortc has no family of its own for SDP that it cannot take
            self._lose(f"{type(error).__name__}: {error}")
        else:
            self._lose(f"signaling ended with {self.signaling.close_code}")

    async def _take(self, type_: str, payload: Payload) -> None:
        handler = _HANDLERS.get(type_)
        if handler is not None:
            await handler(self, payload)
        self.heard(type_, payload)

    async def _endpoint(self, payload: Payload) -> None:
        self.stage = "connecting media"
        await self.media.endpoint(payload)

    async def _offered(self, payload: Payload) -> None:
        if payload["sourceUserId"] == "sfu":
            await self.media.offered(payload)

    async def _answered(self, payload: Payload) -> None:
        if payload["sourceUserId"] == "sfu":
            await self.media.answered(payload)
            if self.own_state:
                await self.send("UpdateState", self.own_state)

    async def _switched(self, payload: Payload) -> None:
        """We only talk to the SFU: nothing has to be moved, and everybody is decoded there as soon as they are."""
        if payload["to"] == "sfu":
            people = self.joined.get("snapshot", {}).get("participants", ())
            peers = [person["userId"] for person in people if person["userId"] != self.joined.get("userId")]
            await self.send("TopologyReady", {"epoch": payload["epoch"], "peers": peers[:32]})

    def _lose(self, why: str) -> None:
        if not self.lost.is_set():
            self.why = why
            self.lost.set()

    def media_lost(self, why: str) -> None:
        """Of `Media`."""
        self._lose(why)

    # --- signaling that broke ---
    @property
    def final(self) -> str:
        """Why the call is over, as signaling has said it; empty where it has not."""
        code = self.signaling.close_code if self.signaling is not None else None
        return FINAL.get(code, "") if code is not None else ""

    @property
    def can_resume(self) -> bool:
        """Signaling alone is gone, by a direct connection."""
        return self.tunnel is None and self._can_resume

    @property
    def _can_resume(self) -> bool:
        is_gone = self.signaling is not None and self.signaling.closed.is_set()
        code = self.signaling.close_code if self.signaling is not None else None
        return is_gone and code != 4401 and self.media.state(0) == "connected"

    async def pause(self) -> None:
        """Nothing that comes is handled from now on, until `resume`."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    async def resume(self, connect: Connect | None = None) -> Payload:
        """A new signaling connection takes the seat up; media is left alone. Gives Resumed. Raises WayFailed."""
        self._connect = connect or self._connect
        await self.pause()
        former = self.signaling
        last = max([self.seq, *(former.numbered() if former is not None else ())])
        self.signaling = await self._connected_signaling()
        if former is not None:
            await former.close()
        wanted = {key: self.joined[key] for key in ("participantId", "resumeSecret", "generation")}
        await self.send("Resume", {**wanted, "lastSeq": last})
        resumed = await self._first_answer("Resumed")
        self.joined |= resumed
        self.lost.clear()
        self._pump = asyncio.create_task(self._pumped())
        return resumed

    async def resumed(self) -> bool:
        """Tries to resume, a few times with growing pauses; False where that does not help."""
        for number in range(RESUME_TRIES):
            try:
                async with asyncio.timeout(CONNECT_S):
                    await self.resume()
            except (ClientError, TimeoutError):
                if self.final:
                    return False
                await asyncio.sleep(RESUME_S * 2**number * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            else:
                return True
        return False

    # --- the end ---
    async def stop_media(self) -> None:
        """Media goes, the seat stays: the next link takes it over."""
        await self.pause()
        await self.media.close()

    async def close(self, *, leave: bool = True) -> None:
        await self.stop_media()
        if leave:
            with suppress(ClientError):
                await self.send("Leave")
        if self.signaling is not None:
            await self.signaling.close()
        if self.tunnel is not None:
            await self.tunnel.close()
        if self._proxies is not None:
            self._proxies.close()


_HANDLERS: Final[Mapping[str, Callable[[Link, Payload], Any]]] = {
    "SfuEndpoint": Link._endpoint,
    "ReceiveOffer": Link._offered,
    "ReceiveAnswer": Link._answered,
    "SwitchTopology": Link._switched,
}

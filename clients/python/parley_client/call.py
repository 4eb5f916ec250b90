"""A call: climbs the ladder into a room, keeps its state, comes back by itself when signaling, a wire or media fails.

A lost signaling connection is resumed; a lost wire of the tunnel is replaced inside the session; what is beyond that is
climbed anew, with a new token that takes the seat over. The published tracks are the same all along; received ones are
told again after a climb, since they come over new connections.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from parley_client.errors import ClientError, JoinRefused
from parley_client.ladder import LIMITS_S, LastGood, Way, climb, ordered
from parley_client.link import Link
from parley_client.media import Publication, ReceivedTrack
from parley_client.rest import Api, Grant
from parley_client.signaling import Payload

SETTLE_S: Final = 1.0  # signaling may say in that time why media has ended
CALM_S: Final = 10.0  # a link that is lost within that time is followed after a pause
AGAIN_S: Final = 1.0
MakeLink = Callable[["Call", Way, Grant], Link]


class Call:
    """Made by `Client.join`. `way` is the rung in use, `participants` everybody's state by user id, one's own too,
    as signaling tells it; `ended` is set when it is over, with `reason`: `left`, `removed`, `replaced`, `ended`, or an
    error's text.

    Handlers are functions that return at once; they are called in the order of registration."""

    def __init__(
        self,
        api: Api,
        room_id: str,
        *,
        origin: str,
        ways: Sequence[Way],
        memory: LastGood,
        make_link: MakeLink,
        publish: Sequence[MediaStreamTrack | Publication] = (),
        display_name: str | None = None,
        limits_s: Mapping[Way, float] = LIMITS_S,
        **admission: str | None,
    ) -> None:
        self.room_id = room_id
        self.publications = tuple(Publication.of(track) for track in publish)
        self.way: Way | None = None
        self.participants: dict[str, Payload] = {}
        self.ended = asyncio.Event()
        self.reason = ""
        self.climbs = 0  # ways into the call that were found, the first one included
        self.ways = tuple(ways)
        self._api, self._origin, self._memory = api, origin, memory
        self._make_link, self._limits_s = make_link, limits_s
        self._display_name, self._admission = display_name, admission
        self._link: Link | None = None
        self._under_way: Link | None = None
        self._former: list[Link] = []
        self._unused: Grant | None = None
        self._handlers: dict[str, list[Callable[..., None]]] = {}
        self._ignored: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._climbing = asyncio.Lock()
        kinds = {publication.track.kind for publication in self.publications}
        self._own_state: Payload = {"isMuted": "audio" not in kinds, "isVideoOn": "video" in kinds}

    # --- who listens ---
    def on_track(self, handler: Callable[[ReceivedTrack], None]) -> None:
        """Somebody's track arrives. Where nobody listens, tracks are read and thrown away."""
        self._on("track", handler)
        for task in tuple(self._ignored):
            task.cancel()
        for received in self.tracks.values():
            handler(received)

    def on_untrack(self, handler: Callable[[ReceivedTrack], None]) -> None:
        """It does no longer, or comes again as another `on_track`."""
        self._on("untrack", handler)

    def on_chat(self, handler: Callable[[Payload], None]) -> None:
        """MessageReceived: messageId, userId, displayName, text, sentAt; one's own too."""
        self._on("MessageReceived", handler)

    def on_message(self, type_: str, handler: Callable[[Payload], None]) -> None:
        """Any message of signaling, by its name in docs/asyncapi.json, with its payload."""
        self._on(type_, handler)

    def on_way(self, handler: Callable[[Way], None]) -> None:
        """Another way or wire is in use now."""
        self._on("way", handler)

    def _on(self, name: str, handler: Callable[..., None]) -> None:
        self._handlers.setdefault(name, []).append(handler)

    def _tell(self, name: str, *arguments: Any) -> None:
        for handler in self._handlers.get(name, ()):
            handler(*arguments)

    # --- what it is ---
    @property
    def user_id(self) -> str:
        return str(self._link.joined.get("userId", "")) if self._link is not None else ""

    @property
    def participant_id(self) -> str:
        return str(self._link.joined.get("participantId", "")) if self._link is not None else ""

    @property
    def tracks(self) -> dict[str, ReceivedTrack]:
        """What is received now, by track id."""
        return dict(self._link.media.received) if self._link is not None else {}

    # --- what one does ---
    async def send(self, type_: str, payload: Payload | None = None) -> None:
        """Any message of docs/asyncapi.json. Raises SignalingEnded; while a way is sought, it waits for that."""
        async with self._climbing:
            link = self._link
        if link is None or self.ended.is_set():
            raise JoinRefused(self.reason or "not-joined", "The call is over.")
        await link.send(type_, payload)

    async def send_chat(self, text: str) -> str:
        """Gives the message's id. Raises SignalingEnded."""
        message_id = secrets.token_hex(8)
        await self.send("SendMessage", {"text": text, "messageId": message_id})
        return message_id

    async def update_state(self, **changes: bool) -> None:
        """`is_muted`, `is_video_on`, `is_sharing`, `is_hand_raised`; kept when the way changes."""
        known = {"is_muted": "isMuted", "is_video_on": "isVideoOn"}
        known |= {"is_sharing": "isSharing", "is_hand_raised": "isHandRaised"}
        payload = {known[name]: value for name, value in changes.items()}
        self._own_state.update(payload)
        await self.send("UpdateState", payload)

    async def network_changed(self) -> None:
        """The machine has another network: what was remembered is of the former one, so the ladder is climbed from the
        top and all transports are made anew (aiortc has no ICE restart). Raises NoWay, JoinRefused, Unreachable."""
        self._memory.forget(self._origin)
        await self._stop_watching()
        try:
            await self.climb()
        except ClientError as error:
            await self._end(str(error))
            raise

    async def leave(self) -> None:
        """Ends the call for us."""
        await self._stop_watching()
        await self._end("left")

    async def wait_ended(self) -> str:
        """Returns with `reason` when the call is over."""
        await self.ended.wait()
        return self.reason

    # --- the ladder ---
    async def climb(self) -> None:
        """Finds a way, the last good one first. Raises NoWay, JoinRefused, Unreachable; the seat is given up then."""
        async with self._climbing:
            self._unused = None
            if self._link is not None:
                self._former.append(self._link)
                self._link = None
            ways = ordered(self.ways, self._memory.get(self._origin))
            try:
                way, link = await climb(ways, self._attempt, limits_s=self._limits_s, stage=self._stage)
            except BaseException:
                await self._close_former(leave=True)
                raise
            self._link = link
            self.climbs += 1
            self._memory.put(self._origin, way)
            await self._close_former(leave=False)
        self._use(way)
        self._watching = asyncio.create_task(self._watch(link))

    def _stage(self) -> str:
        return self._under_way.stage if self._under_way is not None else "asking the API for a place"

    async def _attempt(self, way: Way) -> Link:
        self._under_way = None
        if self._unused is None:
            self._unused = await self._api.join(self.room_id, **self._admission)
        grant = self._unused
        link = self._under_way = self._make_link(self, way, grant)
        try:
            link.own_state = self._own_state
            link.heard = lambda type_, payload: self._heard(link, type_, payload)
            self._unused = None  # a token joins once
            await link.enter(self.room_id, grant.token, display_name=self._display_name)
            self._note_snapshot(link.joined)
            await link.connected()
        except BaseException:
            self._former.append(link)
            await link.stop_media()
            raise
        return link

    async def _close_former(self, *, leave: bool) -> None:
        former, self._former = self._former, []
        for link in former:
            await link.close(leave=leave)

    def _use(self, way: Way) -> None:
        self.way = way
        self._tell("way", way)

    def wire_changed(self, link: Link, way: Way) -> None:
        """Of the tunnel: another wire carries the same session."""
        if link is self._link:
            self._memory.put(self._origin, way)
            self._use(way)

    # --- what comes ---
    def arrived(self, received: ReceivedTrack) -> None:
        """Of `Media`."""
        if self._handlers.get("track"):
            self._tell("track", received)
        else:
            task = asyncio.create_task(_read_and_forget(received.track))
            self._ignored.add(task)
            task.add_done_callback(self._ignored.discard)

    def went(self, received: ReceivedTrack) -> None:
        """Of `Media`."""
        self._tell("untrack", received)

    def _note_snapshot(self, joined: Payload) -> None:
        people = joined.get("snapshot", {}).get("participants", ())
        self.participants = {person["userId"]: dict(person) for person in people}

    def _heard(self, link: Link, type_: str, payload: Payload) -> None:
        if link not in (self._link, self._under_way):
            return
        if type_ == "ParticipantJoined":
            self.participants[payload["userId"]] = dict(payload)
        elif type_ == "ParticipantLeft":
            self.participants.pop(payload["userId"], None)
        elif type_ == "StateChanged" and payload["userId"] in self.participants:
            self.participants[payload["userId"]] |= payload
        elif type_ == "Resumed" and "snapshot" in payload:
            self._note_snapshot(payload)
        self._tell(type_, payload)

    # --- coming back ---
    async def _watch(self, link: Link) -> None:
        """Until the link is lost for good; then another one is sought."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            await link.lost.wait()
            if await self._said_final(link):
                await self._end(link.final)
                return
            if not link.can_resume or not await link.resumed():
                break
        if link.final:
            await self._end(link.final)
            return
        if loop.time() - began < CALM_S:
            await asyncio.sleep(AGAIN_S)
        try:
            await self.climb()
        except ClientError as error:
            await self._end(str(error))
        except Exception as error:
            await self._end(f"{type(error).__name__}: {error}")  # a bug of ours: the call is over all the same
            raise

    async def _said_final(self, link: Link) -> bool:
        """Media that was ended by the server ends a moment before signaling says why."""
        if link.signaling is not None and not link.signaling.closed.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await link.signaling.closed.wait()
        return bool(link.final)

    async def _stop_watching(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _end(self, reason: str) -> None:
        if self.ended.is_set():
            return
        self.reason = reason
        self.ended.set()
        if self._link is not None:
            await self._link.close(leave=reason == "left")
        await self._close_former(leave=True)
        for task in tuple(self._ignored):
            task.cancel()
        await asyncio.gather(*self._ignored, return_exceptions=True)


async def _read_and_forget(track: MediaStreamTrack) -> None:
    with suppress(MediaStreamError):
        while True:
            await track.recv()

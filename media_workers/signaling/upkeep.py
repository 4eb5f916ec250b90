"""What is done again and again: time-outs of connections, leases, room life, ghosts, nodes, TURN credentials.

Each loop survives the absence of the store and of the directory; what it could not do it does the next time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from msgspec import UNSET

from conference.domain.errors import Unavailable
from conference.ports.presence import Present, RoomView
from conference.protocol import messages as m
from conference.tasks import Tasks
from media_workers.signaling.connection import Connection
from media_workers.signaling.leaving import Leaving
from media_workers.signaling.media import Media
from media_workers.signaling.publishing import Publisher
from media_workers.signaling.recovery import Recovery
from media_workers.signaling.rooms import Room, Rooms
from media_workers.signaling.services import Services
from media_workers.signaling.store_writes import StoreWrites

_BEAT_S: Final = 5.0
_BEAT_TTL_S: Final = 15
_NODES_S: Final = 2.0
_GHOST_MARGIN_S: Final = 10.0  # past the resume window, for the process that has the person
_SILENT_LOOKS: Final = 2  # a beat may be missing for a moment after the directory was lost
_log = logging.getLogger(__name__)


class Upkeep:
    def __init__(
        self,
        services: Services,
        connections: Iterable[Connection],
        rooms: Rooms,
        publisher: Publisher,
        media: Media,
        leaving: Leaving,
        recovery: Recovery,
        store: StoreWrites,
    ) -> None:
        self._services = services
        self._connections = connections
        self._rooms = rooms
        self._publisher = publisher
        self._media = media
        self._leaving = leaving
        self._recovery = recovery
        self._store = store
        self._silent: dict[str, int] = {}  # looks at which an owner was silent

    def start(self, tasks: Tasks) -> None:
        options = self._services.options
        loops: tuple[tuple[float, Callable[[], Awaitable[None]]], ...] = (
            (options.tick_s, self._tick),
            (options.tick_s, self._catch_up),
            (_BEAT_S, self._beat),
            (options.touch_s, self._touch),
            (options.lease_s / 3, self._leases),
            (options.sweep_s, self._sweep),
            (_NODES_S, self._nodes),
            (options.ice_push_s, self._ice_servers),
        )
        for interval, work in loops:
            tasks.spawn(self._every(interval, work))

    async def _every(self, interval_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Unavailable:
                self._publisher.suspect = True
            except Exception:  # a bug in one round must not end the upkeep of every room
                _log.exception("upkeep failed")
            await asyncio.sleep(interval_s)

    async def _tick(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in tuple(self._connections):
            if connection.session.deadline <= now:
                connection.apply(connection.session.tick(now))
        await self._leaving.expire(now)

    async def _catch_up(self) -> None:
        """What failed before: the directory first, then what waits for it, then the store."""
        await self._store.retry()
        await self._recovery.check()
        await self._leaving.retry()

    async def _beat(self) -> None:
        await self._services.presence.beat(self._services.process_id, ttl_s=_BEAT_TTL_S)

    async def _touch(self) -> None:
        await self._recovery.look_at(*self._rooms)

    async def _leases(self) -> None:
        """One statement a room."""
        now = self._services.clock.now()
        until = now + timedelta(seconds=self._services.options.lease_s)
        for room in self._rooms:
            people = [member.participant_id for member in room.members.values()]
            try:
                await self._services.meetings.renew_leases(room.id, people, now=now, until=until)
            except Unavailable:
                _log.warning("the store does not answer", extra={"room": room.id[:8]})
                return  # the next round is well before a lease ends

    async def _nodes(self) -> None:
        await self._media.nodes.refresh()
        self._media.retry()

    async def _ice_servers(self) -> None:
        """Fresh TURN credentials before the former ones expire."""
        now = self._services.clock.now()
        for member in self._rooms.members():
            servers = self._services.ice_servers.for_participant(member.participant_id, now)
            if not servers or member.connection is None:
                continue
            told = [
                m.IceServer(
                    urls=list(server.urls),
                    username=server.username or UNSET,
                    credential=server.credential.reveal() if server.credential else UNSET,
                )
                for server in servers
            ]
            member.connection.tell(m.IceServers(ice_servers=told))

    async def _sweep(self) -> None:
        """People whose process is gone, and people who have not come back to one that has forgotten them."""
        ghosts: list[tuple[Room, Present]] = []
        for room in self._rooms:
            view = await self._services.presence.view(room.id)
            people = view.participants.values() if view is not None else ()
            ghosts += [(room, present) for present in people if present.user_id not in room.members]
            if view is not None:
                await self._verify(room, view)
        silent = await self._silent_owners([present for _, present in ghosts])
        for room, present in ghosts:
            await self._ghost(room, present, self._owner(present) in silent)

    async def _verify(self, room: Room, view: RoomView) -> None:
        """Our people as the directory has them."""
        for member in tuple(room.members.values()):
            stored = view.participants.get(member.user_id)
            ours = stored is not None and stored.connection_id == member.present.connection_id
            if not ours or (member.connection is not None and stored is not None and stored.disconnected_at):
                await self._recovery.judge(member)

    def _owner(self, present: Present) -> str:
        """Who answers for a person: a process, and for those that this one does not know their connection alone."""
        return present.process_id if present.process_id != self._services.process_id else present.connection_id

    async def _silent_owners(self, people: list[Present]) -> frozenset[str]:
        own = {present.connection_id for present in people if present.process_id == self._services.process_id}
        others = {present.process_id for present in people} - {self._services.process_id}
        gone = own | (await self._services.presence.silent(others) if others else frozenset())
        self._silent = {owner: self._silent.get(owner, 0) + 1 for owner in gone}
        return frozenset(owner for owner in gone if self._silent[owner] >= _SILENT_LOOKS)

    async def _ghost(self, room: Room, present: Present, silent: bool) -> None:
        now = self._services.clock.now()
        if present.disconnected_at is None:
            if silent:  # from now on they may resume here, for the usual time
                await self._services.presence.update(room.id, replace(present, disconnected_at=now))
            return
        window = self._services.options.resume_s + _GHOST_MARGIN_S
        if (now - present.disconnected_at).total_seconds() > window:
            await self._leaving.leave_unseen(room.id, present, "timeout")

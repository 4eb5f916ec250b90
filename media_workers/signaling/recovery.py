"""The directory was lost, wiped or frozen: what this process knows is announced again, and what waited is published.

Nothing here touches a connection, except where a person has been taken over meanwhile, or where events are lost for
good in a directory that was not lost: then the clients resume and get a snapshot.
"""

import asyncio
import logging

from conference.domain.errors import Unavailable
from conference.domain.ids import UserId
from conference.protocol import messages as m
from conference.protocol.session import CloseCode
from media_workers.signaling.connection import Connection
from media_workers.signaling.leaving import Leaving
from media_workers.signaling.publishing import Publisher
from media_workers.signaling.rooms import Announcement, Member, Room, Rooms
from media_workers.signaling.services import Services
from media_workers.signaling.views import participant, tracks

_log = logging.getLogger(__name__)


class Recovery:
    def __init__(self, services: Services, rooms: Rooms, publisher: Publisher, leaving: Leaving) -> None:
        self._services = services
        self.process_id = services.process_id
        self._rooms = rooms
        self._publisher = publisher
        self._leaving = leaving

    async def check(self) -> None:
        """After a failure: is the directory back, and does it know our rooms? Raises Unavailable."""
        if not self._publisher.suspect:
            return
        await self._services.presence.ping()
        self._publisher.suspect = False
        try:
            await self._services.presence.beat(self._services.process_id, ttl_s=15)
            await self.look_at(*self._rooms)
            # All at once: a room that waits for its turn would go on without the directory meanwhile.
            done = await asyncio.gather(*(self._bring_back(room) for room in self._rooms), return_exceptions=True)
            for failure in filter(None, done):
                raise failure
        except Unavailable:
            self._publisher.suspect = True
            raise

    async def _bring_back(self, room: Room) -> None:
        await self._tell_people(room)
        await self._write_people(room)
        await self._publisher.publish_late(room)

    async def look_at(self, *rooms: Room) -> bool:
        """Renews the rooms' life; announces those that were lost. True where one was. Raises Unavailable."""
        generations = await self._services.presence.touch([room.id for room in rooms])
        lost = [room for room in rooms if generations.get(room.id) != room.generation]
        for room in lost:
            await self.recover(room)
        return bool(lost)

    async def recover(self, room: Room) -> None:
        """Announces the room under a new generation, or merges into the one that another process has made. Raises
        Unavailable."""
        async with room.lock:
            former, position = room.generation, room.replay.seq
            known = room.view()
            view = await self._services.presence.announce(known, generation=self._services.ids.new())
            for user_id, present in known.participants.items():
                if user_id not in room.members:  # left while the announcement was under way
                    self._leaving.undo_later(room.id, present, "left")
            if view.generation == former:
                return
            _log.warning("room announced again", extra={"room": room.id[:8], "people": len(room.members)})
            room.generation = view.generation
            room.epoch, room.topology = view.epoch, view.topology
            room.node_id, room.region = view.sfu_node, view.sfu_region
            # Events of the new generation number from above; the listener reads them from its beginning.
            self._rooms.follow(room, position)
            for member in tuple(room.members.values()):
                stored = view.participants.get(member.user_id)
                ours = (member.present.connection_id, member.stored_as)
                if stored is not None and stored.connection_id not in ours:
                    self._leaving.taken_over(member)
            room.untold = True
        await self._tell_people(room)

    async def _tell_people(self, room: Room) -> None:
        """Whoever joins between two processes' announcements has half a snapshot; this is the other half."""
        if room.untold:
            people = [participant(member.present) for member in room.members.values()]
            shown = [track for member in room.members.values() for track in tracks(member.present)]
            await self._publisher.order(room, "room.announced", {"people": people, "tracks": shown})
            room.untold = False

    async def _write_people(self, room: Room) -> None:
        """What changed while the directory was away."""
        for member in tuple(room.members.values()):
            await self._publisher.change(member, None, lambda present: present)
            if member.unwritten:
                await self.judge(member)

    async def judge(self, member: Member) -> None:
        """A person of this process whom the directory does not have as ours: taken over, or given up by the others
        while this process was frozen or cut off. Raises Unavailable."""
        room = member.room
        view = await self._services.presence.view(room.id)
        if view is None or view.generation != room.generation or not member.here:
            return  # lost again: announced in the next round
        stored = view.participants.get(member.user_id)
        if stored is None:
            _log.warning("a seat was given up by others", extra={"room": room.id[:8]})
            self._leaving.given_up(member)
        elif stored.connection_id not in (member.present.connection_id, member.stored_as):
            self._leaving.taken_over(member)
        elif stored.disconnected_at is not None and member.connection is not None:
            await self._publisher.change(member, None, lambda present: present)

    async def gap(self, room: Room, generation: str) -> None:
        """The listener lost events of that generation for good."""
        if room.generation != generation:
            return  # announced again meanwhile
        try:
            await self.recover(room)
        except Unavailable:
            self._publisher.suspect = True
            return
        if room.generation == generation:
            view = await self._services.presence.view(room.id)
            if view is None:
                return
            room.replay.reset(view.seq)
            self._rooms.follow(room, view.seq)
            for member in tuple(room.members.values()):
                if member.connection is not None:
                    member.connection.end(CloseCode.RESUME, "events-lost")

    def announced(self, room: Room, generation: str, news: Announcement) -> None:
        """Another process brought its people back: whoever joined since the loss may not know them."""
        room.announcements.append(news)
        for member in tuple(room.members.values()):
            if member.connection is not None and member.entered[0] == generation:
                introduce(member.connection, member.user_id, news)


def introduce(connection: Connection, user_id: UserId, news: Announcement) -> None:
    """Tells a connection of people and tracks that its snapshot lacked; what it knows already stays as it is."""
    for person in news.people:
        if person.user_id != user_id:
            connection.tell(person)
    for track in news.tracks:
        if track.user_id != user_id:
            connection.tell(m.TrackPublished(track=track))

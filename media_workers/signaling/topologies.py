"""Mesh or SFU, for the rooms of this process: feeds each room's machine and does what it asks for.

The directory's script decides a switch; every process that has people of the room learns of it from the room's stream
and opens, or gives up, the media sessions of its own people. See `conference/protocol/topology.py` for the rules.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from dataclasses import replace
from typing import Final

import msgspec

from conference.domain.errors import Unavailable
from conference.domain.ids import MeetingId, UserId
from conference.domain.meetings import TopologyMode
from conference.ports.presence import Present, RoomEvent, RoomView
from conference.protocol import messages as m
from conference.protocol.envelope import encode_payload
from conference.protocol.topology import (
    Complete,
    Output,
    Person,
    Reason,
    Remind,
    Seen,
    Switch,
    Topology,
    TopologyMachine,
    first_topology,
    reason_for_sfu,
)
from conference.tasks import Tasks
from media_workers.signaling.media import Media
from media_workers.signaling.publishing import Publisher
from media_workers.signaling.rooms import Member, Room, Rooms
from media_workers.signaling.services import Services

_SOON_S: Final = 0.05  # events of one moment are looked at together
_RETRY_S: Final = 1.0
_MODES: Final = 10_000
_CHANGES: Final = frozenset(
    {"ParticipantJoined", "ParticipantLeft", "PeerReady", "RecordingStarted", "RecordingStopped", "room.triggers"}
)
_decode_switch: Final = msgspec.json.Decoder(m.SwitchTopology).decode
_log = logging.getLogger(__name__)


class Topologies:
    def __init__(self, services: Services, rooms: Rooms, publisher: Publisher, media: Media, tasks: Tasks) -> None:
        self._services = services
        self._rooms = rooms
        self._publisher = publisher
        self._media = media
        self._tasks = tasks
        self._rules = services.options.topology
        self._modes: OrderedDict[MeetingId, TopologyMode] = OrderedDict()
        self._due: dict[Room, asyncio.TimerHandle] = {}
        self._looking: set[Room] = set()

    # --- joining ---
    async def first(self, room_id: MeetingId, *, can_mesh: bool) -> Topology:
        """What the room begins with, if this person makes it."""
        if not can_mesh or self._rules.limit == 0:
            return "sfu"
        return first_topology(await self._mode(room_id), can_mesh, self._rules)

    async def settle(self, view: RoomView) -> RoomView:
        """The room just after somebody entered: one that is no mesh any more is switched before they are welcomed, so
        that the sixth person does not begin with five links that nobody needs."""
        if view.topology != "mesh":
            return view
        reason = reason_for_sfu(_seen(view), await self._mode(view.room_id), self._rules)
        if reason is None:
            return view
        try:
            switched = await self._switch(view.room_id, Switch("sfu", view.epoch, reason), view.generation)
        except Unavailable:
            return view  # the machine asks again
        return replace(view, topology="sfu", epoch=view.epoch + 1) if switched else view

    async def _mode(self, room_id: MeetingId) -> TopologyMode:
        """The meeting's setting; the SFU works for everybody where the store is away."""
        known = self._modes.get(room_id)
        if known is not None:
            return known
        try:
            meeting = await self._services.meetings.get(room_id)
        except Unavailable:
            return TopologyMode.SFU
        mode = meeting.settings.topology if meeting is not None else TopologyMode.SFU
        self._modes[room_id] = mode
        while len(self._modes) > _MODES:
            self._modes.popitem(last=False)
        return mode

    # --- what is heard ---
    def heard(self, room: Room, event: RoomEvent) -> None:
        """An event of the room, after the connections here were told."""
        if event.type == "SwitchTopology":
            with contextlib.suppress(msgspec.MsgspecError):
                self._switched(room, _decode_switch(event.payload))
        elif event.type in _CHANGES and self._concerns(room, event.type):
            self.look_soon(room)

    def _concerns(self, room: Room, type_: str) -> bool:
        """A large room on the SFU need not be read for each of its newcomers."""
        return room.topology == "mesh" or type_ != "ParticipantJoined"

    def _switched(self, room: Room, news: m.SwitchTopology) -> None:
        if news.epoch < room.epoch or news.epoch <= room.told_epoch:
            return
        room.epoch, room.topology, room.told_epoch = news.epoch, news.to, news.epoch
        room.last_switch = news
        if room.machine is not None:
            room.machine.switched(news.epoch, news.reason)
        for member in tuple(room.members.values()):
            connection = member.connection
            if connection is not None and connection.session.identity is not None:
                connection.session.identity = replace(connection.session.identity, epoch=news.epoch)
            if news.to == "sfu" and not member.media.endpoints:
                self._media.open(member)
        self.look_soon(room)

    # --- what clients report ---
    async def ready(self, member: Member, said: m.TopologyReady) -> None:
        """Written with the person, so that every process knows, also one that starts later."""
        if said.epoch != member.room.epoch:
            return  # of a topology that is over; what counts is said again for the new one
        peers = tuple(sorted(set(said.peers)))

        def edit(present: Present) -> Present | None:
            if (present.ready_epoch, present.ready_peers) == (said.epoch, peers):
                return None
            return replace(present, ready_epoch=said.epoch, ready_peers=peers)

        news = m.PeerReady(user_id=member.user_id, epoch=said.epoch, peers=list(peers))
        await self._publisher.change(member, news, edit)

    def links(self, member: Member, report: m.LinkReport) -> None:
        machine = member.room.machine
        if machine is None or member.room.topology != "mesh":
            return
        now = asyncio.get_running_loop().time()
        machine.link_report(member.user_id, {UserId(peer.user_id): peer.loss for peer in report.peers}, now)
        self._plan(member.room)

    # --- the machines ---
    def look_soon(self, room: Room, after_s: float = _SOON_S) -> None:
        """Reads the room from the directory and asks its machine, in a moment; earlier where it was to be later."""
        loop = asyncio.get_running_loop()
        due = self._due.get(room)
        if due is not None:
            if due.when() <= loop.time() + after_s:
                return
            due.cancel()
        self._due[room] = loop.call_later(after_s, self._start, room)

    def _start(self, room: Room) -> None:
        self._due.pop(room, None)
        if self._rooms.get(room.id) is room:
            self._tasks.spawn(self._look(room))

    async def _look(self, room: Room) -> None:
        if room in self._looking:
            self.look_soon(room)
            return
        self._looking.add(room)
        try:
            if room.machine is None:
                room.machine = TopologyMachine(self._rules, await self._mode(room.id))
                if room.last_switch is not None:
                    room.machine.switched(room.last_switch.epoch, room.last_switch.reason)
            view = await self._services.presence.view(room.id)
            if view is None or view.generation != room.generation:
                return  # lost: it is announced again, and looked at with the next event
            room.triggers = view.triggers
            now = asyncio.get_running_loop().time()
            room.machine.observe(_seen(view), now)
            for output in room.machine.poll(now):
                await self._do(room, output)
        except Unavailable:
            self._publisher.suspect = True
            self.look_soon(room, _RETRY_S)
        finally:
            self._looking.discard(room)
        self._plan(room)

    def _plan(self, room: Room) -> None:
        next_at = room.machine.next_at if room.machine is not None else None
        if next_at is not None and self._rooms.get(room.id) is room:
            self.look_soon(room, max(_SOON_S, next_at - asyncio.get_running_loop().time()))

    async def _do(self, room: Room, output: Output) -> None:
        if isinstance(output, Switch):
            await self._switch(room.id, output, room.generation)
        elif isinstance(output, Remind):
            self._remind(room, output)
        elif output.topology == "mesh":
            await self._release(room, output)

    async def _switch(self, room_id: MeetingId, switch: Switch, generation: str) -> bool:
        """Through the directory's script; False where another process was faster."""
        news = self._news(switch.to, switch.epoch + 1, switch.reason)
        event = (type(news).__name__, encode_payload(news).decode())
        told = await self._services.presence.switch(
            room_id, epoch=switch.epoch, to=switch.to, event=event, generation=generation
        )
        if told is None:
            return False
        self._services.metrics.switches.labels(switch.to, switch.reason).inc()
        _log.info("topology", extra={"room": room_id[:8], "to": switch.to, "reason": switch.reason})
        return True

    def _news(self, to: Topology, epoch: int, reason: Reason) -> m.SwitchTopology:
        return m.SwitchTopology(to=to, epoch=epoch, deadline_ms=int(self._rules.deadline_s * 1000), reason=reason)

    def _remind(self, room: Room, reminder: Remind) -> None:
        """Those here that have not come to the SFU are told again, and given a session where they have none."""
        news = room.last_switch
        if news is None:
            return  # nobody is late for a switch that was not heard of
        for user_id in reminder.people:
            member = room.members.get(user_id)
            if member is None or member.connection is None:
                continue
            member.connection.tell(news)
            if not member.media.endpoints:
                self._media.open(member)

    async def _release(self, room: Room, complete: Complete) -> None:
        """Everybody talks peer to peer: the sessions of our people on the SFU end."""
        for member in tuple(room.members.values()):
            if complete.epoch == room.epoch and member.media.endpoints:
                await self._publisher.change(member, None, lambda present: replace(present, tracks=()))
                self._media.close(member)


def _seen(view: RoomView) -> Seen:
    """Who is here now: a person whose connection is gone is waited for, but nobody waits to be ready with them."""
    people = {
        user_id: Person(present.can_mesh, present.ready_epoch, frozenset(UserId(peer) for peer in present.ready_peers))
        for user_id, present in view.participants.items()
        if present.disconnected_at is None
    }
    triggers = view.triggers | {"recording"} if view.is_recording else view.triggers
    topology: Topology = "mesh" if view.topology == "mesh" else "sfu"
    return Seen(topology, view.epoch, people, frozenset(triggers))

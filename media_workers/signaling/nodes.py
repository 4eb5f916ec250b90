"""Which SFU node a room is on: the least loaded one of its region for a new room, then the same one while it lives."""

from collections.abc import Sequence

from conference.domain.errors import Unavailable
from conference.domain.ids import NodeId
from conference.ports.presence import MediaNode
from media_workers.signaling.rooms import Room
from media_workers.signaling.services import Services


def choose(nodes: Sequence[MediaNode], region: str, *, without: NodeId | None = None) -> MediaNode | None:
    """The least loaded node that takes rooms, in the region if it has one."""
    usable = [node for node in nodes if not node.draining and node.node_id != without]
    near = [node for node in usable if node.region == region]
    return min(near or usable, key=lambda node: (node.load, node.rooms, node.node_id), default=None)


class NodeDirectory:
    """The nodes as they announced themselves last; the list survives the directory's absence."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._nodes: dict[NodeId, MediaNode] = {}

    def get(self, node_id: NodeId | None) -> MediaNode | None:
        return self._nodes.get(node_id) if node_id is not None else None

    async def refresh(self) -> None:
        """Raises Unavailable; the former list stays then."""
        self._nodes = {node.node_id: node for node in await self._services.nodes.nodes()}

    async def node_of(self, room: Room, *, instead_of: NodeId | None = None) -> NodeId | None:
        """The room's node, assigned where it has none (or only `instead_of`); None where no node is there."""
        if room.node_id is not None and room.node_id != instead_of and room.node_id in self._nodes:
            return room.node_id
        former = instead_of or room.node_id
        node = choose(tuple(self._nodes.values()), room.region or self._services.options.region, without=former)
        if node is None:
            # The only node may have been silent for a moment: it stays the room's, unless it is known to be gone.
            return room.node_id if room.node_id != instead_of else None
        try:
            room.node_id = await self._services.presence.assign_node(room.id, node, instead_of=former)
        except Unavailable:
            room.node_id = node.node_id  # announced with the room later
        room.region = node.region if room.node_id == node.node_id else room.region
        if room.node_id not in self._nodes:
            await self.refresh()
        return room.node_id

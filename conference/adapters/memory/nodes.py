"""Media nodes in this process."""

from collections.abc import Callable, Sequence

from conference.domain.ids import NodeId
from conference.ports.presence import MediaNode


class MemoryMediaNodes:
    """Implements the port `MediaNodes`. `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._nodes: dict[NodeId, tuple[MediaNode, float]] = {}

    async def announce(self, node: MediaNode, *, ttl_s: int = 15) -> None:
        self._nodes[node.node_id] = (node, self._clock() + ttl_s)

    async def nodes(self) -> Sequence[MediaNode]:
        now = self._clock()
        self._nodes = {key: entry for key, entry in self._nodes.items() if entry[1] > now}
        return [node for _, (node, _) in sorted(self._nodes.items())]

    async def withdraw(self, node_id: NodeId) -> None:
        self._nodes.pop(node_id, None)

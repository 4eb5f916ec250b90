"""The choice of a media node."""

import pytest

from conference.domain.ids import NodeId
from conference.ports.presence import MediaNode
from media_workers.signaling.nodes import choose

pytestmark = pytest.mark.unit


def node(name: str, *, region: str = "eu", load: float = 0.0, rooms: int = 0, draining: bool = False) -> MediaNode:
    return MediaNode(NodeId(name), region, f"ws://{name}", load, rooms, draining)


def chosen(nodes: list[MediaNode], without: str | None = None) -> str | None:
    found = choose(nodes, "eu", without=NodeId(without) if without else None)
    return found.node_id if found else None


def test_the_least_loaded_node_of_the_region_takes_a_new_room() -> None:
    assert chosen([node("a", load=0.5), node("b", load=0.2), node("c", region="us")]) == "b"
    assert chosen([node("a", rooms=2), node("b", rooms=1)]) == "b"


def test_another_region_is_better_than_none() -> None:
    assert chosen([node("c", region="us")]) == "c"
    assert chosen([]) is None


def test_a_draining_or_dead_node_takes_nothing() -> None:
    nodes = [node("a", draining=True), node("b", load=0.9)]
    assert chosen(nodes) == "b"
    assert chosen(nodes, without="b") is None

"""What holds in every room once a fault is over: the directory, the processes and the clients agree on who is there."""

from conference.domain.errors import Unavailable
from tests.support.signaling import World
from tests.support.waiting import eventually


async def settles(world: World, people: set[str], *, within_s: float = 10.0) -> None:
    """participantCount = size of the participants hash = people with an open connection, each on one process, under
    the connection id that the directory has. Raises TimeoutError."""

    async def holds() -> bool:
        try:
            view = await world.presence.view(world.room)
        except Unavailable:
            return False
        if view is None or set(view.participants) != people:
            return False
        redis = world.redis.redis
        count = await redis.hget(f"room:{{{world.room}}}", "participantCount")
        return int(count or -1) == len(people) and seats(world) == {
            user: present.connection_id for user, present in view.participants.items()
        }

    await eventually(holds, within_s=within_s)


def seats(world: World) -> dict[str, str]:
    """Who has an open connection, by connection id; somebody with two of them is in nobody's list."""
    found: dict[str, str] = {}
    for process in world.processes:
        room = process.worker.rooms.get(world.room)
        for user_id, member in room.members.items() if room is not None else ():
            if member.connection is not None:
                found[user_id] = "twice" if user_id in found else member.present.connection_id
    return found

"""Who spoke last: the order in which the engine prefers cameras where not all videos can be sent."""

from typing import Final

from conference.ports.forwarding import RankTrack
from media_workers.sfu.core import Core
from media_workers.sfu.sessions import PublishedTrack, Publisher, Room

MAX_RANKED: Final = 64  # people whose last words are remembered


class Ranking:
    """Keeps the engine's ranks in step with a room's speakers."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def spoke(self, room: Room, speakers: list[str]) -> None:
        """`speakers` are the participant ids of those who speak now, loudest first."""
        former = room.spoken
        order = [*speakers, *(one for one in former if one not in speakers)][:MAX_RANKED]
        ranks = {one: place for place, one in enumerate(former)}
        room.spoken = order
        for publisher in room.publishers():
            if publisher.participant_id in order:
                place = order.index(publisher.participant_id)
                if ranks.get(publisher.participant_id) != place:
                    self._rank(publisher, place)

    def track_added(self, publisher: Publisher, track: PublishedTrack) -> None:
        """A camera that comes after its owner's words."""
        if track.info.source == "camera" and publisher.participant_id in publisher.room.spoken:
            place = publisher.room.spoken.index(publisher.participant_id)
            self._core.command(RankTrack(track.key, place))

    def forget(self, room: Room, participant_id: str) -> None:
        """They left; the order of the others stays."""
        if participant_id in room.spoken:
            room.spoken.remove(participant_id)

    def _rank(self, publisher: Publisher, place: int) -> None:
        for track in publisher.tracks.values():
            if track.info.source == "camera":
                self._core.command(RankTrack(track.key, place))

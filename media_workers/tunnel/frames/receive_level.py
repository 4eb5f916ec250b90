"""SetReceive of a browser, merged with what the queue towards it allows: half the size, or no picture at all."""

from collections.abc import Iterable
from typing import Any, Final

from conference.protocol.tunnel.queue import Level

CODECS: Final = ("opus", "VP8", "H264")
LOW_WIDTH: Final = 320  # a tile whose size is not known


def limited(payload: dict[str, Any], level: Level, videos: Iterable[str]) -> dict[str, Any]:
    """`videos` are tracks that the browser may not have named: they are limited as well, or given back by `all`."""
    named = [track for track in payload.get("tracks", []) if isinstance(track, dict)]
    known = {track.get("trackId") for track in named}
    named = named + [{"trackId": track_id} for track_id in videos if track_id not in known]
    return {**payload, "tracks": named if level == "all" else [_lower(track, level) for track in named]}


def _lower(track: dict[str, Any], level: Level) -> dict[str, Any]:
    if level == "audio":
        return {**track, "visible": False}
    width, height = track.get("width") or 2 * LOW_WIDTH, track.get("height") or LOW_WIDTH
    if not isinstance(width, int) or not isinstance(height, int):
        return track  # signaling refuses it
    return {**track, "width": max(1, width // 2), "height": max(1, height // 2)}

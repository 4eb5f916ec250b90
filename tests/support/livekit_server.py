"""A small LiveKit server: its room service as the SDK calls it (Twirp with protobuf), and who could connect.

Every call's token is checked: signature, issuer, times, and the grant that the method needs. `connect` is what a client
does with its access token.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from aiohttp import web
from livekit import api

from local.acs.faults import Faults, Handler

KEY: Final = "APIparley"
SECRET: Final = "a-secret-of-livekit-that-is-long-enough"
_PATH: Final = "/twirp/livekit.RoomService/"


class Refusal(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


@dataclass
class LiveKitRoom:
    max_participants: int
    connected: dict[str, dict[str, bool]] = field(default_factory=dict)  # identity -> permissions
    revoked: dict[str, int] = field(default_factory=dict)  # identity -> tokens of before are void


class LiveKitServer:
    """The room service, and the door."""

    def __init__(self) -> None:
        self.rooms: dict[str, LiveKitRoom] = {}
        self.faults = Faults()
        self.requests: list[str] = []
        self._methods: dict[str, tuple[type, str, Callable[[Any], Any]]] = {
            "CreateRoom": (api.CreateRoomRequest, "roomCreate", self._create),
            "DeleteRoom": (api.DeleteRoomRequest, "roomCreate", self._delete),
            "RemoveParticipant": (api.RoomParticipantIdentity, "roomAdmin", self._remove),
            "UpdateParticipant": (api.UpdateParticipantRequest, "roomAdmin", self._update),
        }

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_post(_PATH + "{method}", self._call)
        return app

    def connect(self, token: str) -> dict[str, bool] | None:
        """What the holder of the token may do in its room; None where they are not let in."""
        try:
            claims = jwt.decode(token, SECRET, algorithms=["HS256"], issuer=KEY, leeway=1)
        except jwt.InvalidTokenError:
            return None
        video, identity = claims["video"], claims["sub"]
        room = self.rooms.get(video["room"])
        if room is None or not video.get("roomJoin") or claims["nbf"] < room.revoked.get(identity, 0):
            return None
        if identity not in room.connected:
            names = ("canPublish", "canSubscribe", "canPublishData")
            room.connected[identity] = {name: video.get(name, True) for name in names}
        return room.connected[identity]

    # --- methods ---

    def _create(self, request: Any) -> Any:
        self.rooms.setdefault(request.name, LiveKitRoom(request.max_participants))
        return api.Room(sid=f"RM_{request.name[:8]}", name=request.name, max_participants=request.max_participants)

    def _delete(self, request: Any) -> Any:
        if self.rooms.pop(request.room, None) is None:
            raise Refusal(404, "not_found")
        return api.DeleteRoomResponse()

    def _remove(self, request: Any) -> Any:
        room = self._of(request)
        room.revoked[request.identity] = request.revoke_token_ts
        if room.connected.pop(request.identity, None) is None:
            raise Refusal(404, "not_found")
        return api.RemoveParticipantResponse()

    def _update(self, request: Any) -> Any:
        connected = self._of(request).connected.get(request.identity)
        if connected is None:
            raise Refusal(404, "not_found")
        permission = request.permission
        connected |= {"canPublish": permission.can_publish, "canSubscribe": permission.can_subscribe}
        connected["canPublishData"] = permission.can_publish_data
        return api.ParticipantInfo(identity=request.identity)

    def _of(self, request: Any) -> LiveKitRoom:
        room = self.rooms.get(request.room)
        if room is None:
            raise Refusal(404, "not_found")
        return room

    # --- the wire ---

    async def _call(self, request: web.Request) -> web.Response:
        kind, grant, method = self._methods[request.match_info["method"]]
        if request.content_type != "application/protobuf":
            raise Refusal(400, "malformed")
        message = kind.FromString(await request.read())  # type: ignore[attr-defined]
        self._authorize(request, grant, getattr(message, "room", ""))
        return web.Response(body=method(message).SerializeToString(), content_type="application/protobuf")

    def _authorize(self, request: web.Request, grant: str, room: str) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            claims = jwt.decode(token, SECRET, algorithms=["HS256"], issuer=KEY, options={"require": ["exp"]})
        except jwt.InvalidTokenError:
            raise Refusal(401, "unauthenticated") from None
        video = claims.get("video", {})
        if scheme != "Bearer" or not video.get(grant):
            raise Refusal(403, "permission_denied")
        if grant == "roomAdmin" and video.get("room") != room:
            raise Refusal(403, "permission_denied")

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append(request.path.removeprefix(_PATH))
        try:
            return await self.faults.meet(request, handler, lambda status: _error(status, "unavailable"))
        except Refusal as refusal:
            return _error(refusal.status, refusal.code)


def _error(status: int, code: str) -> web.Response:
    return web.json_response({"code": code, "msg": code}, status=status)

"""Why a wire or a session ends: one slug, with its WebSocket close code, HTTP status and sentence."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class End:
    code: str
    close: int
    status: int
    text: str


class Ended(Exception):
    """What was asked is answered by the end of what it is about."""

    def __init__(self, end: End) -> None:
        super().__init__(end.text)
        self.end = end


BAD_FRAME: Final = End("bad-frame", 1007, 400, "What was sent is no frame of this session.")
BAD_CONTROL: Final = End("bad-control", 1007, 400, "What was sent is no control message.")
INVALID: Final = End("invalid-body", 1007, 400, "The request cannot be read.")
WRONG_SECRET: Final = End("wrong-secret", 4401, 401, "The resume secret is another one.")
FORBIDDEN: Final = End("forbidden", 4403, 403, "This origin is not allowed.")
TOKEN_REFUSED: Final = End(
    "token-refused", 4401, 401, "The tunnel token is not valid here, has expired or was used. Ask for another one."
)
OTHER_PARTICIPANT: Final = End("other-participant", 4403, 403, "The token is another participant's, or another room's.")
REMOVED: Final = End("removed", 4403, 403, "The host has removed you from this meeting.")
NO_SESSION: Final = End("no-such-session", 4404, 404, "There is no such session, or not any more.")
NOT_JOINED: Final = End("not-joined", 4408, 408, "Nobody has joined on this session in time.")
IDLE: Final = End("idle", 4408, 408, "Nothing was heard of the client for too long.")
NO_MEDIA: Final = End("no-media", 4408, 408, "No media node has answered this session for too long.")
REPLACED: Final = End("replaced", 4409, 409, "Another wire carries the session now.")
SUCCEEDED: Final = End("superseded", 4409, 409, "Another session of this participant has taken over.")
ENDED: Final = End("ended", 4410, 410, "The session has ended.")
TOO_LARGE: Final = End("too-large", 4413, 413, "The request is larger than a batch may be.")
JOIN_INSTEAD: Final = End("not-available", 4422, 422, "A token goes with datagrams only. For frames, join on stream 0.")
TOO_MANY: Final = End("too-many", 4429, 429, "There are too many sessions, of this address or in all.")
TOO_FAR_BEHIND: Final = End("too-far-behind", 1013, 503, "The other side does not keep up.")
SIGNALING_AWAY: Final = End("unavailable", 1013, 503, "Signaling does not answer at the moment. Try again.")
TOKENS_UNCHECKED: Final = End("unavailable", 1013, 503, "Tokens cannot be checked at the moment. Try again.")
DRAINING: Final = End("draining", 1001, 503, "This server is draining. Try again.")
_OF_PROTOCOL: Final = {end.code: end for end in (BAD_FRAME, BAD_CONTROL, TOO_FAR_BEHIND)}


def of_protocol(code: str) -> End:
    """The end for a ProtocolError."""
    return _OF_PROTOCOL.get(code, BAD_FRAME)

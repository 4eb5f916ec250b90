"""What can go wrong in the client, each with a sentence that says what to do about it.

`JoinRefused` and `Unreachable` are final for a call; a `WayFailed` is of one rung, and the ladder goes on; `NoWay`
lists all of them. Nothing else is raised on purpose.
"""

from collections.abc import Sequence


class ClientError(Exception):
    """Base of the documented errors."""


class JoinRefused(ClientError):
    """Policy said no. `code` is the slug of the problem document (docs/api.md), `status` the HTTP status or 0."""

    def __init__(self, code: str, detail: str, status: int = 0) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.status = status


class Unreachable(ClientError):
    """The API does not answer, or not in a way that can be read: no rung of the ladder can help."""


class WayFailed(ClientError):
    """One way into the call does not work. The text says why."""


class NotOffered(WayFailed):
    """The server has no such way, for example no TURN over TLS."""


class NoWay(ClientError):
    """No rung led into the call. `failures` are (way, reason), in the order in which they were tried."""

    def __init__(self, failures: Sequence[tuple[str, str]]) -> None:
        self.failures = tuple(failures)
        told = "; ".join(f"{way}: {reason}" for way, reason in failures)
        super().__init__(f"no way into the call: {told or 'no way was to be tried'}")


class SignalingEnded(ClientError):
    """The signaling connection has ended. `code` is its WebSocket close code (docs/signaling-protocol.md)."""

    def __init__(self, code: int | None, waited_for: str = "") -> None:
        super().__init__(f"signaling ended with {code}" + (f" before {waited_for}" if waited_for else ""))
        self.code = code

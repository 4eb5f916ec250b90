"""One WebSocket: the session machine of `conference.protocol.session` on aiohttp's transport.

Frames are written straight to the transport, which is the outbound queue: its unsent bytes are bounded, and whoever
reads too slowly is closed with 1013 and resumes. There is no task and no queue object per connection besides the
handler that reads.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry.trace import Span

from conference.protocol.dialect import Dialect, wire_name
from conference.protocol.envelope import Message, encode
from conference.protocol.frames import PING, Outgoing, close_frame, text_frame
from conference.protocol.messages import Payload
from conference.protocol.session import Close, CloseCode, Effect, Output, Ping, Send, Session
from media_workers.signaling.metrics import Metrics

_CLOSE_GRACE_S: Final = 2.0  # for the peer's half of the closing handshake
_log = logging.getLogger(__name__)


class Connection:
    __slots__ = (
        "_buffer_bytes",
        "_metrics",
        "_transport",
        "closing",
        "drop_outgoing",
        "greeted",
        "id",
        "session",
        "span",
    )

    def __init__(
        self,
        id_: str,
        session: Session,
        transport: asyncio.Transport,
        metrics: Metrics,
        *,
        buffer_bytes: int,
        span: Span,
        greeted: Callable[[], None] = lambda: None,
    ) -> None:
        self.id = id_
        self.session = session
        self.span = span
        self.greeted = greeted  # to be called once it has joined: it is a stranger no more
        self.closing = False
        self.drop_outgoing = False  # a debug hook
        self._transport = transport
        self._metrics = metrics
        self._buffer_bytes = buffer_bytes

    def apply(self, outputs: Iterable[Output]) -> list[Effect]:
        """Sends, pings and closes; gives the effects that remain to be done."""
        effects: list[Effect] = []
        for output in outputs:
            if isinstance(output, Send):
                self.send(output.message)
            elif isinstance(output, Close):
                self._close(output)
            elif isinstance(output, Ping):
                self._write(PING)
            else:
                effects.append(output)
        return effects

    def send(self, message: Message) -> None:
        """A message for this connection alone."""
        dialect = self.session.dialect or Dialect.CANONICAL
        text = encode(message._replace(type=wire_name(dialect, message.type)))
        self._metrics.messages.labels("out", message.type).inc()
        self._write(text_frame(text.encode()))

    def tell(self, payload: Payload) -> None:
        """A message without envelope members."""
        self.send(Message(type(payload).__name__, payload))

    def relay(self, outgoing: Outgoing) -> None:
        """A message that others get too."""
        self._write(outgoing.frame(self.session.dialect or Dialect.CANONICAL))

    def pong(self, data: bytes) -> None:
        """Answers a ping of the client (RFC 6455 5.5.3)."""
        self._write(bytes((0x8A, len(data))) + data)

    def end(self, code: CloseCode, reason: str) -> None:
        """Closes from this side."""
        self.apply(self.session.end(code, reason))

    def abort(self) -> None:
        """Cuts the socket as a broken network does."""
        self._transport.abort()

    def finish(self) -> None:
        """After the last frame was read: where our close frame is out, ends the socket before aiohttp sends another.

        Two close frames break RFC 6455 5.5.1, and browsers then report 1006 in place of our code."""
        if self.closing and not self._transport.is_closing():
            self._transport.close()

    def _write(self, frame: bytes) -> None:
        transport = self._transport
        if self.closing or self.drop_outgoing or transport.is_closing():
            return
        transport.write(frame)
        if transport.get_write_buffer_size() > self._buffer_bytes:
            self._metrics.dropped.labels("connection").inc()
            self.end(CloseCode.TOO_SLOW, "too-slow")

    def _close(self, close: Close) -> None:
        self._metrics.closes.labels(str(int(close.code))).inc()
        _log.info("closing", extra={"connection": self.id[:8], "code": int(close.code), "reason": close.reason})
        if self.closing:
            return
        self.closing = True
        transport = self._transport
        if transport.is_closing():
            return
        if close.code is CloseCode.TOO_SLOW:
            transport.abort()  # what it has not read is freed at once
            return
        transport.write(close_frame(int(close.code), close.reason))
        asyncio.get_running_loop().call_later(_CLOSE_GRACE_S, _abort, transport)


def _abort(transport: asyncio.Transport) -> None:
    if not transport.is_closing():
        transport.abort()

"""SRTP of one transport, for those who are a WebRTC client themselves."""

from typing import Protocol

from conference.ports.forwarding import SrtpProfile


class SrtpTransform(Protocol):
    """Both directions. What cannot be sealed or opened is None, never an exception."""

    def open_rtp(self, data: bytes) -> bytes | None: ...

    def open_rtcp(self, data: bytes) -> bytes | None: ...

    def seal_rtp(self, data: bytes) -> bytes | None: ...

    def seal_rtcp(self, data: bytes) -> bytes | None: ...


class SrtpTransforms(Protocol):
    """Makes a transform of a profile, the receive key and the send key, each with its salt."""

    def __call__(self, profile: SrtpProfile, receive_key: bytes, send_key: bytes) -> SrtpTransform: ...

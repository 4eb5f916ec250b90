"""SRTP and SRTCP of one transport over libsrtp, GCM and AES-CM profiles (RFC 3711, RFC 7714).

`allow_repeat_tx` stays off: libsrtp itself refuses to seal an (ssrc, index) twice. What cannot be sealed or opened is
None, never an exception: the caller counts it and goes on.
"""

from typing import Final

import pylibsrtp
from pylibsrtp import Policy, Session

from conference.ports.forwarding import SrtpProfile

MAX_SEAL_BYTES: Final = 1_356  # pylibsrtp's buffer of 1,500 less the longest trailer
MAX_OPEN_BYTES: Final = 1_500
WINDOW: Final = 1_024
_PROFILES: Final = {
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    "AES128_CM_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
}


def _session(profile: SrtpProfile, key: bytes, direction: int) -> Session:
    policy = Policy(key=key, ssrc_type=direction, srtp_profile=_PROFILES[profile])
    policy.window_size = WINDOW
    return Session(policy)


class SrtpContext:
    """Both directions of a transport."""

    def __init__(self, profile: SrtpProfile, receive_key: bytes, send_key: bytes) -> None:
        self._in = _session(profile, receive_key, Policy.SSRC_ANY_INBOUND)
        self._out = _session(profile, send_key, Policy.SSRC_ANY_OUTBOUND)

    def open_rtp(self, data: bytes) -> bytes | None:
        try:
            return self._in.unprotect(data)
        except (pylibsrtp.Error, ValueError):
            return None

    def open_rtcp(self, data: bytes) -> bytes | None:
        try:
            return self._in.unprotect_rtcp(data)
        except (pylibsrtp.Error, ValueError):
            return None

    def seal_rtp(self, data: bytes) -> bytes | None:
        try:
            return self._out.protect(data)
        except (pylibsrtp.Error, ValueError):
            return None

    def seal_rtcp(self, data: bytes) -> bytes | None:
        try:
            return self._out.protect_rtcp(data)
        except (pylibsrtp.Error, ValueError):
            return None

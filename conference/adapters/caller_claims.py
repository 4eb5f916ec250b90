"""What every verifier of callers' tokens checks of the claims, once the signature holds: audience, times, texts."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from conference.adapters import jws

MAX_TEXT: Final = 256
_MAX_TIME: Final = 253_402_300_799  # the last second of the year 9999


def check_audience(claims: Mapping[str, object], audiences: frozenset[str]) -> None:
    """One of `aud` (a text or a list of them) has to be ours. Raises Refused("token-refused")."""
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else (audience,)
    if not any(isinstance(name, str) and name in audiences for name in named):
        jws.refuse("aud")


def check_times(claims: Mapping[str, object], now_s: float, skew: timedelta) -> None:
    """`exp` has to be there; `nbf` counts where it is. Raises Refused("token-refused")."""
    skew_s = skew.total_seconds()
    if time_of(claims, "exp") + skew_s <= now_s:
        jws.refuse("expired")
    if "nbf" in claims and time_of(claims, "nbf") - skew_s > now_s:
        jws.refuse("nbf")


def text_of(claims: Mapping[str, object], name: str) -> str:
    """The claim's text; empty where it is absent. Raises Refused("token-refused")."""
    value = claims.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:  # which PostgreSQL cannot keep
        jws.refuse("claims")
    return value


def texts_of(claims: Mapping[str, object], name: str) -> frozenset[str]:
    """The texts of a list; empty where it is absent. Raises Refused("token-refused") for anything but a list."""
    value = claims.get(name, [])
    if not isinstance(value, list):
        jws.refuse("claims")
    return frozenset(item for item in value if isinstance(item, str))


def time_of(claims: Mapping[str, object], name: str) -> float:
    """A NumericDate (RFC 7519 2), which may have a fraction. Raises Refused("token-refused")."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        jws.refuse("claims")
    if not 0 <= value <= _MAX_TIME:  # false for infinity too; before the conversion, which a huge integer would end
        jws.refuse("claims")
    return float(value)

"""Sessions without a join of their own: whoever is connected already brings a tunnel token of signaling's.

The token names the participant, the room and the media nodes that may be reached. It is used once, wherever it is
used first: its jti is burned in the directory, which also knows who was removed.
"""

from typing import Final

from conference.domain.claims import TunnelClaims
from conference.domain.errors import Refused, Unavailable
from conference.ports.clock import Clock
from conference.ports.presence import Presence
from conference.ports.tokens import Tokens
from media_workers.tunnel import ends
from media_workers.tunnel.ends import Ended
from media_workers.tunnel.metrics import Metrics

MARGIN_S: Final = 30  # by which a burned jti outlives its token: clocks differ


class Admission:
    def __init__(self, tokens: Tokens, presence: Presence, clock: Clock, metrics: Metrics) -> None:
        self._tokens = tokens
        self._presence = presence
        self._clock = clock
        self._metrics = metrics

    async def admit(self, token: str, former: TunnelClaims | None = None) -> TunnelClaims:
        """Uses a token up. `former` is whose session it is for: another's token is refused, and not used up.
        Raises Ended: token-refused, other-participant, removed, unavailable."""
        now = self._clock.now()
        try:
            claims = await self._tokens.verify_tunnel(token, now)
            if former is not None and (claims.participant_id, claims.room_id) != (
                former.participant_id,
                former.room_id,
            ):
                raise Ended(ends.OTHER_PARTICIPANT)
            ttl_s = int((claims.expires_at - now).total_seconds()) + MARGIN_S
            refused = await self._presence.burn(claims.room_id, claims.participant_id, jti=claims.jti, ttl_s=ttl_s)
        except Unavailable:
            raise Ended(ends.TOKENS_UNCHECKED) from None
        except Refused as error:
            refused = error
        if refused is None:
            return claims
        if refused.reason == "removed":
            raise Ended(ends.REMOVED)
        self._metrics.token_refusals.labels(str(refused.extra.get("cause", "unknown"))).inc()
        raise Ended(ends.TOKEN_REFUSED)

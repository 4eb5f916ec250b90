"""A token bucket: `burst` at once, `per_s` in the long run. Time is an input."""


class TokenBucket:
    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float, cost: float = 1.0) -> bool:
        """True where so much more is allowed. A clock that goes back refills nothing."""
        tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._per_s)
        self._at = max(now, self._at)
        allowed = tokens >= cost
        self._tokens = tokens - cost if allowed else tokens
        return allowed

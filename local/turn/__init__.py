"""The TURN server of one machine (RFC 8656); a deployment runs coturn."""

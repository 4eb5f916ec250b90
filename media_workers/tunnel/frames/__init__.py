"""Frames of browsers to an SFU and back: the gateway is the session's WebRTC client (docs/tunnel-protocol.md)."""

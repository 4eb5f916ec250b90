"""Encoded frames to RTP payloads and back: VP8 (RFC 7741), H264 (RFC 6184), Opus (RFC 7587). No I/O, no clock."""

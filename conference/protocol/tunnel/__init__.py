"""The HTTP tunnel without I/O: frames, the reliable stream, queues that age, control (docs/tunnel-protocol.md)."""

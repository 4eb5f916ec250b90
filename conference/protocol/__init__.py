"""Sans-IO state machines and wire messages: bytes, messages and time go in; messages, events and time-outs come out."""

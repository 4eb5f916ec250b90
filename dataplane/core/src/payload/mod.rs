//! What a forwarder reads in media payloads.

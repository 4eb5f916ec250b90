"""Media adapters: the reference forwarding engine (asyncio and pylibsrtp) and the DTLS seam over aiortc."""

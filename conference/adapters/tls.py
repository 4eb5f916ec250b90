"""Whom outgoing TLS trusts: the system's authorities, and one more where the settings name it."""

import ssl
from pathlib import Path


def context(ca_file: Path | None) -> ssl.SSLContext:
    """Checks names and chains. Raises OSError or ssl.SSLError for a file that cannot be read."""
    made = ssl.create_default_context()
    if ca_file is not None:
        made.load_verify_locations(ca_file)
    return made

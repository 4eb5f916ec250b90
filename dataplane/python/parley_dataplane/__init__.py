"""The native data plane: packet workers with threads of their own behind batches of commands and events.

The module `_native` is private; `conference.adapters.media.native` is the adapter that uses it.
"""

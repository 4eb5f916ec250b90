"""Recordings in a folder, for one machine."""

from conference.adapters.files.media import FilesMediaFiles

__all__ = ["FilesMediaFiles"]

"""Rooms: the same meetings as the media sees them: state, settings, joining, moderation, TURN credentials."""

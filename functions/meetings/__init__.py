"""Meetings: create, list, read, join, end, and what is known of them afterwards."""

"""Transcripts and summaries of a meeting."""

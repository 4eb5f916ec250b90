"""What a conference is: entities, policies, token claims and errors. Values and functions only; no clock, no I/O."""

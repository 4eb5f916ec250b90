"""Whether the Functions app lives, and whether it can serve."""

"""Azure Communication Services: rooms and their users (port `MediaProvider`), e-mail (port `Notifier`)."""

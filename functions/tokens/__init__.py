"""What others need to trust our tokens and find our services: JWKS and the page's configuration."""

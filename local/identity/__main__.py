"""`python -m local.identity`: the OpenID Connect provider of one machine, on a loopback port."""

from aiohttp import web

from conference.settings import settings
from local.identity.wiring import build


def main() -> None:
    """Serves until SIGINT or SIGTERM."""
    provider = build(settings())
    web.run_app(
        provider.application(),
        host="127.0.0.1",
        port=settings().identity_port,
        access_log=None,
        print=lambda line: None,
        shutdown_timeout=2,
    )


if __name__ == "__main__":
    main()

"""`python -m local.edge`: the one origin of page, API, signaling and sign-in."""

import logging

import uvloop

from conference.settings import settings
from local.edge.wiring import serve


def main() -> None:
    """Serves until SIGINT or SIGTERM."""
    logging.basicConfig(level=settings().log_level, format="%(levelname)s %(name)s %(message)s")
    uvloop.run(serve(settings()))


if __name__ == "__main__":
    main()

"""`python -m local.functions_host [--host HOST] [--port PORT]`: the Functions app on this machine."""

import argparse
import logging
import sys

import uvloop

from conference.settings import settings
from local.functions_host.loading import CannotHost
from local.functions_host.wiring import serve


def main() -> int:
    """Serves until SIGINT or SIGTERM; 1 where a function cannot be hosted or the port is taken."""
    chosen = settings()
    parser = argparse.ArgumentParser(prog="python -m local.functions_host", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    parser.add_argument("--port", type=int, default=chosen.functions_port, help="0 picks one (default: %(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=chosen.log_level, format="%(levelname)s %(name)s %(message)s")
    try:
        uvloop.run(serve(chosen, arguments.host, arguments.port))
    except CannotHost as error:
        print(f"cannot host the functions: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot listen on {arguments.host}:{arguments.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

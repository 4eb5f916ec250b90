"""`python -m local.runner`: the whole system on one machine, as `make run` starts it."""

import sys

from local.runner.wiring import main

if __name__ == "__main__":
    sys.exit(main())

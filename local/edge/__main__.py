"""`python -m local.edge`: the one origin of page, API, signaling and sign-in."""

from local.edge.wiring import main

if __name__ == "__main__":
    main()

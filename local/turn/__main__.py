"""`python -m local.turn`: the TURN server of one machine."""

from local.turn.wiring import main

if __name__ == "__main__":
    main()

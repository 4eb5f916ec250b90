"""`python -m local.acs --port N`: Azure Communication Services of one machine, on a loopback port."""

from local.acs.wiring import main

if __name__ == "__main__":
    main()

"""`python -m local.identity`: the OpenID Connect provider of one machine, on a loopback port."""

from local.identity.wiring import main

if __name__ == "__main__":
    main()

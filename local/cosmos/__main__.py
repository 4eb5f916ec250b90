"""`python -m local.cosmos`: the Cosmos DB server of one machine, on a loopback port."""

from local.cosmos.wiring import main

if __name__ == "__main__":
    main()

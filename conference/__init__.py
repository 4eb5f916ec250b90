"""The package every deployable shares: domain, protocol, ports, adapters, settings and telemetry, in that order."""

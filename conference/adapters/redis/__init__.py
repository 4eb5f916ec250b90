"""Redis 7.0 or later, or Valkey, on a single server or a cluster. The only place that imports redis-py."""

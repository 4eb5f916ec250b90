"""A Cosmos DB (NoSQL API) server for one machine: what the real one promises, in memory, over its REST protocol."""

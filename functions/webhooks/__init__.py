"""Webhooks: a tenant's endpoints, and the delivery of its rooms' events to them."""

"""Implementations of the ports. Each SDK is imported in exactly one of these modules."""

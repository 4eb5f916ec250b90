"""Recordings of a room, and the orders to start and stop one."""

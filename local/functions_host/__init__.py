"""Hosts the functions of `function_app.py` on one machine, in place of Azure's host: HTTP, timers and queues.

It runs what `get_functions()` lists, by the rules of host.json, and refuses what it could not run as Azure would. Core
Tools (`func start`) do the same where they are installed; nothing here depends on them.
"""

"""This process and all that it started, before the other work of the machine.

With autogroups the kernel shares the processor out between sessions, and each service and browser has one of its own:
the niceness of a process counts within its session only.
"""

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Final

_NICENESS: Final = -15
FIRST: Final = -20


def descendants(root: int) -> set[int]:
    """The process and those that it started, and so on; those that have ended meanwhile are left out."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # After the name, which may hold anything: the state and the parent.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children[parent].append(int(entry.name))
    found, pending = set[int](), [root]
    while pending:
        process = pending.pop()
        found.add(process)
        pending += children[process]
    return found


def come_first(*before: int) -> None:
    """Puts the sessions of these processes before those of others, where that is allowed, and first of all those of the
    processes `before` and what these started: servers do not share a machine with browsers. New ones need it anew."""
    first = {process for root in before for process in descendants(root)}
    for process in descendants(os.getpid()):
        with suppress(OSError):
            Path(f"/proc/{process}/autogroup").write_text(str(FIRST if process in first else _NICENESS))

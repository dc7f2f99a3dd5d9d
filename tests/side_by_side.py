"""Several processes run the tests (pytest-xdist): who gets which, and in what order.

A process takes a whole file, so that what a module's tests share is started once. Those tests that let a
whole family run, and kill it, take as much of the machine as they get, and say how long something takes: one
process has all of them, one after the other, while another one begins with those that need a processor only.
"""

from __future__ import annotations

from typing import Any

MACHINE = ("tests/e2e/", "tests/chaos/")
ORDER = (*MACHINE, "tests/unit/", "tests/integration/")


def place(nodeid: str, *, slow: bool) -> tuple[int, bool]:
    """Where a test stands in the order. Files that are marked slow are the first of their kind."""
    kind = next((number for number, folder in enumerate(ORDER) if nodeid.startswith(folder)), len(ORDER))
    return kind, not slow


def scheduler(config: Any, log: Any) -> Any:
    """Hands out files in the order in which they were collected; what needs the machine is as one file."""
    from xdist.scheduler import LoadScopeScheduling  # who runs tests in one process needs none

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "the machine" if nodeid.startswith(MACHINE) else nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return ByFile(config, log)

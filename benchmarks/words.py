"""How long reading and writing one OCPI object takes: `python benchmarks/words.py`.

The objects are the specification's own examples; each figure is the best of five runs, one thread.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from pathlib import Path

from schemas.ocpi import wire

EXAMPLES = Path(__file__).parents[1] / "tests" / "data" / "ocpi-examples"
NUMBER = 5000


def microseconds(act: Callable[[], object]) -> float:
    """Of one call."""
    return min(timeit.repeat(act, number=NUMBER, repeat=5)) / NUMBER * 1e6


def main() -> None:
    """Print a line per object and version."""
    print(f"{'object':10} {'version':8} {'bytes':>6} {'decode':>8} {'encode':>8}  microseconds")
    for kind, name in (
        ("session", "session_example_2_short_finished"),
        ("cdr", "cdr_example"),
        ("tariff", "tariff_4_complex"),
        ("location", "location_example"),
        ("token", "token_example_2_full_rfid"),
    ):
        for version in ("2.3.0", "2.2.1"):
            body = (EXAMPLES / version / f"{name}.json").read_bytes()
            found = wire.decode(kind, version, body)
            reading = microseconds(lambda k=kind, v=version, b=body: wire.decode(k, v, b))
            writing = microseconds(lambda k=kind, v=version, f=found: wire.encode(k, v, f))
            print(f"{kind:10} {version:8} {len(body):6} {reading:8.1f} {writing:8.1f}")
    patch = (EXAMPLES / "2.3.0" / "session_patch_example_charging_period.json").read_bytes()
    session = (EXAMPLES / "2.3.0" / "session_example_2_short_finished.json").read_bytes()
    current = wire.decode("session", "2.3.0", session)
    taken = microseconds(lambda: wire.apply_patch("session", "2.3.0", current, patch))
    print(f"{'patch':10} {'2.3.0':8} {len(patch):6} {taken:8.1f}")


if __name__ == "__main__":
    main()

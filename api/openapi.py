from typing import Any


def document(base: dict[str, Any]) -> dict[str, Any]:
    return base

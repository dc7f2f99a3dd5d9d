"""Which partition a key goes to: by the hash of Kafka's default partitioner, for whoever picks it himself."""

from __future__ import annotations

from functools import lru_cache

from aiokafka.partitioner import murmur2


@lru_cache(20_000)
def key_hash(key: bytes) -> int:
    """Kafka's hash of a key; modulo a topic's partitions it is the key's partition.

    It takes long to reckon in Python, and keys come more than once.
    """
    found: int = murmur2(key) & 0x7FFFFFFF
    return found

"""A partition's states on disk: RocksDB, one store per partition, never ahead of what Kafka has committed.

The store is a copy of its changelog topic's partition, and knows up to which offset. Its write-ahead log is
switched off: what a crash takes from memory is read from the changelog again, and RocksDB's files hold a
prefix of what was written, the changelog offset included.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

log = logging.getLogger("voltfold.worker")

POSITION = b"\0position"
"""Reserved key, in the changelog too: the input position behind everything that the states have seen."""
_CHANGELOG = b"\0changelog"
_SOURCE = b"\0source"
_WRITTEN = b"\0written"
FORMAT = 1
STALE_SECONDS = 12 * 3600
"""A changelog's tombstones live for a day (Kafka's delete.retention.ms). A store that may have missed some is
built again."""


def as_position(number: int) -> bytes:
    """A position as it is stored."""
    return number.to_bytes(8, "big")


class Memory:
    """Memory that all stores of a process share: blocks read, and writes that are not on disk yet."""

    def __init__(self, blocks: int = 32 << 20, writes: int = 32 << 20) -> None:
        self._cache = Cache(blocks)
        self._writes = WriteBufferManager(writes, False)

    def options(self) -> Options:
        """RocksDB's options for one store."""
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_cache_index_and_filter_blocks(True)
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        table.set_bloom_filter(10, False)
        table.set_block_size(8 << 10)
        table.set_format_version(5)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        options.set_write_buffer_manager(self._writes)
        options.set_write_buffer_size(16 << 20)
        options.set_max_write_buffer_number(2)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_bottommost_compression_type(DBCompressionType.zstd())
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_max_open_files(128)
        options.set_max_background_jobs(2)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(1 << 20)
        return options


class Store:
    """States by key. Keys that begin with a zero byte are the store's own."""

    def __init__(self, folder: Path, source: str, memory: Memory) -> None:
        """Open or create. `source` names the changelog; a store of another one is emptied.

        Raises OSError when another process has the store open.
        """
        self._folder = folder
        self._memory = memory
        self._source = f"{FORMAT} {source}".encode()
        self._unlogged = WriteOptions()
        self._unlogged.disable_wal = True  # type: ignore[method-assign, assignment]
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._db = Rdict(str(folder), memory.options())
        except Exception as error:
            if "lock" in str(error).lower():
                raise OSError(f"the store is in use: {error}") from None
            log.warning("the store in %s cannot be opened; building it again: %s", folder, error)
            shutil.rmtree(folder)
            self._db = Rdict(str(folder), memory.options())
        kept = self._db.get(_SOURCE)
        if kept is None:
            self._db.put(_SOURCE, self._source)
        elif kept != self._source:
            self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._db.close()
        shutil.rmtree(self._folder)
        self._folder.mkdir(parents=True)
        self._db = Rdict(str(self._folder), self._memory.options())
        self._db.put(_SOURCE, self._source)

    def get(self, key: bytes) -> bytes | None:
        """The state of a key."""
        found: bytes | None = self._db.get(key)
        return found

    @property
    def position(self) -> int | None:
        """The input position that belongs to the states, None before the first."""
        kept = self.get(POSITION)
        return None if kept is None else int.from_bytes(kept, "big")

    @property
    def changelog(self) -> int:
        """The position in the changelog up to which this store has it."""
        return int.from_bytes(self.get(_CHANGELOG) or b"", "big")

    @property
    def stale(self) -> bool:
        """Whether tombstones may be gone from the changelog that this store has not seen."""
        written = int.from_bytes(self.get(_WRITTEN) or b"", "big")
        return bool(written) and time.time() - written > STALE_SECONDS

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], changelog: int) -> None:
        """Write states (None: gone), the last one of a key counting, and the changelog position as one."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(_CHANGELOG, as_position(changelog))
        batch.put(_WRITTEN, as_position(int(time.time())))
        self._db.write(batch, self._unlogged)

    def close(self) -> None:
        """Write what is in memory to disk, and close."""
        self._db.flush()
        self._db.close()

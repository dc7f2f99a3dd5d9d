"""Where the n-th of many sorted positions is, and how many there are, without keeping all of them.

Positions are bytes, each at most once. They are counted in blocks: runs of neighbours, of which only the
first position and the number are kept. While there are few, each block is one position, and so all are known.
When there are too many blocks, each two become one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

_MOST = 4096


class Blocks:
    """Counts positions. `most`: blocks that are kept, at the most."""

    def __init__(self, most: int = _MOST) -> None:
        self.total = 0
        self._most = max(2, most)
        self._size = 1  # positions in a block, as it fills up from the end
        self._starts: list[bytes] = []
        self._counts: list[int] = []
        self._last = b""  # no position that was ever added lies behind it

    @property
    def exact(self) -> bool:
        """Whether every position is known."""
        return self._size == 1

    def add(self, position: bytes) -> None:
        """Count one that is not counted yet."""
        self.total += 1
        if position > self._last:
            self._last = position
            if self.exact or self._counts[-1] >= self._size:
                self._starts.append(position)
                self._counts.append(1)
            else:
                self._counts[-1] += 1
        elif self.exact:
            insort(self._starts, position)
            self._counts.append(1)
        else:
            block = bisect_right(self._starts, position) - 1
            if block < 0:
                self._starts[0] = position
                block = 0
            self._counts[block] += 1
        if len(self._starts) > self._most:
            self._halve()

    def remove(self, position: bytes) -> None:
        """Count one no longer that is counted."""
        self.total -= 1
        block = bisect_right(self._starts, position) - 1
        self._counts[block] -= 1
        if not self._counts[block] and (self.exact or len(self._starts) > 1):
            del self._starts[block], self._counts[block]

    def _halve(self) -> None:
        pairs = range(0, len(self._starts), 2)
        self._counts = [sum(self._counts[at : at + 2]) for at in pairs]
        self._starts = self._starts[::2]
        self._size *= 2

    def known(self, offset: int, limit: int) -> list[bytes]:
        """The positions from the offset on. Only while they are `exact`."""
        return self._starts[offset : offset + limit]

    def find(self, offset: int) -> tuple[bytes, int]:
        """A position to begin at, and how many to pass over from there (itself included) to the n-th."""
        left = offset
        for start, count in zip(self._starts, self._counts, strict=True):
            if left < count:
                return start, left
            left -= count
        return self._last + b"\x00", 0

    def up_to(self, position: bytes) -> tuple[int, bytes]:
        """How many lie before a position, as far as blocks can tell, and from where on to count the rest.

        While all are `exact`, there is no rest.
        """
        if self.exact:
            return bisect_left(self._starts, position), position
        block = bisect_right(self._starts, position) - 1
        if block < 0:
            return 0, position
        return sum(self._counts[:block]), self._starts[block]

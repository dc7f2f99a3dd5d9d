"""The outbox on a real RocksDB: what changed is marked until it is sent, whatever happens in between."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from rocksdict import Options, Rdict, WriteBatch

from api.outbox import Known, Outbox
from streams.deliveries import Mark

platforms = st.sampled_from(["a", "ab", "b"])
keys = st.sampled_from(["NL*TNM*1", "NL*TNM*2", "NL*TNM*11"])
modules = st.sampled_from(["cdrs", "sessions"])


class Deliveries(RuleBasedStateMachine):
    """Objects change, are sent, change while they are sent; the process dies in between.

    The model: versions of objects, and for each platform the version that was delivered last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1
        self.versions: dict[tuple[str, str], int] = {}
        self.wanted: dict[tuple[str, str, str], int] = {}
        self.order: dict[tuple[str, str, str], int] = {}
        self.sending: dict[tuple[str, str, str], tuple[Mark, int]] = {}
        self.open()

    def open(self) -> None:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        self.store = Rdict(str(Path(self.folder.name) / "db"), options)
        self.outbox = Outbox(lambda: self.store)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(changes=st.lists(st.tuples(platforms, modules, keys), min_size=1, max_size=5))
    def change(self, changes: list[tuple[str, str, str]]) -> None:
        """Some objects change, in one batch of the view."""
        writes = WriteBatch(raw_mode=True)
        for platform, module, key in changes:
            self.now += 1
            self.versions[module, key] = self.now
            identity = (platform, module, key)
            self.outbox.mark(writes, Mark(platform, self.now, module, key))
            self.wanted[identity] = self.now
            self.order.setdefault(identity, self.now)
        self.store.write(writes)
        self.outbox.written()

    @rule(platform=platforms)
    def begin(self, platform: str) -> None:
        """The oldest mark of a platform is taken up, with the state that its object has now."""
        for mark in self.outbox.marks(platform):
            if mark.identity not in self.sending:
                self.outbox.begin(mark)
                self.sending[mark.identity] = (mark, self.wanted[mark.identity])
                return

    @rule(data=st.data(), delivered=st.booleans())
    def end(self, data: st.DataObject, delivered: bool) -> None:
        """One that is under way arrives, or does not."""
        if not self.sending:
            return
        identity = data.draw(st.sampled_from(sorted(self.sending)))
        mark, version = self.sending.pop(identity)
        if not delivered:
            self.outbox.abandon(mark)
            return
        self.outbox.done(mark, Known("delivered", version.to_bytes(8, "big")))
        known = self.outbox.known(mark)
        assert known is not None
        assert known.digest == version.to_bytes(8, "big")
        self.order.pop(identity)
        if self.wanted[identity] == version:
            del self.wanted[identity]
        else:
            self.order[identity] = self.wanted[identity]

    @rule()
    def die(self) -> None:
        """The process is killed and starts again: what was under way is forgotten, its mark is not."""
        self.store.close()
        self.open()
        self.sending.clear()

    @rule(platform=platforms)
    def forget(self, platform: str) -> None:
        """A platform leaves for good."""
        if any(identity[0] == platform for identity in self.sending):
            return
        self.outbox.forget(platform)
        for identity in [one for one in self.wanted if one[0] == platform]:
            del self.wanted[identity]
            del self.order[identity]

    @invariant()
    def what_is_not_delivered_is_marked(self) -> None:
        """Once each, for the right platform, the one that changed first in front."""
        for platform in ("a", "ab", "b"):
            marks = list(self.outbox.marks(platform))
            assert marks == sorted(marks)
            assert {mark.identity for mark in marks} == {one for one in self.wanted if one[0] == platform}
            assert len(marks) == len({mark.identity for mark in marks})
        assert self.outbox.connections() == {one[0] for one in self.wanted}


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)

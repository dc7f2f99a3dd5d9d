"""A month of 20,000 sessions through the folds: every account is what an independent calculation says."""

from __future__ import annotations

import random
from collections import defaultdict
from decimal import Decimal

import pytest

from schemas.records import EntryRecord
from schemas.settlement import reference_of
from streams.folding import Fact, Output
from streams.ledger.statements import closed_statement
from streams.sessions import SessionFold
from tests import month as months
from tests.month import BILLION, FIRST, SECOND, Month
from tests.unit.streams.books import TOPICS, Books

SESSIONS = 20_000
# A minute's work, on a machine that does nothing else.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Run:
    """The session fold, and behind it the ledger's books: every batch must leave each currency level."""

    def __init__(self) -> None:
        self.books = Books()
        self.state: dict[bytes, bytes] = {}
        self.fold = SessionFold(TOPICS)
        self.sums: dict[str, Decimal] = defaultdict(Decimal)
        self.heard: list[Fact] = []
        self.seen = 0
        self.offset = 0

    def sessions(self, told: list[tuple[bytes, object]], size: int) -> None:
        for facts in months.batches(told, TOPICS.sessions.name, size):  # type: ignore[arg-type]
            folded = self.fold(facts, self.state.get)
            self.state |= {key: value for key, value in folded.changes.items() if value is not None}
            self.ledger([one for one in folded.outputs if one.topic == TOPICS.ledger.name])

    def ledger(self, said: list[Output]) -> None:
        while said:
            facts = []
            for one in said:
                facts.append(Fact(TOPICS.ledger.name, 0, self.offset, one.key, one.value))
                self.offset += 1
            self.heard += facts
            said = self.books.fold(facts)
            self._level()

    def _level(self) -> None:
        fresh, self.seen = self.books.outputs[self.seen :], len(self.books.outputs)
        for one in fresh:
            if one.topic == TOPICS.settlement_entries.name:
                entry = EntryRecord.decode(one.value or b"")
                self.sums[entry.currency] += sum((leg.amount for leg in entry.legs), Decimal(0))
        assert not any(self.sums.values()), "every currency is level after every batch"


def outputs(told: list[tuple[bytes, object]]) -> list[Output]:
    return [Output(TOPICS.ledger.name, key, event.encode()) for key, event in told]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def month() -> Month:
    return months.make(SESSIONS)


@pytest.fixture(scope="module")
def run(month: Month) -> Run:
    """Everything that is said, in the order in which it arrives: CDRs, a closing, what is late, a closing."""
    run = Run()
    early, late = list(month.early), list(month.late)
    references, cdrs = early[: 2 * len(months.OPERATORS)], early[2 * len(months.OPERATORS) :]
    random.Random(1).shuffle(cdrs)
    random.Random(2).shuffle(late)
    run.ledger(outputs(month.policies))
    run.sessions(references + cdrs, 1_000)
    run.ledger(outputs(month.closings(FIRST)))
    run.sessions(late, 1_000)
    run.ledger(outputs(month.money))
    run.ledger(outputs(month.closings(SECOND)))
    return run


def test_the_month_has_everything_in_it(month: Month) -> None:
    assert month.sessions == SESSIONS
    assert {currency for _, _, currency in month.owed} == {"EUR", "CHF", "SEK", "JPY"}
    assert len(month.owed) == len(months.OPERATORS) * 5 + 1
    assert min(month.kinds.values()) >= 50, dict(month.kinds)
    assert set(month.kinds) == {"late", "in time", "credited", "accept", "reject", "card payments"}
    assert month.wrong > 1_000
    assert len(month.held) > 50


def test_every_account_is_what_an_independent_calculation_says(month: Month, run: Run) -> None:
    assert run.books.refused == []
    accounts = run.books.accounts
    for direction, owed in month.owed.items():
        creditor, debtor, currency = direction
        expected = month.balance(direction, closed=(FIRST, SECOND))
        assert accounts.get((f"{debtor}:payable:{creditor}", currency), 0) * BILLION == expected, direction
        before = -sum(owed.before.values())
        assert accounts.get((f"{creditor}:revenue:{debtor}", currency), 0) * BILLION == before
        vat = [amount for (account, unit), amount in accounts.items()
               if account.startswith(f"{creditor}:tax:{debtor}") and unit == currency]  # fmt: skip
        assert sum(vat) * BILLION == -sum(owed.tax.values())
        paid = accounts.get((f"{creditor}:bank:{debtor}", currency), 0)
        assert paid * BILLION == sum(owed.payments.values())
    assert {(account.split(":")[0], currency) for account, currency in accounts} == {
        (party, currency) for creditor, debtor, currency in month.owed for party in (creditor, debtor)
    }
    held = {name for name, one in run.books.claims.items() if one.status == "held"}
    assert held == month.held


def test_every_statement_is_what_an_independent_calculation_says(month: Month, run: Run) -> None:
    statements = run.books.statements
    assert len(statements) == 2 * len(month.owed)
    for (creditor, debtor, currency), owed in month.owed.items():
        closing = 0
        for label in (FIRST, SECOND):
            found = statements[reference_of(creditor, debtor, currency, label)]
            assert found.opening * BILLION == closing
            assert found.total * BILLION == owed.total(label)
            assert sum(tax.amount for tax in found.taxes) * BILLION == months._rounded(
                owed.tax[label], owed.digits
            )
            assert found.payments * BILLION == owed.payments[label]
            closing += owed.total(label) - owed.payments[label]
            assert found.closing * BILLION == closing
    entries = defaultdict(list)
    for entry in run.books.entries:
        entries[entry.statement].append(entry)
    for record in statements.values():
        again = closed_statement(record, entries[record.reference])
        assert len(again.lines) == record.entries


def test_what_came_late_says_so(month: Month, run: Run) -> None:
    statements = run.books.statements
    for (creditor, debtor, currency), owed in month.owed.items():
        found = statements[reference_of(creditor, debtor, currency, SECOND)]
        if creditor != months.HUB:
            assert found.late == owed.late[SECOND], found.reference
        assert statements[reference_of(creditor, debtor, currency, FIRST)].late == 0


def test_closed_statements_are_invoiced_and_the_invoices_match(run: Run) -> None:
    issued = run.books.invoices
    assert {one.billing for one in issued.values()} == {"direct", "reverse"}
    assert {one.status for one in issued.values()} == {"matched"}


def test_a_replay_in_other_batches_gives_the_same_records(run: Run) -> None:
    again = Books()
    for begin in range(0, len(run.heard), 3_777):
        again.fold(run.heard[begin : begin + 3_777])
    assert again.latest == run.books.latest


def test_closing_twice_changes_nothing(month: Month, run: Run) -> None:
    state, count = dict(run.books.state), len(run.books.outputs)
    run.books.fold(
        [Fact(TOPICS.ledger.name, 0, 10**9, key, event.encode()) for key, event in month.closings(FIRST)]
    )
    assert (run.books.state, len(run.books.outputs)) == (state, count)

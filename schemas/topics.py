"""The catalogue of topics: every one that exists, with what it holds and how Kafka keeps it.

Facts are kept for ever and never compacted; conclusions are compacted by key, since they can be computed
again.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PARTITIONS = 12


@dataclass(frozen=True)
class Topic:
    """One topic: its full name, partitions, and Kafka's settings for it."""

    name: str
    partitions: int
    compacted: bool
    doc: str

    @property
    def config(self) -> dict[str, str]:
        """Kafka's topic settings."""
        if self.compacted:
            return {"cleanup.policy": "compact", "max.message.bytes": "4194304"}
        # The broker's clock: what was written later is never the earlier one, whoever wrote it.
        for_ever = {
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "message.timestamp.type": "LogAppendTime",
        }
        return {"cleanup.policy": "delete", **for_ever, "max.message.bytes": "4194304"}


class Topics:
    """All topics under one prefix, so that a test or a tenant has its own log."""

    def __init__(self, prefix: str = "voltfold", partitions: int = DEFAULT_PARTITIONS) -> None:
        self.prefix = prefix
        self.partitions = partitions

        def fact(name: str, count: int, doc: str) -> Topic:
            return Topic(f"{prefix}.{name}", count, False, doc)

        def conclusion(name: str, count: int, doc: str) -> Topic:
            return Topic(f"{prefix}.{name}", count, True, doc)

        few = min(4, partitions)
        self.sessions = fact("sessions", partitions, "Session and CDR events, and references.")
        self.tariffs = fact("tariffs", few, "Tariff events.")
        self.locations = fact("locations", few, "Location, EVSE and connector events.")
        self.tokens = fact("tokens", few, "Token events.")
        self.parties = fact("parties", 1, "Partners: who they are, and the hashes of their tokens.")
        self.commands = fact("commands", few, "Commands and charging profiles, with their results.")
        self.client_info = Topic(f"{prefix}.client-info", 1, True, "Whether each party can be reached.")
        self.ledger = fact("ledger", few, "Claims, policies, decisions, closings, receipts of two parties.")
        self.terminals = fact("terminals", few, "Payment terminals, and their assignment.")
        self.payments = fact("payments", few, "Captures, and what was to be captured, by authorization.")
        self.quarantine = fact("quarantine", 1, "What passed the door and could not be folded.")
        self.session_states = conclusion("session-states", partitions, "Sessions with their running price.")
        self.bills = conclusion("bills", partitions, "CDRs: billed, priced, compared.")
        self.settlement_entries = conclusion("ledger-entries", few, "Balanced postings.")
        self.outbound = conclusion("outbound", few, "What each platform was sent, and what it answered.")
        self.settled_claims = conclusion("settled-claims", few, "Claims: posted, held, rejected, and why.")
        self.statements = conclusion("statements", few, "Closed statements.")
        self.receipts = conclusion("receipts", few, "Payments received, and what became of them.")
        self.policies = conclusion("policies", few, "What is settled between two parties.")
        self.reconciliations = conclusion("reconciliations", few, "Invoices against our books, CDR by CDR.")
        self.payment_states = conclusion("payment-states", few, "Payments: due, captured, what is wrong.")
        self.sessions_table = conclusion("sessions-table-2", partitions, "Changelog of the session fold.")
        self.ledger_table = conclusion("ledger-table", few, "Changelog of the ledger fold.")
        self.payments_table = conclusion("payments-table", few, "Changelog of the payments fold.")

    def all(self) -> list[Topic]:
        """Every topic, facts first."""
        return [value for value in vars(self).values() if isinstance(value, Topic)]

    @property
    def facts(self) -> list[Topic]:
        """What partners said, and what the read view follows."""
        return [
            *(self.sessions, self.tariffs, self.locations, self.tokens, self.parties),
            *(self.commands, self.client_info, self.terminals, self.payments, self.ledger),
        ]

    @property
    def clocked(self) -> list[Topic]:
        """Whose every partition is told the time (`streams.clock`)."""
        return [self.sessions, self.ledger, self.payments]

    @property
    def conclusions(self) -> list[Topic]:
        """What was concluded: what analytics reads and replay checks."""
        return [
            *(self.session_states, self.bills, self.settlement_entries, self.settled_claims),
            *(self.statements, self.receipts, self.policies, self.reconciliations, self.payment_states),
        ]

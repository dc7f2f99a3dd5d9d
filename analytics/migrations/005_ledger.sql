-- The ledger: entries that are never changed, where each claim stands, statements, receipts, policies, invoices.

-- ORDER BY id: each is written once, and one that is inserted again replaces itself. The ids of one operator
-- lie together.
CREATE TABLE IF NOT EXISTS ledger_entry_versions
(
    id String,
    version Int64 COMMENT 'Offset of the record in its partition of the log',
    is_deleted UInt8 COMMENT '1: the key was taken back',
    session_key String,
    creditor LowCardinality(String),
    debtor LowCardinality(String),
    currency LowCardinality(String),
    amount Decimal(38, 9),
    credit_of Nullable(String),
    occurred_at DateTime64(6, 'UTC'),
    event_id FixedString(16),
    legs Array(Tuple(account String, amount Decimal(38, 9))),
    kind LowCardinality(String),
    claim String,
    sequence Int64,
    reverses Nullable(String),
    basis LowCardinality(String),
    statement LowCardinality(String),
    late Bool,
    cdr_id String,
    session_id Nullable(String),
    started_at DateTime64(6, 'UTC'),
    ended_at DateTime64(6, 'UTC'),
    kwh Decimal(38, 9),
    location_id String,
    token_uid String,
    contract_id String,
    before_taxes Decimal(38, 9),
    taxes Array(Tuple(name String, percentage Nullable(Decimal(38, 9)), amount Decimal(38, 9))),
    tariffs Array(String)
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY id
SETTINGS non_replicated_deduplication_window = 1000;

-- ORDER BY id: the key of the CDR, or of the fee; what is said of a claim replaces what was said before.
CREATE TABLE IF NOT EXISTS claim_versions
(
    id String,
    version Int64 COMMENT 'Offset of the record in its partition of the log',
    is_deleted UInt8 COMMENT '1: the key was taken back',
    session_key String,
    creditor LowCardinality(String),
    debtor LowCardinality(String),
    currency LowCardinality(String),
    kind LowCardinality(String),
    credit_of Nullable(String),
    status LowCardinality(String),
    reason LowCardinality(String),
    message String,
    basis LowCardinality(String),
    billed_before_taxes Decimal(38, 9),
    billed_taxes Decimal(38, 9),
    priced_before_taxes Nullable(Decimal(38, 9)),
    priced_after_taxes Nullable(Decimal(38, 9)),
    settled_before_taxes Decimal(38, 9),
    settled_taxes Decimal(38, 9),
    credited Decimal(38, 9),
    verdict LowCardinality(String),
    decision Nullable(String),
    why String,
    statement Nullable(String),
    entries Int64,
    ended_at DateTime64(6, 'UTC'),
    occurred_at DateTime64(6, 'UTC'),
    event_id FixedString(16)
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY id
SETTINGS non_replicated_deduplication_window = 1000;

-- ORDER BY reference: a closed statement has one row for ever.
CREATE TABLE IF NOT EXISTS statement_versions
(
    reference String,
    version Int64 COMMENT 'Offset of the record in its partition of the log',
    is_deleted UInt8 COMMENT '1: the key was taken back',
    creditor LowCardinality(String),
    debtor LowCardinality(String),
    currency LowCardinality(String),
    period LowCardinality(String),
    time_zone LowCardinality(String),
    period_start DateTime64(6, 'UTC'),
    period_end DateTime64(6, 'UTC'),
    opening Decimal(38, 9),
    total_before_taxes Decimal(38, 9),
    taxes Array(Tuple(
        name String,
        percentage Nullable(Decimal(38, 9)),
        base Decimal(38, 9),
        amount Decimal(38, 9))),
    total Decimal(38, 9),
    rounding Decimal(38, 9),
    payments Decimal(38, 9),
    closing Decimal(38, 9),
    entries Int64,
    late Int64,
    closed_at DateTime64(6, 'UTC'),
    event_id FixedString(16),
    lines_digest String,
    digest String
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY reference
SETTINGS non_replicated_deduplication_window = 1000;

-- ORDER BY id: the payment's own.
CREATE TABLE IF NOT EXISTS receipt_versions
(
    id String,
    version Int64 COMMENT 'Offset of the record in its partition of the log',
    is_deleted UInt8 COMMENT '1: the key was taken back',
    creditor Nullable(String),
    debtor Nullable(String),
    currency LowCardinality(String),
    amount Decimal(38, 9),
    statement Nullable(String),
    source LowCardinality(String),
    text String,
    outcome LowCardinality(String),
    entry_id Nullable(String),
    received_on DateTime64(6, 'UTC'),
    event_id FixedString(16)
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY id
SETTINGS non_replicated_deduplication_window = 1000;

-- ORDER BY creditor, debtor, since: a policy that is said again for the same moment replaces the one before.
CREATE TABLE IF NOT EXISTS policy_versions
(
    creditor LowCardinality(String),
    version Int64 COMMENT 'Offset of the record in its partition of the log',
    debtor LowCardinality(String),
    since DateTime64(6, 'UTC'),
    mode LowCardinality(String),
    tolerance_amount Decimal(38, 9),
    tolerance_percent Decimal(38, 9),
    period LowCardinality(String),
    time_zone LowCardinality(String),
    issue LowCardinality(String),
    fees Array(Tuple(
        currency String,
        party String,
        payer String,
        fixed Decimal(38, 9),
        per_kwh Decimal(38, 9),
        percent Decimal(38, 9),
        tax_name String,
        tax_percentage Decimal(38, 9))),
    why String,
    received_at DateTime64(6, 'UTC'),
    event_id FixedString(16)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (creditor, debtor, since)
SETTINGS non_replicated_deduplication_window = 1000;

-- ORDER BY key: CC*PID*ID of the invoice reconciliation record.
CREATE TABLE IF NOT EXISTS reconciliation_versions
(
    key String,
    version Int64 COMMENT 'Offset of the record in its partition of the log',
    is_deleted UInt8 COMMENT '1: the key was taken back',
    owner LowCardinality(String),
    counterparty LowCardinality(String),
    id String,
    invoice_id String,
    billing LowCardinality(String),
    issued Bool,
    statement Nullable(String),
    currency Nullable(String),
    status LowCardinality(String),
    amount Decimal(38, 9),
    matched Int64,
    differences Array(Tuple(
        cdr_id String,
        outcome String,
        detail String,
        billed Nullable(Decimal(38, 9)),
        settled Nullable(Decimal(38, 9)))),
    last_updated DateTime64(6, 'UTC'),
    received_at DateTime64(6, 'UTC'),
    event_id FixedString(16)
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY key
SETTINGS non_replicated_deduplication_window = 1000;

CREATE OR REPLACE VIEW settlement_entries AS
SELECT
    id, claim, kind, session_key, creditor, debtor, currency, amount, before_taxes,
    arraySum(tax -> tax.amount, taxes) AS taxes,
    statement, late, sequence, reverses, credit_of, basis,
    cdr_id, session_id, started_at, ended_at, kwh, location_id, token_uid, contract_id, tariffs,
    occurred_at, lower(hex(event_id)) AS event_id
FROM ledger_entry_versions FINAL;

-- The legs of the entries: debit positive, credit negative, zero in sum for each entry.
CREATE OR REPLACE VIEW settlement_postings AS
SELECT
    id AS entry_id, number, session_key, kind AS entry_kind, leg.account AS account,
    splitByChar(':', account)[1] AS party,
    splitByChar(':', account)[2] AS kind,
    splitByChar(':', account)[3] AS counterparty,
    currency, leg.amount AS amount, occurred_at
FROM
(
    SELECT * FROM ledger_entry_versions FINAL
)
ARRAY JOIN legs AS leg, arrayEnumerate(legs) AS number;

CREATE OR REPLACE VIEW accounts AS
SELECT
    leg.account AS account,
    splitByChar(':', account)[1] AS party,
    splitByChar(':', account)[2] AS kind,
    splitByChar(':', account)[3] AS counterparty,
    currency,
    sum(leg.amount) AS balance,
    count() AS postings
FROM
(
    SELECT * FROM ledger_entry_versions FINAL
)
ARRAY JOIN legs AS leg
GROUP BY account, currency;

CREATE OR REPLACE VIEW claims AS
SELECT
    id, kind, session_key, creditor, debtor, currency, status, reason, message, basis,
    billed_before_taxes, billed_before_taxes + billed_taxes AS billed_after_taxes,
    priced_before_taxes, priced_after_taxes,
    settled_before_taxes, settled_before_taxes + settled_taxes AS settled_after_taxes,
    credited, credit_of, verdict, decision, why, statement, entries, ended_at, occurred_at,
    lower(hex(event_id)) AS event_id
FROM claim_versions FINAL;

CREATE OR REPLACE VIEW receipts AS
SELECT
    id, creditor, debtor, currency, amount, statement, source, text, outcome, entry_id, received_on,
    lower(hex(event_id)) AS event_id
FROM receipt_versions FINAL;

-- Closed statements, and what was paid for each so far.
CREATE OR REPLACE VIEW statements AS
SELECT
    s.reference AS reference, s.creditor AS creditor, s.debtor AS debtor, s.currency AS currency,
    s.period AS period, s.time_zone AS time_zone, s.period_start AS period_start, s.period_end AS period_end,
    s.opening AS opening, s.total_before_taxes AS total_before_taxes, s.total AS total,
    s.rounding AS rounding, s.payments AS payments, s.closing AS closing,
    p.paid AS paid,
    multiIf(
        paid = total, 'paid',
        paid * sign(total) <= 0 AND total != 0, 'unpaid',
        abs(paid) < abs(total), 'partial',
        'excess') AS payment,
    s.entries AS entries, s.late AS late, s.closed_at AS closed_at, s.digest AS digest,
    lower(hex(s.event_id)) AS event_id
FROM
(
    SELECT * FROM statement_versions FINAL
) AS s
LEFT JOIN
(
    SELECT statement, sum(amount) AS paid FROM receipt_versions FINAL
    WHERE outcome = 'matched' GROUP BY statement
) AS p ON p.statement = s.reference;

CREATE OR REPLACE VIEW statement_taxes AS
SELECT
    reference, creditor, debtor, currency, period,
    tax.name AS name, tax.percentage AS percentage, tax.base AS base, tax.amount AS amount
FROM
(
    SELECT * FROM statement_versions FINAL
)
ARRAY JOIN taxes AS tax;

CREATE OR REPLACE VIEW policies AS
SELECT
    creditor, debtor, since, mode, tolerance_amount, tolerance_percent, period, time_zone, issue, fees, why,
    received_at, lower(hex(event_id)) AS event_id
FROM policy_versions FINAL;

CREATE OR REPLACE VIEW reconciliations AS
SELECT
    key, owner, counterparty, id, invoice_id, billing, issued, statement, currency, status, amount, matched,
    length(differences) AS different, last_updated, received_at, lower(hex(event_id)) AS event_id
FROM reconciliation_versions FINAL;

CREATE OR REPLACE VIEW reconciliation_differences AS
SELECT
    key, owner, counterparty, invoice_id, statement, currency,
    difference.cdr_id AS cdr_id, difference.outcome AS outcome, difference.detail AS detail,
    difference.billed AS billed, difference.settled AS settled
FROM
(
    SELECT * FROM reconciliation_versions FINAL
)
ARRAY JOIN differences AS difference;

DROP TABLE IF EXISTS entry_versions;

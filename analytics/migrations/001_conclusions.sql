-- One table for each topic of conclusions, one row for each record, in the record's own columns.
--
-- A topic holds many records of one key, of which the last one counts. ReplacingMergeTree keeps the row with
-- the greatest version for each ORDER BY key, the version being the record's offset in its partition of the
-- log: a newer conclusion replaces an older one, and a row that is inserted twice replaces itself. Readers
-- use FINAL (the views do), so that they see one row a key before the merges have happened, too.
--
-- What a conclusion holds many of (periods, amounts, legs) is an array in its row and not a table of its own:
-- a row is replaced as a whole, so no reader ever sees the periods of two versions mixed.
--
-- No PARTITION BY: rows are replaced within a partition only, and every column but the key may change.

-- ORDER BY key: the one thing that never changes about a session, and so the only order in which a newer
-- version finds the older one. It begins with the operator (CC*PID*SESSION_ID), so the sessions of one
-- operator lie together and `startsWith(key, 'NL*TNM*')` reads only them.
CREATE TABLE IF NOT EXISTS session_versions
(
    key String,
    version Int64 COMMENT 'Offset of the record in its partition of the log',
    is_deleted UInt8 COMMENT '1: the key was taken back',
    country_code LowCardinality(String),
    party_id LowCardinality(String),
    session_id String,
    status LowCardinality(String),
    started_at DateTime64(6, 'UTC'),
    ended_at Nullable(DateTime64(6, 'UTC')),
    kwh Decimal(38, 9),
    currency LowCardinality(String),
    location_id String,
    evse_uid String,
    connector_id String,
    token_country_code LowCardinality(String),
    token_party_id LowCardinality(String),
    token_uid String,
    contract_id String,
    auth_method LowCardinality(String),
    cdr_id Nullable(String),
    reported_before_taxes Nullable(Decimal(38, 9)),
    reported_after_taxes Nullable(Decimal(38, 9)),
    price_before_taxes Nullable(Decimal(38, 9)),
    price_after_taxes Nullable(Decimal(38, 9)),
    tariffs Array(String),
    warnings Array(String),
    last_updated DateTime64(6, 'UTC'),
    received_at DateTime64(6, 'UTC'),
    event_id FixedString(16),
    periods Array(Tuple(
        started_at DateTime64(6, 'UTC'),
        ended_at DateTime64(6, 'UTC'),
        kwh Decimal(38, 9),
        charging Bool,
        tariff_id Nullable(String)))
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY key
SETTINGS non_replicated_deduplication_window = 1000;

-- ORDER BY key: as with sessions; the key of a bill is CC*PID*CDR_ID.
CREATE TABLE IF NOT EXISTS bill_versions
(
    key String,
    version Int64 COMMENT 'Offset of the record in its partition of the log',
    is_deleted UInt8 COMMENT '1: the key was taken back',
    session_key String,
    country_code LowCardinality(String),
    party_id LowCardinality(String),
    cdr_id String,
    session_id Nullable(String),
    credit Bool,
    credit_reference_id Nullable(String),
    started_at DateTime64(6, 'UTC'),
    ended_at DateTime64(6, 'UTC'),
    currency LowCardinality(String),
    location_id String,
    evse_uid String,
    connector_id String,
    token_country_code LowCardinality(String),
    token_party_id LowCardinality(String),
    token_uid String,
    contract_id String,
    total_energy Decimal(38, 9),
    total_time Decimal(38, 9),
    total_parking_time Nullable(Decimal(38, 9)),
    amounts Array(Tuple(
        total String,
        billed_before_taxes Nullable(Decimal(38, 9)),
        billed_after_taxes Nullable(Decimal(38, 9)),
        priced_before_taxes Nullable(Decimal(38, 9)),
        priced_after_taxes Nullable(Decimal(38, 9)),
        verdict String)),
    verdict LowCardinality(String),
    reason String,
    tariffs Array(String),
    tariff_source LowCardinality(String),
    late_tariff Bool,
    warnings Array(String),
    last_updated DateTime64(6, 'UTC'),
    received_at DateTime64(6, 'UTC'),
    event_id FixedString(16)
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY key
SETTINGS non_replicated_deduplication_window = 1000;

-- ORDER BY id: as with sessions; the id of an entry is the key of its CDR.
CREATE TABLE IF NOT EXISTS entry_versions
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
    legs Array(Tuple(account String, amount Decimal(38, 9)))
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY id
SETTINGS non_replicated_deduplication_window = 1000;

-- ORDER BY the place of the record that could not be folded: a record that is quarantined again (after a
-- restart, by a replay) is still one row.
CREATE TABLE IF NOT EXISTS quarantine_versions
(
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    version Int64 COMMENT 'Offset in the quarantine topic',
    reason LowCardinality(String),
    message String,
    received_at Nullable(DateTime64(6, 'UTC')),
    value String COMMENT 'The record as it stands in the log: bytes'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 1000;

-- What the sink itself could not read. ORDER BY the record's place: found again, it is still one row.
CREATE TABLE IF NOT EXISTS sink_errors
(
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    key String COMMENT 'Bytes',
    value String COMMENT 'Bytes',
    error String,
    found_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(found_at)
ORDER BY (topic, partition, offset);

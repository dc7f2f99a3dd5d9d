-- Payments of authorised sessions: what was due, what was captured, what is wrong.
--
-- ORDER BY key: as with sessions; the key of a payment is CC*PID*REFERENCE, of who authorised it.
CREATE TABLE IF NOT EXISTS payment_versions
(
    key String,
    version Int64 COMMENT 'Offset of the record in its partition of the log',
    is_deleted UInt8 COMMENT '1: the key was taken back',
    reference String,
    provider LowCardinality(String),
    operator Nullable(String),
    kind LowCardinality(String),
    status LowCardinality(String),
    issues Array(LowCardinality(String)),
    currency LowCardinality(Nullable(String)),
    preauthorized Nullable(Decimal(38, 9)),
    due Nullable(Decimal(38, 9)),
    captured Decimal(38, 9),
    difference Nullable(Decimal(38, 9)),
    session_key Nullable(String),
    session_id Nullable(String),
    cdr_id Nullable(String),
    cdrs Array(String),
    captures Array(Tuple(
        id String,
        status String,
        currency String,
        amount Decimal(38, 9),
        message Nullable(String),
        at DateTime64(6, 'UTC'))),
    invoice_reference_id Nullable(String),
    invoice_by Nullable(String),
    token_uid Nullable(String),
    token_type Nullable(String),
    location_id Nullable(String),
    evse_uid Nullable(String),
    started_at Nullable(DateTime64(6, 'UTC')),
    ended_at Nullable(DateTime64(6, 'UTC')),
    kwh Nullable(Decimal(38, 9)),
    waiting_since DateTime64(6, 'UTC'),
    received_at DateTime64(6, 'UTC'),
    event_id FixedString(16)
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY key
SETTINGS non_replicated_deduplication_window = 1000;

CREATE OR REPLACE VIEW payments AS
SELECT
    key, reference, provider, operator, kind, status, issues, currency,
    preauthorized, due, captured, difference,
    session_key, session_id, cdr_id, cdrs, invoice_reference_id, invoice_by,
    token_uid, token_type, location_id, evse_uid, started_at, ended_at, kwh,
    waiting_since, received_at, lower(hex(event_id)) AS event_id
FROM payment_versions FINAL;

-- Every confirmation of a capture.
CREATE OR REPLACE VIEW captures AS
SELECT
    key AS payment_key, number, reference, provider, operator,
    capture.id AS id, capture.status AS status, capture.currency AS currency, capture.amount AS amount,
    capture.message AS message, capture.at AS confirmed_at
FROM
(
    SELECT * FROM payment_versions FINAL
)
ARRAY JOIN captures AS capture, arrayEnumerate(captures) AS number;

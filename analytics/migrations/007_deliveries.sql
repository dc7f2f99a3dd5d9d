-- What became of each object that a platform has to get: one row for each, its latest outcome.
--
-- ORDER BY id: connection, module and key in one, as the record's key in the log has it, by which an outcome is
-- also taken back (`voltfold outbound retry`). It begins with the connection, so those of a platform lie together.
CREATE TABLE IF NOT EXISTS delivery_versions
(
    id String DEFAULT concat(connection, '|', module, '|', key),
    version Int64 COMMENT 'Offset of the record in its partition of the log',
    is_deleted UInt8 COMMENT '1: the outcome was taken back, and it is tried again',
    connection LowCardinality(String),
    module LowCardinality(String),
    key String,
    outcome LowCardinality(String),
    digest String COMMENT 'Bytes',
    attempts Int32,
    http Nullable(Int32),
    ocpi Nullable(Int32),
    message String,
    since DateTime64(6, 'UTC'),
    at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY id
SETTINGS non_replicated_deduplication_window = 1000;

CREATE OR REPLACE VIEW deliveries AS
SELECT
    connection, module, key, outcome, attempts, http, ocpi, message, since, at,
    toDecimal128(toUnixTimestamp64Micro(at) - toUnixTimestamp64Micro(since), 6) / 1000000 AS seconds
FROM delivery_versions FINAL;

-- What providers said about their tokens, event by event: which tokens belong together (group_id) is what a
-- vehicle operator's statement goes by.
--
-- ORDER BY key and version: a row for each record of the log, and one that is inserted twice replaces itself.
CREATE TABLE IF NOT EXISTS token_event_versions
(
    key String,
    version Int64 COMMENT 'Offset of the record in its partition of the log',
    id FixedString(16),
    received_at DateTime64(6, 'UTC'),
    sender LowCardinality(String),
    ocpi_version LowCardinality(String),
    module LowCardinality(String),
    method LowCardinality(String),
    path Array(String),
    request_id Nullable(String),
    correlation_id Nullable(String),
    body String COMMENT 'As received: bytes'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (key, version)
SETTINGS non_replicated_deduplication_window = 1000;

-- The newest state of each token, by the rules of PUT and PATCH: an older last_updated changes nothing, nor
-- does an event that comes again; PUT says everything, PATCH only what is in it.
CREATE OR REPLACE VIEW tokens AS
WITH
    told AS
    (
        SELECT
            key, version, method, ocpi_version, body, received_at,
            ifNull(parseDateTime64BestEffortOrNull(JSONExtractString(body, 'last_updated'), 6, 'UTC'),
                toDateTime64(0, 6, 'UTC')) AS updated
        FROM token_event_versions FINAL
        WHERE module = 'tokens' AND method IN ('PUT', 'PATCH')
        ORDER BY version
        LIMIT 1 BY key, id
    ),
    ordered AS
    (
        SELECT
            *,
            max(updated) OVER (
                PARTITION BY key ORDER BY version ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS newest
        FROM told
    )
SELECT
    key,
    splitByChar('*', key)[1] AS country_code,
    splitByChar('*', key)[2] AS party_id,
    argMaxIf(JSONExtractString(body, 'uid'), version, method = 'PUT') AS uid,
    argMaxIf(JSONExtractString(body, 'type'), version, method = 'PUT' OR JSONHas(body, 'type')) AS type,
    argMaxIf(
        if(ocpi_version = '2.1.1', JSONExtractString(body, 'auth_id'), JSONExtractString(body, 'contract_id')),
        version,
        method = 'PUT' OR JSONHas(body, 'contract_id') OR JSONHas(body, 'auth_id')) AS contract_id,
    argMaxIf(JSONExtractString(body, 'visual_number'), version,
        method = 'PUT' OR JSONHas(body, 'visual_number')) AS visual_number,
    argMaxIf(JSONExtractString(body, 'issuer'), version, method = 'PUT' OR JSONHas(body, 'issuer')) AS issuer,
    argMaxIf(JSONExtractString(body, 'group_id'), version,
        method = 'PUT' OR JSONHas(body, 'group_id')) AS group_id,
    argMaxIf(JSONExtractBool(body, 'valid'), version, method = 'PUT' OR JSONHas(body, 'valid')) AS valid,
    argMaxIf(JSONExtractString(body, 'whitelist'), version,
        method = 'PUT' OR JSONHas(body, 'whitelist')) AS whitelist,
    max(updated) AS last_updated,
    max(o.received_at) AS received_at
FROM ordered AS o
WHERE updated = newest
GROUP BY key
HAVING countIf(method = 'PUT') > 0;

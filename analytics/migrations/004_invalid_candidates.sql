-- Running sessions that the log's clock found silent for too long: what the state says, for everybody who asks.
ALTER TABLE session_versions ADD COLUMN IF NOT EXISTS invalid_candidate Bool DEFAULT false;

CREATE OR REPLACE VIEW sessions AS
SELECT
    key, country_code, party_id, session_id, status,
    status IN ('ACTIVE', 'COMPLETED')
        AND duration_seconds <= 366 * 86400
        AND started_at >= toDateTime64('1970-01-01 00:00:00', 6, 'UTC')
        AND known_until < toDateTime64('2100-01-01 00:00:00', 6, 'UTC') AS counted,
    started_at, ended_at,
    greatest(started_at, coalesce(ended_at, last_updated)) AS known_until,
    toDecimal128(toUnixTimestamp64Micro(known_until) - toUnixTimestamp64Micro(started_at), 6)
        / 1000000 AS duration_seconds,
    kwh, currency, location_id, evse_uid, connector_id,
    token_country_code, token_party_id, token_uid, contract_id, auth_method, cdr_id,
    reported_before_taxes, reported_after_taxes, price_before_taxes, price_after_taxes,
    tariffs, warnings, last_updated, received_at, lower(hex(event_id)) AS event_id, length(periods) AS periods,
    invalid_candidate
FROM session_versions FINAL;

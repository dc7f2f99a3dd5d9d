-- Sessions that seem never to end: begun, neither ended nor billed, and silent for as long as the log's clock allows
-- (`invalid_candidate`, concluded by the fold), or, if `silent_hours` is not negative, for so many hours before
-- `until` (now, if that lies ahead). The longest silent first. To be set to INVALID by their operator, which alone
-- knows; an update of such a session takes it off this list.
WITH least({until:DateTime64(6, 'UTC')}, now64(6, 'UTC')) AS asked
SELECT
    key, country_code, party_id, session_id, status, started_at, kwh, currency,
    location_id, evse_uid, token_country_code, token_party_id, last_updated, received_at,
    dateDiff('second', received_at, asked) / 3600 AS silent_hours, invalid_candidate
FROM sessions
WHERE status IN ('ACTIVE', 'PENDING', 'RESERVATION')
    AND ended_at IS NULL AND cdr_id IS NULL
    AND (location_id = {location_id:String} OR {location_id:String} = '')
    AND ({silent_hours:Float64} >= 0 AND silent_hours >= {silent_hours:Float64}
        OR {silent_hours:Float64} < 0 AND invalid_candidate)
ORDER BY silent_hours DESC, key
LIMIT {limit:UInt64}

-- Bills that are not what they should be, the largest difference first. Positive: charged too much.
SELECT
    key, country_code, party_id, cdr_id, session_id, started_at, currency, evse_uid,
    billed_before_taxes, billed_after_taxes, priced_before_taxes, priced_after_taxes,
    difference, verdict, reason
FROM priced_cdrs
WHERE verdict IN ('overcharged', 'undercharged')
    AND started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
ORDER BY abs(difference) DESC, key
LIMIT {limit:UInt32}

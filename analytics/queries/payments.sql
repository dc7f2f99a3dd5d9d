-- Payments that need somebody's attention, those with the most money at stake first: captures that failed, are
-- partial, too high or in another currency, that exceed what was reserved, or that no CDR belongs to; and those
-- that never came: `missing_capture` where a confirmation, `missing_cdr` where a CDR has been waited for too
-- long, by the log's clock, or for longer than `wait_hours` until `until` (now, if that lies ahead). With
-- `everything`, all payments.
WITH
    least({until:DateTime64(6, 'UTC')}, now64(6, 'UTC')) AS asked,
    dateDiff('second', waiting_since, asked) / 3600 AS waiting_hours
SELECT
    key, reference, provider, operator, kind,
    multiIf(
        status = 'awaiting_capture' AND waiting_hours >= {wait_hours:Float64}, 'missing_capture',
        status = 'awaiting_cdr' AND waiting_hours >= {wait_hours:Float64}, 'missing_cdr',
        status) AS state,
    issues, currency, preauthorized, due, captured, difference, session_id, cdr_id,
    invoice_reference_id, invoice_by, location_id, evse_uid, started_at, ended_at, waiting_since, waiting_hours,
    stop
FROM payments
WHERE received_at >= {since:DateTime64(6, 'UTC')} AND received_at < {until:DateTime64(6, 'UTC')}
    AND ({everything:UInt8} OR notEmpty(issues) OR startsWith(state, 'missing_') OR status = 'unreferenced')
ORDER BY abs(coalesce(difference, captured)) DESC, key
LIMIT {limit:UInt64}

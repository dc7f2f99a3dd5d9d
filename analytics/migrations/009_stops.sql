-- What became of stopping an ad-hoc session at its limit.
ALTER TABLE payment_versions ADD COLUMN IF NOT EXISTS stop LowCardinality(Nullable(String));

CREATE OR REPLACE VIEW payments AS
SELECT
    key, reference, provider, operator, kind, status, issues, currency,
    preauthorized, due, captured, difference,
    session_key, session_id, cdr_id, cdrs, invoice_reference_id, invoice_by,
    token_uid, token_type, location_id, evse_uid, started_at, ended_at, kwh,
    waiting_since, received_at, lower(hex(event_id)) AS event_id, stop
FROM payment_versions FINAL;

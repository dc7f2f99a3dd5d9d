-- Everything in one row. kwh is that of the counted sessions, billed_kwh that of the CDRs (credits taken off).
SELECT
    (SELECT count() FROM sessions) AS sessions,
    (SELECT count() FROM sessions WHERE counted) AS counted_sessions,
    (SELECT sum(kwh) FROM sessions WHERE counted) AS kwh,
    (SELECT sum(duration_seconds) FROM sessions WHERE counted) AS occupied_seconds,
    (SELECT count() FROM cdrs) AS cdrs,
    (SELECT sumIf(kwh, NOT credit) - sumIf(kwh, credit) FROM cdrs) AS billed_kwh,
    (SELECT count() FROM settlement_entries) AS settlement_entries,
    (SELECT countIf(verdict IN ('overcharged', 'undercharged')) FROM priced_cdrs) AS wrong_bills,
    (SELECT countIf(verdict = 'cannot_be_priced') FROM priced_cdrs) AS unpriced_bills,
    (SELECT count() FROM quarantine) AS quarantined,
    (SELECT min(started_at) FROM sessions WHERE counted) AS first_start,
    (SELECT max(known_until) FROM sessions WHERE counted) AS last_end

-- What analysts read. Every view reads FINAL: one row a key, the newest, without those taken back.

-- A session that has not ended is known until its last update. `counted` says whether it takes part in
-- figures about use: PENDING and RESERVATION have not begun, INVALID is not to be billed, and one that
-- lasts for more than 366 days (or lies outside 1970 to 2100) is a mistake of a clock.
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
    tariffs, warnings, last_updated, received_at, lower(hex(event_id)) AS event_id, length(periods) AS periods
FROM session_versions FINAL;

CREATE OR REPLACE VIEW charging_periods AS
SELECT
    key AS session_key, number, country_code, party_id, session_id, status,
    location_id, evse_uid, connector_id,
    period.started_at AS started_at, period.ended_at AS ended_at,
    toDecimal128(toUnixTimestamp64Micro(period.ended_at) - toUnixTimestamp64Micro(period.started_at), 6)
        / 1000000 AS duration_seconds,
    period.kwh AS kwh, period.charging AS charging, period.tariff_id AS tariff_id
FROM
(
    SELECT * FROM session_versions FINAL
)
ARRAY JOIN periods AS period, arrayEnumerate(periods) AS number;

CREATE OR REPLACE VIEW cdrs AS
WITH
    amounts.total AS totals,
    amounts.billed_before_taxes AS before,
    amounts.billed_after_taxes AS after
SELECT
    key, session_key, country_code, party_id, cdr_id, session_id, credit, credit_reference_id,
    started_at, ended_at, currency, location_id, evse_uid, connector_id,
    token_country_code, token_party_id, token_uid, contract_id,
    total_energy AS kwh, total_time AS hours, total_parking_time AS parking_hours,
    before[indexOf(totals, 'total_cost')] AS total_cost_before_taxes,
    after[indexOf(totals, 'total_cost')] AS total_cost_after_taxes,
    before[indexOf(totals, 'total_fixed_cost')] AS total_fixed_cost_before_taxes,
    after[indexOf(totals, 'total_fixed_cost')] AS total_fixed_cost_after_taxes,
    before[indexOf(totals, 'total_energy_cost')] AS total_energy_cost_before_taxes,
    after[indexOf(totals, 'total_energy_cost')] AS total_energy_cost_after_taxes,
    before[indexOf(totals, 'total_time_cost')] AS total_time_cost_before_taxes,
    after[indexOf(totals, 'total_time_cost')] AS total_time_cost_after_taxes,
    before[indexOf(totals, 'total_parking_cost')] AS total_parking_cost_before_taxes,
    after[indexOf(totals, 'total_parking_cost')] AS total_parking_cost_after_taxes,
    before[indexOf(totals, 'total_reservation_cost')] AS total_reservation_cost_before_taxes,
    after[indexOf(totals, 'total_reservation_cost')] AS total_reservation_cost_after_taxes,
    last_updated, received_at, lower(hex(event_id)) AS event_id
FROM bill_versions FINAL;

-- Every total of every bill. The difference is billed minus priced (positive: charged too much), with taxes
-- where both sides have them, else without.
CREATE OR REPLACE VIEW priced_totals AS
SELECT
    key AS cdr_key, session_key, country_code, party_id, cdr_id, currency,
    amount.total AS total,
    amount.billed_before_taxes AS billed_before_taxes, amount.billed_after_taxes AS billed_after_taxes,
    amount.priced_before_taxes AS priced_before_taxes, amount.priced_after_taxes AS priced_after_taxes,
    coalesce(billed_after_taxes - priced_after_taxes, billed_before_taxes - priced_before_taxes) AS difference,
    amount.verdict AS verdict
FROM
(
    SELECT * FROM bill_versions FINAL
)
ARRAY JOIN amounts AS amount;

-- What each bill should have been, and the verdict on it as a whole; amounts are those of total_cost.
CREATE OR REPLACE VIEW priced_cdrs AS
WITH arrayFirst(amount -> amount.total = 'total_cost', amounts) AS cost
SELECT
    key, session_key, country_code, party_id, cdr_id, session_id, credit,
    started_at, ended_at, currency, location_id, evse_uid, connector_id,
    token_country_code, token_party_id, token_uid, contract_id,
    cost.billed_before_taxes AS billed_before_taxes, cost.billed_after_taxes AS billed_after_taxes,
    cost.priced_before_taxes AS priced_before_taxes, cost.priced_after_taxes AS priced_after_taxes,
    coalesce(billed_after_taxes - priced_after_taxes, billed_before_taxes - priced_before_taxes) AS difference,
    verdict, reason, tariffs, tariff_source, late_tariff, warnings,
    last_updated, received_at, lower(hex(event_id)) AS event_id
FROM bill_versions FINAL;

CREATE OR REPLACE VIEW settlement_entries AS
SELECT
    id, session_key, creditor, debtor, currency, amount, credit_of, occurred_at,
    lower(hex(event_id)) AS event_id
FROM entry_versions FINAL;

-- The legs of the entries: debit positive, credit negative, zero in sum for each entry.
CREATE OR REPLACE VIEW settlement_postings AS
SELECT
    id AS entry_id, number, session_key, leg.account AS account,
    splitByChar(':', account)[1] AS party,
    splitByChar(':', account)[2] AS kind,
    splitByChar(':', account)[3] AS counterparty,
    currency, leg.amount AS amount, occurred_at
FROM
(
    SELECT * FROM entry_versions FINAL
)
ARRAY JOIN legs AS leg, arrayEnumerate(legs) AS number;

CREATE OR REPLACE VIEW quarantine AS
SELECT topic, partition, offset, reason, message, received_at, base64Encode(value) AS value_base64
FROM quarantine_versions FINAL;

-- What the tokens of a fleet cost, by vehicle, operator, site and currency: what was settled for sessions that
-- ended in the time given, credits and corrections taken in. Which tokens belong to it is how it is now.
WITH
    vehicles AS
    (
        SELECT concat(country_code, '*', party_id) AS provider, upper(uid) AS token, visual_number
        FROM tokens
        WHERE upper(group_id) = upper({group_id:String}) AND {group_id:String} != ''
            AND (provider = upper({provider:String}) OR {provider:String} = '')
    ),
    claims AS
    (
        SELECT
            claim, any(creditor) AS operator, any(debtor) AS provider, any(e.currency) AS currency,
            any(e.token_uid) AS token_uid, any(e.contract_id) AS contract_id, any(e.location_id) AS location_id,
            -- what was taken back stands no more: then there was no session
            (countIf(reverses IS NULL) > countIf(reverses IS NOT NULL)) * if(countIf(kind = 'credit') > 0, -1, 1)
                AS counts,
            abs(any(e.kwh)) * counts AS kwh,
            sum(e.before_taxes) AS before_taxes, sum(amount) AS amount
        FROM ledger_entry_versions AS e FINAL
        WHERE ended_at >= {since:DateTime64(6, 'UTC')} AND ended_at < {until:DateTime64(6, 'UTC')}
            AND kind IN ('cdr', 'credit', 'correction', 'fee')
            AND (debtor, upper(e.token_uid)) IN (SELECT provider, token FROM vehicles)
        GROUP BY claim
        HAVING countIf(kind = 'fee') = 0
    )
SELECT
    c.token_uid AS token_uid, any(c.contract_id) AS contract_id, any(v.visual_number) AS visual_number,
    c.provider AS provider, operator, c.location_id AS location_id, c.currency AS currency,
    sum(counts) AS sessions, sum(c.kwh) AS kwh,
    sum(c.before_taxes) AS before_taxes, sum(c.amount) - sum(c.before_taxes) AS taxes, sum(c.amount) AS amount
FROM claims AS c
INNER JOIN vehicles AS v ON v.provider = c.provider AND v.token = upper(c.token_uid)
GROUP BY provider, token_uid, operator, location_id, currency
ORDER BY currency, provider, token_uid, operator, location_id

-- The taxes in what a fleet costs, by currency, name and percentage; the same sessions as in fleet_costs.
WITH vehicles AS
(
    SELECT concat(country_code, '*', party_id) AS provider, upper(uid) AS token
    FROM tokens
    WHERE upper(group_id) = upper({group_id:String}) AND {group_id:String} != ''
        AND (provider = upper({provider:String}) OR {provider:String} = '')
)
SELECT
    e.currency AS currency, tax.name AS name, tax.percentage AS percentage,
    sum(e.before_taxes) AS base, sum(tax.amount) AS amount
FROM
(
    SELECT * FROM ledger_entry_versions FINAL
) AS e
ARRAY JOIN taxes AS tax
WHERE ended_at >= {since:DateTime64(6, 'UTC')} AND ended_at < {until:DateTime64(6, 'UTC')}
    AND kind IN ('cdr', 'credit', 'correction')
    AND (debtor, upper(e.token_uid)) IN (SELECT provider, token FROM vehicles)
    AND claim NOT IN (SELECT claim FROM ledger_entry_versions WHERE kind = 'fee')
GROUP BY currency, name, percentage
ORDER BY currency, name, percentage

-- For each currency: what the entries are worth, how much of it is tax, and the sum over all legs (zero).
SELECT
    currency,
    count(DISTINCT entry_id) AS settlement_entries,
    sumIf(p.amount, kind = 'payable') AS amount,
    -sumIf(p.amount, kind = 'revenue') AS before_taxes,
    -sumIf(p.amount, kind = 'tax') AS taxes,
    sum(p.amount) AS balance
FROM settlement_postings AS p
GROUP BY currency
ORDER BY currency

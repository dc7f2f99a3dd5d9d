-- For each currency: what was settled, how much of it is tax, and the sum over all legs of the books (zero).
SELECT
    currency,
    count(DISTINCT if(entry_kind IN ('payment', 'rounding'), NULL, entry_id)) AS settlement_entries,
    sumIf(p.amount, kind = 'payable' AND entry_kind NOT IN ('payment', 'rounding')) AS amount,
    -sumIf(p.amount, kind = 'revenue') AS before_taxes,
    -sumIf(p.amount, kind = 'tax') AS taxes,
    sum(p.amount) AS balance
FROM settlement_postings AS p
GROUP BY currency
ORDER BY currency

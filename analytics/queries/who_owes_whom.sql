-- What each debtor owes each creditor, taxes included, with what the creditor owes in return taken off (net).
SELECT
    debtor, creditor, currency,
    sumIf(owed, forth) AS amount,
    sum(if(forth, owed, -owed)) AS net,
    countIf(forth) AS settlement_entries
FROM
(
    SELECT debtor, creditor, currency, amount AS owed, true AS forth FROM settlement_entries
    UNION ALL
    SELECT e.creditor AS debtor, e.debtor AS creditor, e.currency, e.amount AS owed, false AS forth
    FROM settlement_entries AS e
)
GROUP BY debtor, creditor, currency
HAVING settlement_entries > 0
ORDER BY currency, net DESC, debtor, creditor

-- The ledger's invariants, a row for each currency. In sound books every column but entries is zero.
--   balance         the sum over all legs
--   unbalanced      entries whose own legs do not sum to zero
--   misnumbered     numbers that are missing in a book, or used twice
--   posted_twice    claims with more than one posting that stands
--   over_credited   CDRs of which more was credited than was settled
--   misstated       closed statements that are not the sum of their lines, or do not open where the last closed
WITH
    entries AS
    (
        SELECT * FROM ledger_entry_versions FINAL
    ),
    standing AS
    (
        SELECT currency, claim, coalesce(credit_of, claim) AS original, kind, amount FROM entries
        WHERE kind NOT IN ('payment', 'rounding') AND reverses IS NULL
            AND id NOT IN (SELECT assumeNotNull(reverses) FROM entries WHERE reverses IS NOT NULL)
    ),
    lines AS
    (
        SELECT
            statement,
            sumIf(amount, kind != 'payment') AS charged,
            -sumIf(amount, kind = 'payment') AS paid,
            countIf(kind != 'rounding') AS number
        FROM entries
        GROUP BY statement
    ),
    chained AS
    (
        SELECT
            *,
            lagInFrame(closing, 1, toDecimal128(0, 9)) OVER (
                PARTITION BY creditor, debtor, currency ORDER BY closed_at, period_start
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS last_closing
        FROM statement_versions FINAL
    )
SELECT
    currency,
    sum(found.1) AS entries,
    sum(found.2) AS balance,
    sum(found.3) AS unbalanced,
    sum(found.4) AS misnumbered,
    sum(found.5) AS posted_twice,
    sum(found.6) AS over_credited,
    sum(found.7) AS misstated
FROM
(
    SELECT
        currency,
        (count(), sum(arraySum(leg -> leg.amount, legs)), countIf(arraySum(leg -> leg.amount, legs) != 0),
            toInt64(0), 0, 0, 0) AS found
    FROM entries GROUP BY currency
    UNION ALL
    SELECT
        currency,
        (0, toDecimal128(0, 9), 0, max(sequence) - uniqExact(sequence) + count() - uniqExact(sequence), 0, 0, 0)
    FROM entries GROUP BY creditor, debtor, currency
    UNION ALL
    SELECT currency, (0, toDecimal128(0, 9), 0, toInt64(0), count() > 1 ? 1 : 0, 0, 0)
    FROM standing GROUP BY currency, claim
    UNION ALL
    SELECT currency, (0, toDecimal128(0, 9), 0, toInt64(0), 0, sum(amount) < 0 ? 1 : 0, 0)
    FROM standing GROUP BY currency, original HAVING sumIf(amount, claim = original) >= 0
    UNION ALL
    SELECT
        c.currency,
        (0, toDecimal128(0, 9), 0, toInt64(0), 0, 0,
            c.total != l.charged OR c.payments != l.paid OR c.entries != l.number
            OR c.opening != c.last_closing OR c.closing != c.opening + c.total - c.payments ? 1 : 0)
    FROM chained AS c LEFT JOIN lines AS l ON l.statement = c.reference
)
GROUP BY currency
ORDER BY currency

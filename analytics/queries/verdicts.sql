-- How many bills got which verdict, and by how much they are off. Positive: charged too much.
SELECT verdict, currency, count() AS cdrs, sum(difference) AS difference
FROM priced_cdrs
WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
GROUP BY verdict, currency
ORDER BY verdict, currency

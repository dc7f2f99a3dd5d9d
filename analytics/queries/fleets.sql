-- Fleets: tokens of a provider that share a group_id.
SELECT
    country_code, party_id,
    any(t.group_id) AS group_id,
    count() AS tokens,
    countIf(valid) AS valid_tokens,
    uniqExact(contract_id) AS contracts
FROM tokens AS t
WHERE t.group_id != ''
GROUP BY country_code, party_id, upper(t.group_id)
ORDER BY country_code, party_id, group_id

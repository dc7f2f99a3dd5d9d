-- EVSEs by the time they were occupied.
SELECT
    u.country_code AS country_code, u.party_id AS party_id, u.location_id AS location_id, u.evse_uid AS evse_uid,
    sum(u.occupied_seconds) / 3600 AS occupied_hours,
    sum(u.charging_seconds) / 3600 AS charging_hours,
    sum(u.kwh) AS kwh
FROM evse_utilisation_hourly AS u
WHERE (u.location_id = {location_id:String} OR {location_id:String} = '')
    AND u.hour >= {since:DateTime64(6, 'UTC')} AND u.hour < {until:DateTime64(6, 'UTC')}
GROUP BY country_code, party_id, location_id, evse_uid
ORDER BY occupied_hours DESC, country_code, party_id, location_id, evse_uid
LIMIT {limit:UInt32}

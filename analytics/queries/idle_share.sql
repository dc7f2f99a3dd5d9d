-- For each location: the share of the time its EVSEs were occupied in which they did not charge.
SELECT
    u.country_code AS country_code, u.party_id AS party_id, u.location_id AS location_id,
    uniqExact(u.evse_uid) AS evses,
    sum(u.occupied_seconds) / 3600 AS occupied_hours,
    sum(u.charging_seconds) / 3600 AS charging_hours,
    sum(u.kwh) AS kwh,
    if(occupied_hours = 0, 0, 1 - toFloat64(charging_hours) / toFloat64(occupied_hours)) AS idle_share
FROM evse_utilisation_hourly AS u
WHERE (u.location_id = {location_id:String} OR {location_id:String} = '')
    AND u.hour >= {since:DateTime64(6, 'UTC')} AND u.hour < {until:DateTime64(6, 'UTC')}
GROUP BY country_code, party_id, location_id
ORDER BY country_code, party_id, location_id

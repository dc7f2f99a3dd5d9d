-- Heat map: for each hour of the week (weekday 1 is Monday), by the clock of a time zone, how many EVSEs were
-- occupied on average, over all such hours from the first to the last that saw a session. Weeks (from Monday)
-- without any session are left out: nothing was recorded then.
WITH
    used AS
    (
        SELECT
            toUnixTimestamp(u.hour) AS begin,
            sum(u.occupied_seconds) AS occupied, sum(u.charging_seconds) AS charging,
            sum(u.kwh) AS energy
        FROM evse_utilisation_hourly AS u
        WHERE (u.location_id = {location_id:String} OR {location_id:String} = '')
            AND u.hour >= {since:DateTime64(6, 'UTC')} AND u.hour < {until:DateTime64(6, 'UTC')}
        GROUP BY begin
    ),
    bounds AS
    (
        SELECT min(begin) AS first_begin, max(begin) AS last_begin FROM used HAVING count() > 0
    ),
    clock AS
    (
        SELECT
            arrayJoin(range(first_begin, last_begin + 1, 3600)) AS begin,
            toMonday(toDateTime(begin, {time_zone:String})) AS week
        FROM bounds
        WHERE week IN (SELECT toMonday(toDateTime(used.begin, {time_zone:String})) FROM used)
    )
SELECT
    toDayOfWeek(toDateTime(clock.begin, {time_zone:String})) AS weekday,
    toHour(toDateTime(clock.begin, {time_zone:String})) AS hour,
    count() AS hours,
    sum(used.occupied) AS occupied_seconds,
    sum(used.charging) AS charging_seconds,
    sum(used.energy) AS kwh,
    toFloat64(occupied_seconds) / 3600 / hours AS occupied_evses
FROM clock LEFT JOIN used ON used.begin = clock.begin
GROUP BY weekday, hour
ORDER BY weekday, hour

-- How each EVSE was used, hour by hour in UTC. Sessions are spread over the hours they lie in, exactly:
-- the sums over all hours are the sums over the counted sessions, to the microsecond and the 10^-9 kWh.
--
-- A session falls into pieces: itself, which says how long the EVSE was occupied, and its charging periods,
-- which say when it charged and where the energy goes. A session's kwh is shared among its periods in
-- proportion to theirs (as a rule they add up to it, and each gets its own), or goes to the session as a whole
-- when no period has any. Within a piece, energy is spread by time.
--
-- Shares are differences of running totals, each rounded down to a unit of 10^-9 kWh, so that what one hour
-- loses in rounding the next one gets. All in whole microseconds and units: Int256 cannot overflow here.
CREATE OR REPLACE VIEW evse_utilisation_hourly AS
WITH
    3600000000 AS an_hour,
    counted_sessions AS
    (
        SELECT
            country_code, party_id, location_id, evse_uid,
            toUnixTimestamp64Micro(s.started_at) AS begin,
            toUnixTimestamp64Micro(greatest(s.started_at, coalesce(s.ended_at, s.last_updated))) AS end,
            greatest(begin, end - 1) AS last_instant,
            toInt256(reinterpretAsInt128(s.kwh)) AS energy,
            arrayMap(p -> greatest(toInt256(reinterpretAsInt128(p.kwh)), toInt256(0)), s.periods) AS weights,
            arrayCumSum(weights) AS running,
            if(empty(running), toInt256(0), running[-1]) AS whole,
            arrayMap(
                r -> if(whole = energy OR whole = 0, r, intDiv(energy * r, if(whole = 0, toInt256(1), whole))),
                running) AS shared,
            arrayMap(
                (p, upto, before) -> (
                    least(greatest(toUnixTimestamp64Micro(p.started_at), begin), end),
                    least(greatest(toUnixTimestamp64Micro(p.ended_at), begin), end),
                    false, p.charging, upto - before),
                s.periods, shared, arrayPopBack(arrayPushFront(shared, toInt256(0)))) AS of_periods,
            arrayPushFront(
                of_periods, (begin, end, true, false, if(whole = 0, energy, toInt256(0)))) AS pieces
        FROM
        (
            SELECT * FROM session_versions FINAL
        ) AS s
        WHERE s.status IN ('ACTIVE', 'COMPLETED')
            AND begin >= 0 AND end < 4102444800000000 AND end - begin <= 366 * 24 * an_hour
    ),
    of_hours AS
    (
        SELECT
            country_code, party_id, location_id, evse_uid,
            piece.1 AS begin,
            greatest(piece.1, piece.2) AS end,
            piece.3 AS is_session,
            piece.4 AS is_charging,
            piece.5 AS energy,
            hour_number,
            greatest(begin, hour_number * an_hour) AS here_from,
            least(end, (hour_number + 1) * an_hour) AS here_until
        FROM counted_sessions
        ARRAY JOIN pieces AS piece
        ARRAY JOIN range(
            intDiv(least(piece.1, last_instant), an_hour),
            intDiv(least(greatest(piece.1, piece.2 - 1), last_instant), an_hour) + 1) AS hour_number
    )
SELECT
    country_code, party_id, location_id, evse_uid,
    toDateTime(hour_number * 3600, 'UTC') AS hour,
    toDecimal128(sumIf(here_until - here_from, is_session), 6) / 1000000 AS occupied_seconds,
    toDecimal128(sumIf(here_until - here_from, is_charging), 6) / 1000000 AS charging_seconds,
    reinterpret(
        toInt128(sum(if(
            end = begin,
            energy,
            intDiv(energy * (here_until - begin), greatest(end - begin, 1))
                - intDiv(energy * (here_from - begin), greatest(end - begin, 1))))),
        'Decimal(38, 9)') AS kwh,
    countIf(is_session) AS sessions
FROM of_hours
GROUP BY country_code, party_id, location_id, evse_uid, hour_number;

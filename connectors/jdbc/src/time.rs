//! Points in time: database text to instants and back.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// A point in time with nanoseconds.
pub type Moment = DateTime<Utc>;

/// Reads `2024-01-02 03:04:05.678`, with `T` for the blank, a fraction of any length and an offset such as `+02` or
/// `Z`, each if present. A wall clock without offset is one of `zone`.
pub fn parse_moment(text: &str, zone: Tz) -> Option<Moment> {
    let text = text.trim();
    if text == "infinity" || text == "-infinity" {
        return None;
    }
    let (date, rest) = match text.find([' ', 'T']) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, "00:00:00"),
    };
    let date = parse_date(date)?;
    let (clock, offset) = match rest.find(['+', '-', 'Z']) {
        Some(at) => (&rest[..at], Some(&rest[at..])),
        None => (rest, None),
    };
    let wall = date.and_time(parse_clock(clock.trim())?);
    match offset {
        None => wall_to_moment(wall, zone),
        Some("Z") => Some(wall.and_utc()),
        Some(offset) => {
            let sign = if offset.starts_with('-') { -1 } else { 1 };
            let mut seconds = 0;
            for (part, unit) in offset[1..].split(':').zip([3600, 60, 1]) {
                seconds += part.parse::<i64>().ok()? * unit;
            }
            wall.checked_sub_signed(TimeDelta::try_seconds(sign * seconds)?).map(|utc| utc.and_utc())
        }
    }
}

/// A date, four digits of the year or more.
pub fn parse_date(text: &str) -> Option<NaiveDate> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
}

/// `HH:MM[:SS[.fraction]]`.
pub fn parse_clock(text: &str) -> Option<NaiveTime> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':');
    let hour = parts.next()?.parse().ok()?;
    let minute = parts.next()?.parse().ok()?;
    let second = parts.next().map_or(Some(0), |s| s.parse().ok())?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    NaiveTime::from_hms_nano_opt(hour, minute, second, digits.parse().ok()?)
}

/// Milliseconds since midnight of `[-]HHH:MM:SS[.fraction]`; MySQL's times reach beyond a day and below zero.
pub fn parse_time_of_day(text: &str) -> Option<i64> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let clock = text.split(['+', '-']).next().unwrap_or(text);
    let (hour, rest) = clock.split_once(':')?;
    let within = parse_clock(&format!("0:{rest}"))?.signed_duration_since(NaiveTime::MIN);
    Some(sign * (hour.parse::<i64>().ok()?.checked_mul(3_600_000)? + within.num_milliseconds()))
}

/// The first instant at which clocks in `zone` show `wall`; in a gap, the instant after it.
pub fn wall_to_moment(wall: NaiveDateTime, zone: Tz) -> Option<Moment> {
    if zone == Tz::UTC {
        return Some(wall.and_utc());
    }
    let local = zone.from_local_datetime(&wall);
    let found = local
        .earliest()
        .or_else(|| zone.from_local_datetime(&wall.checked_add_signed(TimeDelta::try_hours(1)?)?).earliest());
    found.map(|moment| moment.with_timezone(&Utc))
}

/// `2024-01-02 03:04:05.678901` with `digits` of the fraction, on clocks in `zone`.
pub fn wall_text(moment: Moment, zone: Tz, digits: usize) -> String {
    let wall = match zone {
        Tz::UTC => moment.naive_utc(),
        zone => {
            let offset = zone.offset_from_utc_datetime(&moment.naive_utc()).fix();
            moment.naive_utc() + TimeDelta::seconds(i64::from(offset.local_minus_utc()))
        }
    };
    let fraction = format!("{:09}", wall.and_utc().timestamp_subsec_nanos());
    format!("{}.{}", wall.format("%Y-%m-%d %H:%M:%S"), &fraction[..digits])
}

/// Rounded to milliseconds, halves up: how SQLite's date functions see it.
pub fn rounded_to_millis(moment: Moment) -> Moment {
    let micros = moment.timestamp_micros();
    DateTime::from_timestamp_millis((micros + 500).div_euclid(1000)).unwrap_or(moment)
}

/// Days since 1970-01-01.
pub fn epoch_days(date: NaiveDate) -> i32 {
    date.num_days_from_ce() - NaiveDate::from_ymd_opt(1970, 1, 1).map_or(0, |d| d.num_days_from_ce())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_text_becomes_an_instant() {
        for (text, zone, expected) in [
            ("2024-01-02 03:04:05", Tz::UTC, "2024-01-02T03:04:05Z"),
            ("2024-01-02T03:04:05.123456789Z", Tz::UTC, "2024-01-02T03:04:05.123456789Z"),
            ("2024-01-02 03:04:05.5+02", Tz::UTC, "2024-01-02T01:04:05.5Z"),
            ("2024-01-02 03:04:05-05:30", Tz::UTC, "2024-01-02T08:34:05Z"),
            ("2024-07-01 12:00:00", Tz::Europe__Paris, "2024-07-01T10:00:00Z"),
            ("2024-07-01", Tz::UTC, "2024-07-01T00:00:00Z"),
            ("1969-12-31 23:59:59.999", Tz::UTC, "1969-12-31T23:59:59.999Z"),
        ] {
            let expected = DateTime::parse_from_rfc3339(expected).expect("a time").with_timezone(&Utc);
            assert_eq!(parse_moment(text, zone), Some(expected), "{text}");
        }
        for text in ["", "now", "2024-13-01", "2024-01-01 25:00:00", "0000-00-00 00:00:00", "infinity"] {
            assert_eq!(parse_moment(text, Tz::UTC), None, "{text}");
        }
    }

    #[test]
    fn literals_read_back_the_same() {
        for zone in [Tz::UTC, Tz::America__New_York, Tz::Asia__Kolkata] {
            for text in ["2024-01-02 03:04:05.123456", "1960-06-01 00:00:00.000001"] {
                let moment = parse_moment(text, zone).expect("a time");
                assert_eq!(wall_text(moment, zone, 6), text);
            }
        }
    }

    #[test]
    fn times_of_day_may_be_long_or_negative() {
        assert_eq!(parse_time_of_day("01:02:03.5"), Some(3_723_500));
        assert_eq!(parse_time_of_day("-838:59:59"), Some(-3_020_399_000));
        assert_eq!(parse_time_of_day("12:00:00+02"), Some(43_200_000));
        assert_eq!(parse_time_of_day("noon"), None);
    }

    #[test]
    fn days_count_from_1970() {
        assert_eq!(epoch_days(parse_date("1970-01-02").expect("a date")), 1);
        assert_eq!(epoch_days(parse_date("1969-12-31").expect("a date")), -1);
    }
}

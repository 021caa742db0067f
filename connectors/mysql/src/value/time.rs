//! Calendar arithmetic in UTC.

use super::{CivilDate, CivilTime};

impl CivilDate {
    /// Whether month or day is zero: no day of the calendar.
    pub fn is_zero(&self) -> bool {
        self.month == 0 || self.day == 0
    }

    /// With years of one or two digits moved into 1970 to 2069, as the reference does by default.
    #[must_use]
    pub fn adjusted(mut self) -> Self {
        match self.year {
            0..=69 => self.year += 2000,
            70..=99 => self.year += 1900,
            _ => {}
        }
        self
    }

    /// Days since 1970-01-01 in the proleptic Gregorian calendar.
    pub fn days(&self) -> i64 {
        let year = i64::from(self.year) - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let month = (i64::from(self.month) + 9) % 12;
        let of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }

    /// The day that is `days` after 1970-01-01.
    pub fn from_days(days: i64) -> Self {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = (of_year - (153 * month + 2) / 5 + 1) as u8;
        let month = if month < 10 { month + 3 } else { month - 9 } as u8;
        let year = year + era * 400 + i64::from(month <= 2);
        Self { year: year.clamp(0, 9999) as u32, month, day }
    }
}

impl CivilTime {
    pub fn micros_of_day(&self) -> i64 {
        let seconds = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        seconds * 1_000_000 + i64::from(self.micros)
    }
}

/// `2018-06-20T06:37:03.120Z` with `precision` digits of a second.
pub fn zoned_text(seconds: i64, micros: u32, precision: u8) -> String {
    let date = CivilDate::from_days(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        date.year,
        date.month,
        date.day,
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    );
    if precision > 0 {
        text.push_str(&format!(".{micros:06}")[..1 + usize::from(precision.min(6))]);
    }
    text.push('Z');
    text
}

/// Reads `YYYY-MM-DD`, with a time of day behind it or without; the time may have a fraction.
pub fn parse_date_time(text: &str) -> Option<(CivilDate, CivilTime)> {
    let (date, time) = match text.split_once([' ', 'T']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let date = CivilDate {
        year: parts.next()?.parse().ok()?,
        month: parts.next()?.parse().ok()?,
        day: parts.next()?.parse().ok()?,
    };
    let time = match time {
        None => CivilTime::default(),
        Some(time) => {
            let micros = u64::try_from(parse_time(time)?).ok()?;
            let seconds = micros / 1_000_000;
            CivilTime {
                hour: u8::try_from(seconds / 3600).ok()?,
                minute: (seconds / 60 % 60) as u8,
                second: (seconds % 60) as u8,
                micros: (micros % 1_000_000) as u32,
            }
        }
    };
    Some((date, time))
}

/// Reads `[-]H:MM[:SS[.ffffff]]` as microseconds.
pub fn parse_time(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut seconds = 0i64;
    let mut unit = 3600;
    for part in clock.split(':') {
        seconds += part.parse::<i64>().ok().filter(|n| (0..100_000).contains(n))? * unit;
        unit /= 60;
    }
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    Some(sign * (seconds * 1_000_000 + digits.parse::<i64>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_back() {
        for (year, month, day, days) in [
            (1970, 1, 1, 0),
            (2018, 6, 20, 17_702),
            (2000, 2, 29, 11_016),
            (1000, 1, 1, -354_285),
            (9999, 12, 31, 2_932_896),
        ] {
            let date = CivilDate { year, month, day };
            assert_eq!(date.days(), days);
            assert_eq!(CivilDate::from_days(days), date);
        }
    }

    #[test]
    fn text_keeps_the_precision_of_the_column() {
        assert_eq!(zoned_text(1_529_476_623, 120_000, 3), "2018-06-20T06:37:03.120Z");
        assert_eq!(zoned_text(1_529_476_623, 0, 0), "2018-06-20T06:37:03Z");
        assert_eq!(zoned_text(-1, 999_999, 6), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn parses_what_the_server_prints() {
        assert_eq!(parse_time("-838:59:59.5"), Some(-3_020_399_500_000));
        assert_eq!(parse_time("12:13:14"), Some(43_994_000_000));
        assert_eq!(parse_time("x"), None);
        let (date, time) = parse_date_time("2021-03-04 05:06:07.123456").unwrap();
        assert_eq!(date.days() * 86_400_000_000 + time.micros_of_day(), 1_614_834_367_123_456);
        assert!(parse_date_time("2021-03").is_none());
    }
}

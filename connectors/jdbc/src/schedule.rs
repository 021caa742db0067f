//! When to poll: every so often, or by a cron expression.

use std::str::FromStr;
use std::time::Duration;

use chrono::Utc;
use chrono_tz::Tz;
use tokio::time::Instant;

/// When a table's next query is due.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// This long after the query before was started.
    Every(Duration),
    /// At the times of a cron expression, on clocks of a time zone.
    Cron(Box<cron::Schedule>, Tz),
}

impl Schedule {
    /// When the first query is due, after the start of the task.
    pub fn first(&self) -> Instant {
        match self {
            Self::Every(_) => Instant::now(),
            Self::Cron(..) => self.after(Instant::now()),
        }
    }

    /// When the next query is due, if the last was started at `last`.
    pub fn after(&self, last: Instant) -> Instant {
        match self {
            Self::Every(interval) => last + *interval,
            Self::Cron(schedule, zone) => {
                let now = Utc::now().with_timezone(zone);
                let wait = schedule.after(&now).next().and_then(|next| (next - now).to_std().ok());
                // An expression may name a year that has passed: a day is long enough to look again.
                Instant::now() + wait.unwrap_or(Duration::from_hours(24))
            }
        }
    }
}

/// Reads a cron expression: `minute hour day month weekday`, with seconds before and a year behind if wanted.
///
/// In five fields weekdays count as cron does, 0 and 7 being Sunday. With seconds they count from 1, which is Sunday, as
/// in Quartz. Names (`MON`) mean the same in both.
///
/// # Errors
/// What is wrong with it.
pub fn parse_cron(text: &str) -> Result<cron::Schedule, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let full = match fields[..] {
        [minute, hour, day, month, weekday] => {
            format!("0 {minute} {hour} {day} {month} {}", quartz_weekdays(weekday)?)
        }
        [..] if fields.len() == 6 || fields.len() == 7 => fields.join(" "),
        _ => {
            return Err(format!(
                "a cron expression has 5 fields (minute hour day month weekday), 6 with seconds before them or 7 with a \
                 year behind; this has {}",
                fields.len()
            ));
        }
    };
    cron::Schedule::from_str(&full).map_err(|e| format!("not a cron expression: {e}"))
}

/// Weekdays of cron as a list of Quartz's; other forms are left alone.
fn quartz_weekdays(field: &str) -> Result<String, String> {
    let days: Vec<String> = field.split(',').map(quartz_weekday_item).collect::<Result<_, _>>()?;
    Ok(days.join(","))
}

fn quartz_weekday_item(item: &str) -> Result<String, String> {
    let (range, step) = item.split_once('/').unwrap_or((item, "1"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse::<u8>(), last.parse::<u8>()) else {
        return Ok(item.to_owned());
    };
    let step: usize = step.parse().ok().filter(|s| *s > 0).ok_or_else(|| format!("bad step in {item}"))?;
    if last > 7 || first > last {
        return Err(format!("weekdays {range} are not within 0-7"));
    }
    let days: Vec<String> = (first..=last).step_by(step).map(|day| (day % 7 + 1).to_string()).collect();
    Ok(days.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    fn next(text: &str, from: (i32, u32, u32, u32, u32, u32)) -> String {
        let (y, mo, d, h, mi, s) = from;
        let from = Utc.with_ymd_and_hms(y, mo, d, h, mi, s).single().expect("a time");
        let schedule = parse_cron(text).expect(text);
        schedule.after(&from).next().expect("a next time").format("%F %T").to_string()
    }

    #[test]
    fn expressions_mean_what_they_say() {
        // 2024-01-01 is a Monday.
        let monday = (2024, 1, 1, 0, 0, 0);
        assert_eq!(next("*/5 * * * *", monday), "2024-01-01 00:05:00");
        assert_eq!(next("*/10 * * * * *", monday), "2024-01-01 00:00:10");
        assert_eq!(next("30 6 * * 0", monday), "2024-01-07 06:30:00");
        assert_eq!(next("30 6 * * 7", monday), "2024-01-07 06:30:00");
        assert_eq!(next("30 6 * * 2-3", monday), "2024-01-02 06:30:00");
        assert_eq!(next("30 6 * * SAT", monday), "2024-01-06 06:30:00");
        assert_eq!(next("0 30 6 * * 1", monday), "2024-01-07 06:30:00");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "* * * *", "61 * * * *", "* * * * 9", "a b c d e"] {
            assert!(parse_cron(text).is_err(), "{text}");
        }
    }
}

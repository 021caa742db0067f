//! Dates as text, by the pattern letters of Java's `SimpleDateFormat`: in UTC, in English, reading leniently.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike as _, NaiveDate, Timelike as _, Utc, Weekday};

/// Milliseconds of a day.
pub const DAY: i64 = 24 * 60 * 60 * 1000;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const LETTERS: &str = "GyYMLwWDdFEuaHkKhmsSzZX";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A letter and how often it stands there.
    Field(char, usize),
}

/// A pattern, taken apart.
#[derive(Debug, Clone, Default)]
pub struct DateFormat {
    pattern: String,
    parts: Vec<Part>,
}

/// Text of a date, time or timestamp, whichever the number looks like.
pub fn of_its_look(millis: i64) -> String {
    let pattern = if millis < DAY {
        "HH:mm:ss.SSS'Z'"
    } else if millis % DAY == 0 {
        "yyyy-MM-dd"
    } else {
        "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"
    };
    DateFormat::new(pattern).map(|format| format.format(millis)).unwrap_or_default()
}

impl DateFormat {
    /// Takes a pattern apart; the error says which part of it is none.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let text = |parts: &mut Vec<Part>, c: char| match parts.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => parts.push(Part::Text(c.to_string())),
        };
        let mut quoted = false;
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    text(&mut parts, '\'');
                }
                '\'' => quoted = !quoted,
                c if quoted || !c.is_ascii_alphabetic() => text(&mut parts, c),
                c if LETTERS.contains(c) => match parts.last_mut() {
                    Some(Part::Field(letter, count)) if *letter == c => *count += 1,
                    _ => parts.push(Part::Field(c, 1)),
                },
                c => return Err(format!("Illegal pattern character '{c}'")),
            }
        }
        if quoted {
            return Err("Unterminated quote".to_owned());
        }
        Ok(Self { pattern: pattern.to_owned(), parts })
    }

    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The text of a moment, in milliseconds since 1970.
    pub fn format(&self, millis: i64) -> String {
        let mut out = String::new();
        let Some(at) = DateTime::<Utc>::from_timestamp_millis(millis) else { return millis.to_string() };
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(letter, count) => write_field(&mut out, *letter, *count, &at),
            }
        }
        out
    }

    /// The moment of a text, in milliseconds since 1970; text after the pattern's end is passed over.
    pub fn parse(&self, text: &str) -> Option<i64> {
        let mut found = Found::default();
        let mut rest = text;
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Text(expected) => rest = rest.strip_prefix(expected.as_str())?,
                Part::Field(letter, count) => {
                    // Numbers that stand against each other have their width, others end where digits end.
                    let abutting = matches!(self.parts.get(index + 1), Some(Part::Field(next, n)) if is_number(*next, *n));
                    rest = rest.trim_start_matches([' ', '\t']);
                    rest = found.read(*letter, *count, abutting, rest)?;
                }
            }
        }
        found.millis()
    }
}

fn is_number(letter: char, count: usize) -> bool {
    !(matches!(letter, 'G' | 'E' | 'a' | 'z' | 'Z' | 'X') || matches!(letter, 'M' | 'L') && count > 2)
}

fn write_field(out: &mut String, letter: char, count: usize, at: &DateTime<Utc>) {
    let weekday = at.weekday().num_days_from_monday() as usize;
    let number = match letter {
        'G' => return out.push_str(if at.year() > 0 { "AD" } else { "BC" }),
        'M' | 'L' if count >= 4 => return out.push_str(MONTHS[at.month0() as usize]),
        'M' | 'L' if count == 3 => return out.push_str(&MONTHS[at.month0() as usize][..3]),
        'E' if count >= 4 => return out.push_str(DAYS[weekday]),
        'E' => return out.push_str(&DAYS[weekday][..3]),
        'a' => return out.push_str(if at.hour() < 12 { "AM" } else { "PM" }),
        'z' if count >= 4 => return out.push_str("Coordinated Universal Time"),
        'z' => return out.push_str("UTC"),
        'Z' => return out.push_str("+0000"),
        'X' => return out.push('Z'),
        'y' | 'Y' => {
            let year = if letter == 'y' { at.year() } else { week(at).0 };
            // Java counts years before the era from 1.
            let year = if year > 0 { year } else { 1 - year };
            if count == 2 { year % 100 } else { year }
        }
        'M' | 'L' => at.month() as i32,
        'w' => week(at).1,
        'W' => (at.day0() as i32 + sunday_based(at.with_day(1).unwrap_or(*at).weekday())) / 7 + 1,
        'D' => at.ordinal() as i32,
        'd' => at.day() as i32,
        'F' => at.day0() as i32 / 7 + 1,
        'u' => weekday as i32 + 1,
        'H' => at.hour() as i32,
        'k' => {
            if at.hour() == 0 {
                24
            } else {
                at.hour() as i32
            }
        }
        'K' => at.hour() as i32 % 12,
        'h' => at.hour12().1 as i32,
        'm' => at.minute() as i32,
        's' => at.second() as i32,
        _ => at.timestamp_subsec_millis() as i32,
    };
    let _ = write!(out, "{number:0count$}");
}

fn sunday_based(weekday: Weekday) -> i32 {
    weekday.num_days_from_sunday() as i32
}

/// Year and number of the week, which begins on Sunday; the first week is the one of the first of January.
fn week(at: &DateTime<Utc>) -> (i32, i32) {
    let to_saturday = 6 - sunday_based(at.weekday());
    let days = NaiveDate::from_ymd_opt(at.year(), 12, 31).map_or(365, |last| last.ordinal() as i32);
    if at.ordinal() as i32 + to_saturday > days {
        return (at.year() + 1, 1);
    }
    let first = NaiveDate::from_ymd_opt(at.year(), 1, 1).map_or(0, |first| sunday_based(first.weekday()));
    (at.year(), (at.ordinal0() as i32 + first) / 7 + 1)
}

/// What has been read so far; what is missing is as on 1970-01-01T00:00:00Z.
#[derive(Debug, Default)]
struct Found {
    year: Option<i64>,
    before_era: bool,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: i64,
    hour12: Option<i64>,
    afternoon: bool,
    minute: i64,
    second: i64,
    millis: i64,
    offset_minutes: i64,
}

impl Found {
    fn read<'a>(&mut self, letter: char, count: usize, abutting: bool, text: &'a str) -> Option<&'a str> {
        match letter {
            'G' => {
                return word(text, &["BC", "AD"]).map(|(index, rest)| {
                    self.before_era = index == 0;
                    rest
                });
            }
            'E' => return name(text, &DAYS).map(|(_, rest)| rest),
            'a' => {
                return word(text, &["AM", "PM"]).map(|(index, rest)| {
                    self.afternoon = index == 1;
                    rest
                });
            }
            'M' | 'L' if count > 2 => {
                return name(text, &MONTHS).map(|(index, rest)| {
                    self.month = Some(index as i64 + 1);
                    rest
                });
            }
            'z' | 'Z' | 'X' => {
                return zone(text).map(|(minutes, rest)| {
                    self.offset_minutes = minutes;
                    rest
                });
            }
            _ => {}
        }
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        let length = if abutting { length.min(count) } else { length };
        let number = sign * digits.get(..length)?.parse::<i64>().ok()?;
        match letter {
            'y' | 'Y' => {
                let short = count <= 2 && length == 2 && sign > 0;
                self.year = Some(if short { full_year(number, Utc::now().year().into()) } else { number });
            }
            'M' | 'L' => self.month = Some(number),
            'd' => self.day = Some(number),
            'D' => self.day_of_year = Some(number),
            'H' => self.hour = number,
            'k' => self.hour = if number == 24 { 0 } else { number },
            'K' => self.hour12 = Some(number),
            'h' => self.hour12 = Some(if number == 12 { 0 } else { number }),
            'm' => self.minute = number,
            's' => self.second = number,
            'S' => self.millis = number,
            // Weeks and weekdays say nothing that the date does not say.
            _ => {}
        }
        Some(&digits[length..])
    }

    /// Fields beyond their range carry over into the next larger one.
    fn millis(&self) -> Option<i64> {
        let year = self.year.unwrap_or(1970);
        let year = if self.before_era { 1 - year } else { year };
        let months = match self.day_of_year {
            Some(_) if self.month.is_none() => 0,
            _ => self.month.unwrap_or(1) - 1,
        };
        let first = NaiveDate::from_ymd_opt(
            i32::try_from(year.checked_add(months.div_euclid(12))?).ok()?,
            months.rem_euclid(12) as u32 + 1,
            1,
        )?;
        let day = match (self.day, self.day_of_year) {
            (None, Some(day)) if self.month.is_none() => day,
            (day, _) => day.unwrap_or(1),
        };
        let midnight = first.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis();
        let hour = match self.hour12 {
            Some(hour) => hour + if self.afternoon { 12 } else { 0 },
            None => self.hour,
        };
        let minutes = hour.checked_mul(60)?.checked_add(self.minute)?.checked_sub(self.offset_minutes)?;
        let seconds = minutes.checked_mul(60)?.checked_add(self.second)?;
        let within = seconds.checked_mul(1000)?.checked_add(self.millis)?;
        midnight.checked_add(day.checked_sub(1)?.checked_mul(DAY)?)?.checked_add(within)
    }
}

/// Two digits mean the year that is at most 80 years back or 20 ahead.
fn full_year(two: i64, now: i64) -> i64 {
    let from = now - 80;
    from + (two - from).rem_euclid(100)
}

fn word<'a>(text: &'a str, words: &[&str]) -> Option<(usize, &'a str)> {
    words.iter().enumerate().find_map(|(index, word)| {
        let head = text.get(..word.len())?;
        head.eq_ignore_ascii_case(word).then(|| (index, &text[word.len()..]))
    })
}

/// A name in full or by its first three letters.
fn name<'a>(text: &'a str, names: &[&str]) -> Option<(usize, &'a str)> {
    let short: Vec<&str> = names.iter().map(|name| &name[..3]).collect();
    word(text, names).or_else(|| word(text, &short))
}

/// Minutes east of UTC: `Z`, `UTC`, `GMT`, `+HHMM`, `+HH:MM`, `+HH`, the last three after `GMT` or `UTC`, too.
fn zone(text: &str) -> Option<(i64, &str)> {
    if let Some(rest) = text.strip_prefix('Z') {
        return Some((0, rest));
    }
    let (named, rest) = match word(text, &["GMT", "UTC"]) {
        Some((_, rest)) => (true, rest),
        None => (false, text),
    };
    let sign = match rest.chars().next() {
        Some('+') => 1,
        Some('-') => -1,
        _ => return named.then_some((0, rest)),
    };
    let digits = &rest[1..];
    let hours_length = digits.bytes().take(2).take_while(u8::is_ascii_digit).count();
    let hours: i64 = digits[..hours_length].parse().ok()?;
    let after = &digits[hours_length..];
    let minutes_text = after.strip_prefix(':').unwrap_or(after);
    match minutes_text.get(..2).and_then(|text| text.parse::<i64>().ok()) {
        Some(minutes) => Some((sign * (hours * 60 + minutes), &minutes_text[2..])),
        None => Some((sign * hours * 60, after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: i64 = 1_700_000_000_123; // 2023-11-14T22:13:20.123Z, a Tuesday

    fn format(pattern: &str) -> DateFormat {
        DateFormat::new(pattern).expect("a good pattern")
    }

    #[test]
    fn patterns_write() {
        for (pattern, text) in [
            ("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", "2023-11-14T22:13:20.123Z"),
            ("yyyyMMdd", "20231114"),
            ("EEE, d MMM yy h:mm a z", "Tue, 14 Nov 23 10:13 PM UTC"),
            (
                "EEEE MMMM ''DDD'' ww YYYY u W F k K X Z G",
                "Tuesday November '318' 46 2023 2 3 2 22 10 Z +0000 AD",
            ),
        ] {
            assert_eq!(format(pattern).format(MOMENT), text, "{pattern}");
        }
        assert_eq!(
            format("YYYY-ww").format(1_704_000_000_000),
            "2024-01",
            "2023-12-31 is in the first week of 2024"
        );
    }

    #[test]
    fn patterns_read_what_they_write() {
        for pattern in [
            "yyyy-MM-dd HH:mm:ss.SSS",
            "yyyyMMddHHmmssSSS",
            "d MMM yyyy hh:mm:ss.SSS a XXX",
            "yyyy DDD HH:mm:ss.SSS",
        ] {
            let format = format(pattern);
            assert_eq!(format.parse(&format.format(MOMENT)), Some(MOMENT), "{pattern}");
        }
        assert_eq!(
            format("yyyy-MM-dd Z").parse("2023-11-15 +0130"),
            Some(1_700_000_000_000 / DAY * DAY + DAY - 90 * 60_000)
        );
        assert_eq!(format("yyyy-MM-dd").parse("2023-14-01"), format("yyyy-MM-dd").parse("2024-02-01"));
        assert_eq!(format("yyyy-MM-dd").parse("20x3-11-14"), None);
        assert_eq!(full_year(99, 2026), 1999);
        assert_eq!(full_year(30, 2026), 2030);
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        assert!(DateFormat::new("yyyy-bb").expect_err("b").contains("'b'"));
        assert!(DateFormat::new("yyyy'x").is_err());
    }
}

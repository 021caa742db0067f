//! What a tool prints: a table for people or JSON for programs, and errors one a line.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

/// Rows of text under a head.
#[derive(Debug, Default)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.head.len());
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn lines(&self) -> Vec<String> {
        let head: Vec<String> = self.head.iter().map(|name| name.to_uppercase()).collect();
        let all = || std::iter::once(&head).chain(&self.rows);
        let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        all().map(line).collect()
    }

    /// An array of objects with a member for each column; numbers as numbers.
    pub fn to_json(&self) -> Value {
        let cell = |text: &String| match text.parse::<i64>() {
            Ok(number) => json!(number),
            Err(_) if text == "-" => Value::Null,
            Err(_) => json!(text),
        };
        let key = |name: &&str| name.replace([' ', '-'], "_");
        let object =
            |row: &Vec<String>| Value::Object(self.head.iter().map(key).zip(row.iter().map(cell)).collect());
        Value::Array(self.rows.iter().map(object).collect())
    }

    /// Prints it.
    pub fn print(&self, as_json: bool) -> Result<()> {
        if as_json {
            return print_json(&self.to_json());
        }
        if self.is_empty() {
            return Ok(());
        }
        print_lines(self.lines())
    }
}

/// Prints lines; a reader that has seen enough ends it without an error.
pub fn print_lines<T: Display>(lines: impl IntoIterator<Item = T>) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in lines {
        if let Err(error) = writeln!(out, "{line}") {
            return closed(error);
        }
    }
    out.flush().or_else(|error| closed(error).map_err(io::Error::other))?;
    Ok(())
}

/// Prints one JSON value.
pub fn print_json(value: &Value) -> Result<()> {
    print_lines([serde_json::to_string_pretty(value)?])
}

fn closed(error: io::Error) -> Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error.into()) }
}

/// Gathers what failed of many things: each is told at once, and the tool ends with an error.
#[derive(Debug, Default)]
pub struct Failures(usize);

impl Failures {
    /// The value, or a line about why there is none.
    pub fn check<T, E: Display>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                eprintln!("aqueduct: {error}");
                self.0 += 1;
                None
            }
        }
    }

    /// An error where anything failed.
    pub fn finish(self) -> Result<()> {
        match self.0 {
            0 => Ok(()),
            1 => Err(anyhow!("one of the things asked for failed, see above")),
            count => Err(anyhow!("{count} of the things asked for failed, see above")),
        }
    }
}

/// A number of bytes as people read it.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// The text, or `-` where there is none.
pub fn or_dash(text: Option<impl Display>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_json_has_numbers() {
        let mut table = Table::new(&["topic", "log end"]);
        table.row(vec!["a-long-name".into(), "5".into()]);
        table.row(vec!["b".into(), "-".into()]);
        assert_eq!(table.lines(), ["TOPIC        LOG END", "a-long-name  5", "b            -"]);
        let expected = json!([{"topic": "a-long-name", "log_end": 5}, {"topic": "b", "log_end": null}]);
        assert_eq!(table.to_json(), expected);
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(7), "7 B");
    }
}

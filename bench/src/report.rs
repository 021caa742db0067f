//! Tables of figures.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use aqueduct_tests::install::workspace;
use serde_json::json;

/// Figures of several runs, by scenario, measure and peer.
#[derive(Default)]
pub struct Report {
    name: String,
    heads: Vec<String>,
    order: Vec<(String, String)>,
    runs: BTreeMap<(String, String, String), Vec<f64>>,
    demands: BTreeMap<(String, String), Demand>,
    notes: Vec<String>,
}

/// What is asked of our figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Demand {
    /// The median is lower than this.
    Below(f64),
    /// The median is at least so many times the peer's.
    Times(f64),
}

impl Demand {
    /// What is asked for and whether it is met; `ratio` is ours to the peer's.
    fn judge(self, ours: f64, ratio: Option<f64>) -> String {
        let (text, met) = match self {
            Self::Below(limit) => (format!("< {limit}"), ours < limit),
            Self::Times(least) => (format!(">= {least} x"), ratio.is_some_and(|ratio| ratio >= least)),
        };
        format!("{text}: {}", if met { "met" } else { "NOT met" })
    }
}

/// How two peers' figures compare.
pub const OURS: &str = "aqueduct";

impl Report {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Notes one figure.
    pub fn add(&mut self, scenario: &str, measure: &str, peer: &str, value: f64) {
        let row = (scenario.to_owned(), measure.to_owned());
        if !self.order.contains(&row) {
            self.order.push(row.clone());
        }
        self.runs.entry((row.0, row.1, peer.to_owned())).or_default().push(value);
    }

    /// A line above the table.
    pub fn head(&mut self, line: impl Into<String>) {
        self.heads.push(line.into());
    }

    /// A line below the table.
    pub fn note(&mut self, line: impl Into<String>) {
        let line = line.into();
        eprintln!("  {line}");
        self.notes.push(line);
    }

    /// Says beside our figure what is asked of it.
    pub fn demand(&mut self, scenario: &str, measure: &str, demand: Demand) {
        self.demands.insert((scenario.to_owned(), measure.to_owned()), demand);
    }

    /// The rows as text.
    fn table(&self) -> String {
        let wide = self.order.iter().map(|(scenario, _)| scenario.len()).max().unwrap_or(0).max(42);
        let mut table: String = self.heads.iter().map(|line| format!("{line}\n")).collect();
        if !self.heads.is_empty() {
            table.push('\n');
        }
        table.push_str(&format!(
            "{:<wide$} {:<20} {:<14} {:>10} {:>10} {:>10}  {}\n",
            "scenario", "measure", "peer", "min", "median", "max", "ours / peer"
        ));
        for row in &self.order {
            let (scenario, measure) = row;
            let median = |peer: &str| {
                self.runs.get(&(scenario.clone(), measure.clone(), peer.to_owned())).map(|v| summary(v).1)
            };
            let ours = median(OURS);
            let ratio = |peer: &str| Some(ours? / median(peer).filter(|median| *median != 0.0)?);
            for ((s, m, peer), values) in &self.runs {
                if (s, m) != (scenario, measure) {
                    continue;
                }
                let (min, median, max) = summary(values);
                let said = match (peer == OURS, self.demands.get(row)) {
                    (false, _) => ratio(peer).map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
                    (true, Some(demand)) => {
                        let mut others =
                            self.runs.keys().filter(|(s, m, p)| (s, m) == (scenario, measure) && p != OURS);
                        demand.judge(median, others.next().and_then(|(_, _, peer)| ratio(peer)))
                    }
                    (true, None) => String::new(),
                };
                let line =
                    format!("{s:<wide$} {m:<20} {peer:<14} {min:>10.2} {median:>10.2} {max:>10.2}  {said}\n");
                table.push_str(&line);
            }
        }
        if !self.notes.is_empty() {
            table.push('\n');
        }
        self.notes.iter().for_each(|line| table.push_str(&format!("{line}\n")));
        table
    }

    /// Prints every row with minimum, median and maximum and the ratio of the medians, and keeps the raw figures.
    pub fn finish(&self) -> Result<()> {
        let table = self.table();
        println!("\n{table}");
        let rows: Vec<_> = self
            .runs
            .iter()
            .map(|((scenario, measure, peer), values)| {
                json!({"scenario": scenario, "measure": measure, "peer": peer, "values": values})
            })
            .collect();
        let machine = json!({"processors": std::thread::available_parallelism()?.get(), "kernel": kernel()});
        let dir = workspace().join("bench/results");
        fs::create_dir_all(&dir)?;
        let text = serde_json::to_string_pretty(&json!({
            "benchmark": self.name, "machine": machine, "about": self.heads, "rows": rows, "notes": self.notes,
        }))?;
        fs::write(dir.join(format!("{}.json", self.name)), text + "\n")?;
        fs::write(dir.join(format!("{}.txt", self.name)), table)?;
        Ok(())
    }
}

fn summary(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median =
        if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    (sorted[0], median, sorted[sorted.len() - 1])
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demands_are_judged_beside_our_figure() {
        let mut report = Report::new("x");
        report.head("on one broker");
        for (peer, values) in [(OURS, [1.0, 3.0, 2.0]), ("jvm", [10.0, 20.0, 30.0])] {
            values.iter().for_each(|value| report.add("start", "ms", peer, *value));
            values.iter().for_each(|value| report.add("flow", "records/s", peer, *value));
        }
        report.add("alone", "MiB", OURS, 7.0);
        report.demand("start", "ms", Demand::Below(2.5));
        report.demand("flow", "records/s", Demand::Times(5.0));
        report.demand("alone", "MiB", Demand::Below(7.0));
        report.note("that is all");
        let table = report.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!((lines[0], lines.last()), ("on one broker", Some(&"that is all")));
        let row = |at: usize| lines[at].split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(row(3), "start ms aqueduct 1.00 2.00 3.00 < 2.5: met");
        assert_eq!(row(4), "start ms jvm 10.00 20.00 30.00 0.10");
        assert_eq!(row(5), "flow records/s aqueduct 1.00 2.00 3.00 >= 5 x: NOT met");
        assert_eq!(row(7), "alone MiB aqueduct 7.00 7.00 7.00 < 7: NOT met");
    }
}

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
    order: Vec<(String, String)>,
    runs: BTreeMap<(String, String, String), Vec<f64>>,
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

    /// Prints every row with minimum, median and maximum and the ratio of the medians, and keeps the raw figures.
    pub fn finish(&self) -> Result<()> {
        let mut table = format!(
            "{:<42} {:<20} {:<14} {:>10} {:>10} {:>10}  {}\n",
            "scenario", "measure", "peer", "min", "median", "max", "ours / peer"
        );
        for (scenario, measure) in &self.order {
            let of = |peer: &str| self.runs.get(&(scenario.clone(), measure.clone(), peer.to_owned()));
            let ours = of(OURS).map(|v| summary(v).1);
            for ((s, m, peer), values) in &self.runs {
                if (s, m) != (scenario, measure) {
                    continue;
                }
                let (min, median, max) = summary(values);
                let ratio = match ours {
                    Some(ours) if peer != OURS && median != 0.0 => format!("{:.2}", ours / median),
                    _ => String::new(),
                };
                table.push_str(&format!(
                    "{s:<42} {m:<20} {peer:<14} {min:>10.2} {median:>10.2} {max:>10.2}  {ratio}\n"
                ));
            }
        }
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
        let text =
            serde_json::to_string_pretty(&json!({"benchmark": self.name, "machine": machine, "rows": rows}))?;
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

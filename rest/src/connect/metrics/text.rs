//! Prometheus' text format.

use std::fmt::Write as _;

/// What has been written.
#[derive(Default)]
pub struct Text(pub String);

/// The name of a metric for an attribute of an MBean.
pub fn name(mbean: &str, attribute: &str) -> String {
    let of = mbean.strip_prefix("connect-").unwrap_or(mbean);
    let of = of.strip_suffix("-metrics").unwrap_or(of);
    let of = if of.starts_with("aqueduct") { of.to_owned() } else { format!("kafka_connect_{of}") };
    format!("{of}_{attribute}").replace('-', "_")
}

impl Text {
    pub fn head(&mut self, mbean: &str, attribute: &str, kind: &str, help: &str) {
        let name = name(mbean, attribute);
        let source = match mbean.starts_with("aqueduct") {
            true => String::new(),
            false => format!(" (kafka.connect:type={mbean}, {attribute})"),
        };
        let _ = write!(self.0, "# HELP {name} {help}{source}.\n# TYPE {name} {kind}\n");
    }

    pub fn series(&mut self, mbean: &str, attribute: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.0, "{}", name(mbean, attribute));
        for (i, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if i == 0 { '{' } else { ',' }, escape(text));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A metric without labels.
    pub fn one(&mut self, mbean: &str, attribute: &str, kind: &str, help: &str, value: f64) {
        self.head(mbean, attribute, kind, help);
        self.series(mbean, attribute, &[], value);
    }
}

/// A label's value.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas_and_values_are_escaped() {
        assert_eq!(name("connect-worker-metrics", "task-count"), "kafka_connect_worker_task_count");
        assert_eq!(
            name("sink-task-metrics", "put-batch-avg-time-ms"),
            "kafka_connect_sink_task_put_batch_avg_time_ms"
        );
        assert_eq!(name("aqueduct-connect-task", "stuck"), "aqueduct_connect_task_stuck");
        let mut text = Text::default();
        text.series("sink-task-metrics", "partition-count", &[("connector", "a\"b\\\n"), ("task", "0")], 2.0);
        text.one("connect-worker-metrics", "task-count", "gauge", "Tasks", f64::NAN);
        let lines: Vec<&str> = text.0.lines().collect();
        assert_eq!(
            lines[0],
            "kafka_connect_sink_task_partition_count{connector=\"a\\\"b\\\\\\n\",task=\"0\"} 2"
        );
        assert_eq!(
            lines[1],
            "# HELP kafka_connect_worker_task_count Tasks (kafka.connect:type=connect-worker-metrics, task-count)."
        );
        assert_eq!(lines[3], "kafka_connect_worker_task_count NaN");
    }
}

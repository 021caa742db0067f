//! The OpenMetrics text format, for what is read off the node when somebody asks.

use std::fmt::Write;

/// Families with their samples.
#[derive(Debug, Default)]
pub(crate) struct Text {
    out: String,
    family: String,
    is_counter: bool,
}

/// The last line of every exposition.
const END: &str = "# EOF\n";

impl Text {
    /// Begins a family of `gauge`, `counter` or `summary`; `help` begins with Kafka's own name of it.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.family = name.to_owned();
        self.is_counter = kind == "counter";
        // Writing to a string does not fail.
        let _ = writeln!(self.out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    }

    /// One number of the family; `suffix` as the kind of family asks for.
    pub fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.out.push_str(&self.family);
        self.out.push_str(if self.is_counter { "_total" } else { suffix });
        for (at, (name, label)) in labels.iter().enumerate() {
            self.out.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.out, "{name}=\"{}\"", escape(label));
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }

    /// A family with one number.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.sample("", &[], value);
    }

    /// What was written, after `before`, which may be a whole exposition.
    pub fn finish(self, mut before: String) -> String {
        if before.ends_with(END) {
            before.truncate(before.len() - END.len());
        }
        before.push_str(&self.out);
        before.push_str(END);
        before
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_follow_what_was_there() {
        let mut text = Text::default();
        text.gauge("a", "kafka.x:name=A. Help", 1.0);
        text.family("b", "counter", "B");
        text.sample("", &[("topic", "q\"t"), ("partition", "0")], 2.5);
        let text = text.finish("x 1\n# EOF\n".to_owned());
        let expected = "x 1\n# HELP a kafka.x:name=A. Help.\n# TYPE a gauge\na 1\n# HELP b B.\n# TYPE b counter\nb_total{topic=\"q\\\"t\",partition=\"0\"} 2.5\n# EOF\n";
        assert_eq!(text, expected);
    }
}

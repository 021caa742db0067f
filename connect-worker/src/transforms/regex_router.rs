//! `RegexRouter`: a record's topic by a regular expression.

use aqueduct_connect_api::config::{ConfigType, ConfigValue, Validator};
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, Error, Factory, Plugin, Record, Result, Transformation,
};
use bytestring::ByteString;
use regex::Regex;

/// Renames topics that the expression matches whole; other topics stay as they are.
#[derive(Debug, Default)]
pub struct RegexRouter {
    pattern: Option<Regex>,
    replacement: String,
    /// The last topic and what became of it: a task sees few topics, in long runs.
    last: Option<(ByteString, ByteString)>,
}

impl RegexRouter {
    fn route(&self, topic: &ByteString) -> ByteString {
        let Some(pattern) = &self.pattern else { return topic.clone() };
        let Some(found) = pattern.captures(topic) else { return topic.clone() };
        let mut routed = String::new();
        found.expand(&self.replacement, &mut routed);
        routed.into()
    }
}

impl Transformation for RegexRouter {
    fn configure(&mut self, config: &Config) -> Result<()> {
        let text = config.text("regex");
        let whole = Regex::new(&format!("^(?:{text})$"));
        self.pattern = Some(whole.map_err(|e| Error::config("regex", text, e.to_string()))?);
        self.replacement = java_replacement(config.text("replacement"));
        Ok(())
    }

    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        match &self.last {
            Some((from, to)) if *from == record.topic => record.topic = to.clone(),
            _ => {
                let to = self.route(&record.topic);
                self.last = Some((std::mem::replace(&mut record.topic, to.clone()), to));
            }
        }
        Ok(Some(record))
    }
}

/// Rewrites a replacement of Java's kind (`$1`, `${name}`, `\$` for a plain `$`) to this library's.
fn java_replacement(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 4);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('$') => out.push_str("$$"),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            '$' if chars.peek().is_some_and(char::is_ascii_digit) => {
                // Java takes one digit, and more only while such a group exists; groups beyond nine are rare.
                let digit = chars.next().expect("peeked");
                out.push_str(&format!("${{{digit}}}"));
            }
            other => out.push(other),
        }
    }
    out
}

fn is_regex(value: &ConfigValue) -> std::result::Result<(), String> {
    match value {
        ConfigValue::String(text) => {
            Regex::new(text).map(|_| ()).map_err(|e| format!("Invalid regex {text}: {e}"))
        }
        _ => Ok(()),
    }
}

fn config() -> ConfigDef {
    ConfigDef::new()
        .key(
            ConfigKey::required(
                "regex",
                ConfigType::String,
                "Regular expression that must match the whole topic.",
            )
            .validator(Validator::Check(is_regex)),
        )
        .key(ConfigKey::required(
            "replacement",
            ConfigType::String,
            "The new topic; $1 and so on stand for groups of the expression.",
        ))
}

aqueduct_connect_api::inventory::submit! {
    Plugin {
        class: "org.apache.kafka.connect.transforms.RegexRouter",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: &config,
        factory: Factory::Transformation(|| Box::new(RegexRouter::default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_renamed_where_all_of_them_matches() {
        for (regex, replacement, topic, routed) in [
            ("(.*)\\.(.*)\\.(.*)", "$3", "srv.shop.orders", "orders"),
            ("srv\\.(.*)", "es-$1x", "srv.orders", "es-ordersx"),
            ("srv", "other", "srv.orders", "srv.orders"),
            ("a(?<rest>.*)", "\\$${rest}", "abc", "$bc"),
        ] {
            let map = [("regex", regex), ("replacement", replacement)];
            let map = map.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            let mut router = RegexRouter::default();
            router.configure(&config().parse(&map).expect("good settings")).expect("configured");
            for _ in 0..2 {
                let record = Record { topic: topic.into(), ..Record::default() };
                assert_eq!(router.apply(record).expect("routed").expect("kept").topic, routed);
            }
        }
    }
}

//! The keys of a client metrics subscription (KIP-714, resource type 16). They are kept and shown, as Kafka does without a
//! metrics reporter that takes them: clients are not asked for metrics.

use std::collections::BTreeMap;

use bytestring::ByteString;

use super::definition::{Check, Key, Kind, Scope};
use crate::metadata::Rejection;
use aqueduct_protocol::error_code::ErrorCode;

const fn row(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default: Some(default), check: Check::Any, scope: Scope::Dynamic, doc }
}

/// Every key of a subscription.
pub const KEYS: &[Key] = &[
    row("interval.ms", Kind::Int, "300000", "Time between two pushes of a client."),
    row("match", Kind::List, "", "Which clients are meant, SELECTOR=PATTERN."),
    row("metrics", Kind::List, "", "Prefixes of the metrics that are asked for; * stands for all."),
];

const SELECTORS: &[&str] = &[
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// The row of a key.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Checks what a subscription sets.
pub fn validate(values: &BTreeMap<ByteString, ByteString>) -> Result<(), Rejection> {
    for (name, value) in values {
        let Some(key) = find(name) else {
            let why = format!("Unknown client metrics configuration: {name}");
            return Err(Rejection::new(ErrorCode::InvalidRequest, why));
        };
        key.validate(value).map_err(|error| Rejection::new(ErrorCode::InvalidConfig, error.to_string()))?;
        if key.name == "interval.ms" && !matches!(value.trim().parse(), Ok(100..=3_600_000)) {
            let why = format!(
                "Invalid value {value} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
            );
            return Err(Rejection::new(ErrorCode::InvalidRequest, why));
        }
        if key.name == "match" {
            check_match(value)?;
        }
    }
    Ok(())
}

fn check_match(patterns: &str) -> Result<(), Rejection> {
    let illegal = |pattern: &str| {
        Err(Rejection::new(ErrorCode::InvalidConfig, format!("Illegal client matching pattern: {pattern}")))
    };
    for pattern in super::definition::list(patterns) {
        let Some((selector, expression)) = pattern.split_once('=') else { return illegal(pattern) };
        if !SELECTORS.contains(&selector.trim()) || expression.contains('=') {
            return illegal(pattern);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kafka_refuses_is_refused_with_its_code() {
        let code = |name: &str, value: &str| {
            validate(&BTreeMap::from([(name.into(), value.into())])).map_err(|rejection| rejection.code)
        };
        assert_eq!(code("interval.ms", "5000"), Ok(()));
        assert_eq!(code("interval.ms", "5"), Err(ErrorCode::InvalidRequest));
        assert_eq!(code("interval.ms", "abc"), Err(ErrorCode::InvalidConfig));
        assert_eq!(code("match", "client_id=x.*,client_source_port=1"), Ok(()));
        assert_eq!(code("match", "nope=x"), Err(ErrorCode::InvalidConfig));
        assert_eq!(code("x", "5"), Err(ErrorCode::InvalidRequest));
    }
}

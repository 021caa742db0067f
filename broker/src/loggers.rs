//! Levels of logging, changed while the broker runs (resource type 8). A logger is a Rust module path; `root` stands for
//! all that have no level of their own. Levels are this process's and are gone when it ends, as in Kafka.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use bytestring::ByteString;
use parking_lot::Mutex;

use crate::metadata::{ConfigOp, Rejection};

/// The logger of everything that no other names.
const ROOT: &str = "root";
const LEVELS: &[&str] = &["DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARN"];

/// The loggers that can be set, beside [`ROOT`].
const NAMES: &[&str] = &[
    "aqueduct_broker",
    "aqueduct_broker::api",
    "aqueduct_broker::broker",
    "aqueduct_broker::config",
    "aqueduct_broker::coordinator",
    "aqueduct_broker::fetch",
    "aqueduct_broker::housekeeping",
    "aqueduct_broker::metadata",
    "aqueduct_broker::network",
    "aqueduct_broker::partition",
    "aqueduct_broker::partitions",
    "aqueduct_broker::security",
    "aqueduct_client",
    "aqueduct_protocol",
    "aqueduct_rest",
    "aqueduct_storage",
];

/// What takes a new set of levels, as directives such as `info,aqueduct_storage=debug`.
#[derive(Clone)]
pub struct LogLevels(pub Arc<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogLevels")
    }
}

/// The levels in force.
#[derive(Debug)]
pub(crate) struct Loggers {
    apply: Option<LogLevels>,
    set: Mutex<BTreeMap<&'static str, &'static str>>,
}

impl Loggers {
    pub fn new(apply: Option<LogLevels>) -> Self {
        Self { apply, set: Mutex::new(BTreeMap::from([(ROOT, "INFO")])) }
    }

    /// Every logger with the level that counts for it.
    pub fn levels(&self) -> Vec<(&'static str, &'static str)> {
        let set = self.set.lock();
        std::iter::once(&ROOT).chain(NAMES).map(|name| (*name, level(&set, name))).collect()
    }

    /// Changes levels; nothing is changed where one of them cannot be.
    pub fn alter(&self, ops: &[(ByteString, ConfigOp)], validate_only: bool) -> Result<(), Rejection> {
        let mut set = self.set.lock();
        let mut next = set.clone();
        for (name, op) in ops {
            change(&mut next, name, op)?;
        }
        if validate_only {
            return Ok(());
        }
        let Some(LogLevels(apply)) = &self.apply else {
            let why =
                "Log levels cannot be changed: the process that this broker is part of does not allow it.";
            return Err(Rejection::new(ErrorCode::InvalidRequest, why));
        };
        apply(&directives(&next));
        *set = next;
        Ok(())
    }
}

fn change(
    set: &mut BTreeMap<&'static str, &'static str>,
    name: &str,
    op: &ConfigOp,
) -> Result<(), Rejection> {
    let known = std::iter::once(&ROOT).chain(NAMES).find(|known| **known == name);
    let Some(known) = known else {
        return Err(Rejection::new(ErrorCode::InvalidConfig, format!("Logger {name} does not exist!")));
    };
    let refuse = |op: &str| {
        let why = format!("{op} operation is not allowed for the BROKER_LOGGER resource");
        Err(Rejection::new(ErrorCode::InvalidRequest, why))
    };
    match op {
        ConfigOp::Set(level) => {
            let Some(level) = LEVELS.iter().find(|known| **known == &**level) else {
                return Err(Rejection::new(
                    ErrorCode::InvalidConfig,
                    format!(
                        "Cannot set the log level of {name} to {level} as it is not a supported log level. Valid log levels are {}",
                        LEVELS.join(", ")
                    ),
                ));
            };
            set.insert(known, level);
            Ok(())
        }
        ConfigOp::Delete if *known == ROOT => Err(Rejection::new(
            ErrorCode::InvalidRequest,
            "Removing the log level of the root logger is not allowed",
        )),
        ConfigOp::Delete => {
            set.remove(known);
            Ok(())
        }
        ConfigOp::Append(_) => refuse("APPEND"),
        ConfigOp::Subtract(_) => refuse("SUBTRACT"),
    }
}

/// The logger's own level, or that of the nearest module around it.
fn level(set: &BTreeMap<&'static str, &'static str>, name: &str) -> &'static str {
    let mut around = Some(name);
    while let Some(module) = around {
        if let Some(level) = set.get(module) {
            return level;
        }
        around = module.rsplit_once("::").map(|(outer, _)| outer);
    }
    set.get(ROOT).copied().unwrap_or("INFO")
}

fn directives(set: &BTreeMap<&'static str, &'static str>) -> String {
    let word = |level: &str| if level == "FATAL" { "error".to_owned() } else { level.to_ascii_lowercase() };
    let directive = |(name, level): (&&str, &&'static str)| match *name {
        ROOT => word(level),
        name => format!("{name}={}", word(level)),
    };
    set.iter().map(directive).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(name: &str, level: Option<&str>) -> Vec<(ByteString, ConfigOp)> {
        vec![(name.into(), level.map_or(ConfigOp::Delete, |level| ConfigOp::Set(level.into())))]
    }

    #[test]
    fn levels_are_inherited_and_told_as_directives() {
        let told = Arc::new(Mutex::new(String::new()));
        let keep = told.clone();
        let loggers = Loggers::new(Some(LogLevels(Arc::new(move |text| *keep.lock() = text.to_owned()))));
        let of = |name: &str| loggers.levels().into_iter().find(|(known, _)| *known == name).unwrap().1;
        loggers.alter(&op("aqueduct_broker", Some("DEBUG")), false).unwrap();
        assert_eq!((of("aqueduct_broker::api"), of("aqueduct_storage")), ("DEBUG", "INFO"));
        assert_eq!(*told.lock(), "aqueduct_broker=debug,info");
        loggers.alter(&op(ROOT, Some("FATAL")), true).unwrap();
        assert_eq!(of(ROOT), "INFO");
        loggers.alter(&op("aqueduct_broker", None), false).unwrap();
        assert_eq!(*told.lock(), "info");
    }

    #[test]
    fn mistakes_have_kafkas_codes() {
        let loggers = Loggers::new(None);
        let code = |name: &str, level| loggers.alter(&op(name, level), true).map_err(|error| error.code);
        assert_eq!(code("no.such", Some("INFO")), Err(ErrorCode::InvalidConfig));
        assert_eq!(code(ROOT, Some("LOUD")), Err(ErrorCode::InvalidConfig));
        assert_eq!(code(ROOT, None), Err(ErrorCode::InvalidRequest));
        let append = vec![(ROOT.into(), ConfigOp::Append("INFO".into()))];
        assert_eq!(loggers.alter(&append, true).map_err(|e| e.code), Err(ErrorCode::InvalidRequest));
    }
}

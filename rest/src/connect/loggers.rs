//! `/admin/loggers`: levels of logging, changed while the worker runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::ConnectApi;
use super::routes::{Endpoint, at};
use crate::body;
use crate::error::{ApiError, ApiResult};
use crate::query::Query;

const LEVELS: [&str; 8] = ["OFF", "FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE", "ALL"];
const ROOT: &str = "root";

#[derive(Clone, Debug, Serialize)]
struct Level {
    level: String,
    last_modified: Option<u128>,
}

type Apply = Arc<dyn Fn(&str) + Send + Sync>;

/// Levels by logger. A logger is a Rust module path; `root` stands for all others.
#[derive(Clone)]
pub struct Loggers {
    levels: Arc<Mutex<BTreeMap<String, Level>>>,
    apply: Apply,
}

impl Loggers {
    /// `apply` gets every new set of levels as `EnvFilter` directives, such as `info,aqueduct_client=debug`.
    pub fn new(apply: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let root = Level { level: "INFO".to_owned(), last_modified: None };
        Self {
            levels: Arc::new(Mutex::new(BTreeMap::from([(ROOT.to_owned(), root)]))),
            apply: Arc::new(apply),
        }
    }

    /// Says whether that changed anything.
    fn set(&self, logger: &str, level: &str) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        if levels.get(logger).is_some_and(|known| known.level == level) {
            return false;
        }
        levels.insert(logger.to_owned(), Level { level: level.to_owned(), last_modified: Some(now) });
        let directives: Vec<String> = levels
            .iter()
            .map(|(logger, level)| {
                let name = match level.level.as_str() {
                    "FATAL" => "error",
                    "ALL" => "trace",
                    other => other,
                }
                .to_ascii_lowercase();
                if logger == ROOT { name } else { format!("{}={name}", logger.replace('.', "::")) }
            })
            .collect();
        drop(levels);
        (self.apply)(&directives.join(","));
        true
    }

    fn get(&self, logger: &str) -> Option<Level> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).get(logger).cloned()
    }

    fn all(&self) -> BTreeMap<String, Level> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub fn endpoints() -> Vec<Endpoint> {
    vec![at("/admin/loggers").get(list), at("/admin/loggers/{logger}").get(read).put(set)]
}

async fn list(State(api): State<ConnectApi>) -> impl IntoResponse {
    Json(api.loggers.all())
}

async fn read(State(api): State<ConnectApi>, Path(logger): Path<String>) -> ApiResult<impl IntoResponse> {
    let missing = || ApiError::new(StatusCode::NOT_FOUND, format!("Logger {logger} not found."));
    api.loggers.get(&logger).map(Json).ok_or_else(missing)
}

async fn set(
    State(api): State<ConnectApi>,
    Path(logger): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> ApiResult<Response> {
    let members = body::members(&body)?;
    let Some(level) = members.text("level")? else {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "Desired 'level' parameter was not specified in request.",
        ));
    };
    let upper = level.to_ascii_uppercase();
    if !LEVELS.contains(&upper.as_str()) {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("invalid log level '{level}'.")));
    }
    let changed = api.loggers.set(&logger, &upper);
    // With one worker the cluster is this one.
    if Query::parse(query.as_deref()).get("scope") == Some("cluster") {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let affected: Vec<String> = changed.then_some(logger).into_iter().collect();
    Ok(Json(affected).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_become_directives() {
        let seen = Arc::new(Mutex::new(String::new()));
        let target = seen.clone();
        let loggers = Loggers::new(move |d| *target.lock().expect("not poisoned") = d.to_owned());
        loggers.set("aqueduct_client", "DEBUG");
        loggers.set(ROOT, "FATAL");
        assert_eq!(*seen.lock().expect("not poisoned"), "aqueduct_client=debug,error");
        assert!(loggers.get("nope").is_none());
    }
}

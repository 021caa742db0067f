//! What happens when a record cannot be handled (`errors.*`).

use std::fmt;
use std::time::Duration;

use aqueduct_connect_api::Error as PluginError;

use crate::config::{ErrorSettings, Tolerance};
use crate::ids::TaskId;

/// Where in its life a record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    TaskPut,
    Transformation,
    KeyConverter,
    ValueConverter,
    HeaderConverter,
    KafkaProduce,
}

impl Stage {
    /// The reference's name, in logs and dead-letter headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::TaskPut => "TASK_PUT",
            Self::Transformation => "TRANSFORMATION",
            Self::KeyConverter => "KEY_CONVERTER",
            Self::ValueConverter => "VALUE_CONVERTER",
            Self::HeaderConverter => "HEADER_CONVERTER",
            Self::KafkaProduce => "KAFKA_PRODUCE",
        }
    }
}

/// A record that could not be handled.
#[derive(Debug)]
pub struct Failure {
    pub stage: Stage,
    /// Class of the plugin that failed.
    pub class: String,
    pub error: PluginError,
    /// What the record seems to be and which setting to change, where a converter failed.
    pub explanation: Option<Box<str>>,
}

impl Failure {
    pub fn new(stage: Stage, class: impl Into<String>, error: PluginError) -> Self {
        Self { stage, class: class.into(), error, explanation: None }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn explained(self, explanation: String) -> Self {
        Self { explanation: Some(explanation.into()), ..self }
    }

    /// The error with its causes, one a line, and what to do about it.
    pub fn trace(&self) -> String {
        match &self.explanation {
            Some(explanation) => format!("{}\n\t{explanation}", self.error.trace()),
            None => self.error.trace(),
        }
    }
}

/// Decides about failures of one task.
#[derive(Debug)]
pub struct ErrorPolicy {
    id: TaskId,
    settings: ErrorSettings,
}

/// The pauses between tries of one operation.
#[derive(Debug)]
pub struct Retries {
    attempt: u32,
    spent: Duration,
}

impl Retries {
    /// Whether anything has failed.
    pub fn any(&self) -> bool {
        self.attempt > 0
    }
}

impl ErrorPolicy {
    pub fn new(id: TaskId, settings: ErrorSettings) -> Self {
        Self { id, settings }
    }

    pub fn settings(&self) -> &ErrorSettings {
        &self.settings
    }

    /// Whether anybody will read why a record was refused.
    pub fn explains(&self) -> bool {
        let ErrorSettings { tolerance, log, dead_letter_headers, .. } = self.settings;
        tolerance == Tolerance::None || log || dead_letter_headers
    }

    /// Whether an operation may be tried more than once at all.
    pub fn retries(&self) -> bool {
        self.settings.retry_timeout != Some(Duration::ZERO)
    }

    /// Starts to count the tries of an operation.
    pub fn begin(&self) -> Retries {
        Retries { attempt: 0, spent: Duration::ZERO }
    }

    /// How long to wait before the next try; `None` to give up. `random` is from 0 to 1.
    pub fn next_delay(&self, retries: &mut Retries, random: f64) -> Option<Duration> {
        const FIRST: Duration = Duration::from_millis(300);
        let left = match self.settings.retry_timeout {
            Some(limit) => limit.checked_sub(retries.spent).filter(|left| !left.is_zero())?,
            None => Duration::MAX,
        };
        let doubled = FIRST.saturating_mul(2_u32.saturating_pow(retries.attempt));
        let most = self.settings.retry_delay_max;
        let delay = if doubled > most { most.mul_f64(random.clamp(0.0, 1.0)) } else { doubled };
        retries.attempt += 1;
        let delay = delay.min(left);
        retries.spent += delay;
        Some(delay)
    }

    /// Lets a failure pass, with a log line where the settings ask for it, or fails the task.
    ///
    /// # Errors
    /// What the task fails with; it says which record it was and what to change.
    pub fn tolerate(&self, failure: Failure, record: &dyn fmt::Display) -> Result<Failure, PluginError> {
        let Failure { stage, class, .. } = &failure;
        if self.settings.log {
            let shown = if self.settings.log_messages {
                format!(", where consumed record is {record}")
            } else {
                String::new()
            };
            tracing::error!(
                error = %failure.error,
                explanation = failure.explanation.as_deref(),
                "Error encountered in task {}. Executing stage '{}' with class '{class}'{shown}.",
                self.id,
                stage.name()
            );
        }
        match self.settings.tolerance {
            Tolerance::All => Ok(failure),
            Tolerance::None => Err(PluginError::connect(format!(
                "Tolerance exceeded in error handler: task {}, stage {} with class {class}, record {record}. Correct the \
                 record or the setting it names, or set errors.tolerance=all to skip such records{}",
                self.id,
                stage.name(),
                " (sinks: errors.deadletterqueue.topic.name keeps them)"
            ))
            .caused_by(TracedError(failure))),
        }
    }
}

/// An error whose text is its class and message: the form of causes in traces.
#[derive(Debug)]
struct TracedError(Failure);

impl fmt::Display for TracedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { error, explanation, .. } = &self.0;
        write!(f, "{}: {error}", error.class_name())?;
        explanation.iter().try_for_each(|explanation| write!(f, "\n\t{explanation}"))
    }
}

impl std::error::Error for TracedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.error.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(timeout: Option<u64>, tolerance: Tolerance) -> ErrorPolicy {
        ErrorPolicy::new(
            TaskId::new("c", 0),
            ErrorSettings {
                retry_timeout: timeout.map(Duration::from_millis),
                retry_delay_max: Duration::from_millis(1000),
                tolerance,
                log: false,
                log_messages: false,
                dead_letter_topic: None,
                dead_letter_replication: 1,
                dead_letter_headers: false,
            },
        )
    }

    #[test]
    fn delays_double_up_to_the_limit_and_end_at_the_deadline() {
        let policy = policy(Some(2000), Tolerance::None);
        let mut retries = policy.begin();
        let mut delays = Vec::new();
        while let Some(delay) = policy.next_delay(&mut retries, 0.5) {
            delays.push(delay.as_millis());
        }
        assert_eq!(delays, [300, 600, 500, 500, 100]);
        let never = self::policy(Some(0), Tolerance::None);
        assert_eq!(never.next_delay(&mut never.begin(), 0.5), None);
    }

    #[test]
    fn a_failure_names_the_record_and_the_remedy() {
        let failure = || Failure::new(Stage::ValueConverter, "J", PluginError::data("not JSON"));
        let error = policy(None, Tolerance::None).tolerate(failure(), &"t-0@5").expect_err("fails");
        let trace = error.trace();
        for part in ["c-0", "VALUE_CONVERTER", "t-0@5", "errors.tolerance=all", "DataException: not JSON"] {
            assert!(trace.contains(part), "{part} in {trace}");
        }
        assert!(policy(None, Tolerance::All).tolerate(failure(), &"t-0@5").is_ok());
    }
}

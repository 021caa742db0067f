//! The chain of transforms of a task.

use aqueduct_connect_api::Record;

use super::errors::{Failure, Stage};
use crate::config::TransformStep;

/// Transforms in the order in which they run.
pub struct TransformChain(Vec<TransformStep>);

impl TransformChain {
    pub fn new(steps: Vec<TransformStep>) -> Self {
        Self(steps)
    }

    /// The record as the last transform leaves it; `None` where one drops it.
    ///
    /// # Errors
    /// The first transform that fails.
    pub fn apply(&mut self, mut record: Record) -> Result<Option<Record>, Failure> {
        for step in &mut self.0 {
            let runs =
                step.condition.as_ref().is_none_or(|(predicate, negate)| predicate.test(&record) != *negate);
            if !runs {
                continue;
            }
            match step.transform.apply(record) {
                Ok(Some(changed)) => record = changed,
                Ok(None) => return Ok(None),
                Err(error) => return Err(Failure::new(Stage::Transformation, step.class, error)),
            }
        }
        Ok(Some(record))
    }
}

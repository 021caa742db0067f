//! Answers of the bulk API.

use serde::Deserialize;

/// The answer to a bulk request.
#[derive(Debug, Deserialize)]
pub struct BulkAnswer {
    #[serde(default)]
    pub errors: bool,
    /// One for each operation, in order.
    #[serde(default)]
    items: Vec<std::collections::HashMap<String, ItemAnswer>>,
}

#[derive(Debug, Deserialize)]
struct ItemAnswer {
    status: u16,
    error: Option<ItemError>,
}

/// Why an operation was refused.
#[derive(Clone, Debug, Deserialize)]
pub struct ItemError {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    caused_by: Option<Box<ItemError>>,
}

impl std::fmt::Display for ItemError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)?;
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        match &self.caused_by {
            Some(cause) => write!(f, "; caused by {cause}"),
            None => Ok(()),
        }
    }
}

/// What became of an operation.
#[derive(Debug)]
pub enum ItemResult {
    /// Done, or known to be done: a version that is there already, a delete of nothing.
    Done,
    /// The server has too much to do, or a shard is away.
    Again(String),
    /// The document is not one that the index takes.
    Malformed(ItemError),
    Failed(String),
}

/// Errors that say something about the document, not about the server.
const MALFORMED: &[&str] = &[
    "strict_dynamic_mapping_exception",
    "mapper_parsing_exception",
    "illegal_argument_exception",
    "action_request_validation_exception",
    "document_parsing_exception",
];

impl BulkAnswer {
    /// Results in the order of the operations.
    pub fn results(self) -> impl Iterator<Item = ItemResult> {
        self.items.into_iter().map(|item| match item.into_iter().next() {
            Some((action, answer)) => result(&action, answer),
            None => ItemResult::Failed("the server's answer says nothing about the operation".to_owned()),
        })
    }
}

fn result(action: &str, answer: ItemAnswer) -> ItemResult {
    let Some(error) = answer.error else {
        let gone = action == "delete" && answer.status == 404;
        return if answer.status < 300 || gone {
            ItemResult::Done
        } else {
            ItemResult::Failed(format!("{action} gave status {}", answer.status))
        };
    };
    match answer.status {
        // A newer version is there, or this very one from an attempt before.
        409 if error.kind == "version_conflict_engine_exception" && action != "update" => ItemResult::Done,
        429 | 502 | 503 | 504 => ItemResult::Again(error.to_string()),
        // An update that met others is as good as one that was turned away.
        409 => ItemResult::Again(error.to_string()),
        _ if MALFORMED.contains(&error.kind.as_str()) => ItemResult::Malformed(error),
        status => ItemResult::Failed(format!("{action} gave status {status}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_has_its_result() {
        let answer: BulkAnswer = serde_json::from_str(
            r#"{"took":1,"errors":true,"items":[
                {"index":{"status":201}},
                {"delete":{"status":404}},
                {"index":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"newer"}}},
                {"index":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"full"}}},
                {"index":{"status":400,"error":{"type":"document_parsing_exception","reason":"bad","caused_by":{"type":"x","reason":"y"}}}},
                {"index":{"status":404,"error":{"type":"index_not_found_exception","reason":"none"}}},
                {"update":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"met"}}}
            ]}"#,
        )
        .expect("an answer");
        assert!(answer.errors);
        let kinds: Vec<String> = answer
            .results()
            .map(|r| match r {
                ItemResult::Done => "done".to_owned(),
                ItemResult::Again(_) => "again".to_owned(),
                ItemResult::Malformed(e) => e.to_string(),
                ItemResult::Failed(_) => "failed".to_owned(),
            })
            .collect();
        let malformed = "document_parsing_exception: bad; caused by x: y";
        assert_eq!(kinds, ["done", "done", "done", "again", malformed, "failed", "again"]);
    }
}

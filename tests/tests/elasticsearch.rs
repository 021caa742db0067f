//! The launcher of Elasticsearch itself.

use aqueduct_tests::elasticsearch::Elasticsearch;
use serde_json::json;

#[test]
fn a_node_starts_keeps_documents_and_survives_a_kill() -> anyhow::Result<()> {
    let mut node = Elasticsearch::start()?;
    assert!(node.rest("GET", "/", None)?.body["version"]["number"].is_string());
    assert_eq!(node.count("kept")?, 0);
    let answer = node.rest("PUT", "/kept/_doc/1", Some(&json!({"a": 1})))?;
    assert_eq!(answer.status, 201, "{answer:?}");
    node.kill();
    node.restart()?;
    assert_eq!(node.documents("kept")?.get("1"), Some(&json!({"a": 1})));
    Ok(())
}

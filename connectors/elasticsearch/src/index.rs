//! Indices: made before the first document, with a mapping from its schema.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_connect_api::{Error, Result, SinkRecord};
use bytestring::ByteString;
use elasticsearch::http::Method;
use serde_json::{Value as Json, json};

use crate::client::{Answer, Client};
use crate::config::{SCHEMA_IGNORE, Settings};
use crate::mapping::of_schema;

/// What is known of the topics' indices.
#[derive(Default)]
pub struct Indices {
    known: HashMap<ByteString, Known>,
}

struct Known {
    name: Arc<str>,
    /// Whether there is nothing left to do, not even a mapping.
    mapped: bool,
}

impl Indices {
    /// The index for `record`; it exists once this returns, and has a mapping if the record has a schema to make one of.
    pub async fn prepare(
        &mut self,
        client: &Client,
        settings: &Settings,
        record: &SinkRecord,
    ) -> Result<Arc<str>> {
        let topic = &record.record.topic;
        let value = &record.record.value;
        if let Some(known) = self.known.get(topic)
            && (known.mapped || value.value.is_null())
        {
            return Ok(Arc::clone(&known.name));
        }
        let name: Arc<str> = settings.index_of(topic).into();
        let wants_mapping = !settings.ignores_schema(topic);
        let mapping = match (&value.schema, wants_mapping && !value.value.is_null()) {
            (Some(schema), true) => Some(of_schema(schema, settings.compact_maps())),
            (None, true) => {
                return Err(Error::data(format!(
                    "the value has no schema to make the mapping of index {name} from; set {SCHEMA_IGNORE}=true, or use a \
                     converter with schemas"
                )));
            }
            (_, false) => None,
        };
        ensure(client, &name, mapping.as_ref(), !settings.resources.is_empty()).await?;
        let known = Known { name: Arc::clone(&name), mapped: mapping.is_some() || !wants_mapping };
        self.known.insert(topic.clone(), known);
        Ok(name)
    }
}

/// Makes the index, and its mapping where it has none. A mapping that is there is never changed.
async fn ensure(client: &Client, name: &str, mapping: Option<&Json>, must_exist: bool) -> Result<()> {
    let path = format!("{}/_mapping", encoded(name));
    let found = client.call(Method::Get, &path, None).await?;
    match found.status {
        200 => {
            let body = found.json();
            let empty = body.as_object().is_some_and(|indices| {
                indices.values().all(|i| i["mappings"].as_object().is_none_or(serde_json::Map::is_empty))
            });
            match mapping {
                Some(mapping) if empty => {
                    checked(name, "map", client.call(Method::Put, &path, Some(mapping)).await?)
                }
                _ => Ok(()),
            }
        }
        404 if must_exist => Err(Error::connect(format!(
            "there is no index or alias {name}, which topic.to.external.resource.mapping names; create it"
        ))),
        404 => {
            let body = mapping.map_or_else(|| json!({}), |mapping| json!({ "mappings": mapping }));
            let made = client.call(Method::Put, &encoded(name), Some(&body)).await?;
            if made.status == 400 && made.text().contains("resource_already_exists_exception") {
                // Another task was faster.
                return Ok(());
            }
            checked(name, "create", made)
        }
        _ => checked(name, "look at", found),
    }
}

fn checked(name: &str, what: &str, answer: Answer) -> Result<()> {
    if answer.is_success() {
        return Ok(());
    }
    Err(Error::connect(format!("cannot {what} index {name}: status {}: {}", answer.status, answer.text())))
}

/// A name as part of a path.
fn encoded(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

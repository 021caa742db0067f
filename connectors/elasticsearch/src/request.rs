//! One bulk request, until each of its operations is done or given up.

use std::time::Duration;

use aqueduct_connect_api::{Error, Result};
use tokio::time::Instant;

use crate::answer::{BulkAnswer, ItemError, ItemResult};
use crate::bulk::{Batch, Item, body_of, with_followers};
use crate::client::Client;

/// What became of a batch.
#[derive(Default)]
pub struct Outcome {
    pub done: Vec<Item>,
    /// Documents that the index does not take.
    pub refused: Vec<(Item, ItemError)>,
    /// Why the rest is not done.
    pub failure: Option<Error>,
}

/// Sends `batch`; operations that the server turns away for now are sent again, for as long as `patience`. `versioned` says
/// that operations on one document may overtake each other.
pub async fn send(client: Client, batch: Batch, versioned: bool, patience: Duration) -> Outcome {
    let mut outcome = Outcome::default();
    if let Err(error) = try_send(&client, batch, versioned, patience, &mut outcome).await {
        outcome.failure = Some(error);
    }
    outcome
}

async fn try_send(
    client: &Client,
    batch: Batch,
    versioned: bool,
    patience: Duration,
    outcome: &mut Outcome,
) -> Result<()> {
    let began = Instant::now();
    let (mut body, mut items) = batch.into_parts();
    for attempt in 1.. {
        let answer = client.bulk(body.clone()).await?;
        if answer.status == 413 {
            return Err(Error::connect(format!(
                "the server takes no request of {} bytes; lower bulk.size.bytes or batch.size, or raise the server's \
                 http.max_content_length",
                body.len()
            )));
        }
        if !answer.is_success() {
            return Err(Error::connect(format!(
                "a bulk request gave status {}: {}",
                answer.status,
                answer.text()
            )));
        }
        let answer: BulkAnswer = serde_json::from_slice(&answer.body).map_err(|e| {
            Error::connect(format!(
                "the answer to a bulk request cannot be read: {e}; does connection.url lead to Elasticsearch?"
            ))
        })?;
        if !answer.errors {
            outcome.done.append(&mut items);
            return Ok(());
        }
        let results: Vec<ItemResult> = answer.results().collect();
        if results.len() != items.len() {
            return Err(Error::connect(format!(
                "the answer to {} operations speaks of {}",
                items.len(),
                results.len()
            )));
        }
        let Some(why) = settle(&mut items, results, versioned, outcome)? else { return Ok(()) };
        if began.elapsed() >= patience {
            return Err(Error::connect(format!(
                "the server has turned away {} operations for {} seconds (flush.timeout.ms): {why}; give it more to work \
                 with, or send less at once with max.in.flight.requests, batch.size or tasks.max",
                items.len(),
                patience.as_secs()
            )));
        }
        let wait = client.pause(attempt);
        tracing::warn!(
            operations = items.len(),
            why,
            attempt,
            "the server turns operations away; they are sent again"
        );
        tokio::time::sleep(wait).await;
        body = body_of(&body, &mut items);
    }
    Ok(())
}

/// Sorts operations by their results; those to send again stay in `items`. Gives the reason, if there are any.
fn settle(
    items: &mut Vec<Item>,
    results: Vec<ItemResult>,
    versioned: bool,
    outcome: &mut Outcome,
) -> Result<Option<String>> {
    let mut again: Vec<bool> = results.iter().map(|r| matches!(r, ItemResult::Again(_))).collect();
    if !versioned {
        with_followers(items, &mut again);
    }
    let (mut why, mut failure) = (None, None);
    let mut rest = Vec::new();
    for ((item, result), again) in items.drain(..).zip(results).zip(again) {
        match result {
            ItemResult::Again(reason) => {
                why.get_or_insert(reason);
                rest.push(item);
            }
            ItemResult::Done if again => rest.push(item),
            ItemResult::Done => outcome.done.push(item),
            ItemResult::Malformed(error) => outcome.refused.push((item, error)),
            ItemResult::Failed(reason) => {
                let (partition, offset) = (&item.partition, item.offset);
                failure.get_or_insert_with(|| {
                    Error::connect(format!(
                        "the record {}-{}@{offset} could not be written: {reason}",
                        partition.topic, partition.partition
                    ))
                });
            }
        }
    }
    *items = rest;
    failure.map_or(Ok(why), Err)
}

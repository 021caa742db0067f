//! Finding the broker that coordinates a group or a transactional id.

use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::FindCoordinatorRequest;
use bytestring::ByteString;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::metadata::Broker;

/// `FindCoordinatorRequest.KeyType` of a group.
const GROUP: i8 = 0;
/// `FindCoordinatorRequest.KeyType` of a transactional id.
const TRANSACTION: i8 = 1;
/// From this version on several keys are asked at once.
const BATCHED: i16 = 4;

/// Asks any broker who coordinates `group`.
pub(crate) async fn find_group(client: &Client, group: &ByteString) -> Result<Broker> {
    find(client, GROUP, group).await
}

/// Asks any broker who coordinates the transactions of `id`.
pub(crate) async fn find_transactional(client: &Client, id: &ByteString) -> Result<Broker> {
    find(client, TRANSACTION, id).await
}

async fn find(client: &Client, key_type: i8, key: &ByteString) -> Result<Broker> {
    let request = |version| match version {
        BATCHED.. => {
            FindCoordinatorRequest { key_type, coordinator_keys: vec![key.clone()], ..Default::default() }
        }
        _ => FindCoordinatorRequest { key: key.clone(), key_type, ..Default::default() },
    };
    let (asked, mut answer) = client.call_any(i16::MAX, request).await?;
    let (code, message, id, host, port) = match answer.coordinators.pop() {
        Some(found) => (found.error_code, found.error_message, found.node_id, found.host, found.port),
        None => (answer.error_code, answer.error_message, answer.node_id, answer.host, answer.port),
    };
    let kind = if key_type == GROUP { "group" } else { "transactional id" };
    let what = || format!("{kind} {key}");
    match Error::of_code(&asked.address(), "FindCoordinator", what, code, message.as_deref()) {
        Some(error) => Err(error),
        None => {
            let port = u16::try_from(port).unwrap_or(0);
            Ok(Broker { id: BrokerId(id), host, port, rack: None })
        }
    }
}

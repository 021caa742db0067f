//! AlterClientQuotas (KIP-546), versions 0 to 1: sets quotas of users, client ids and addresses, or takes them away.

use std::collections::HashMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::alter_client_quotas_request::{EntryData, OpData};
use aqueduct_protocol::messages::alter_client_quotas_response::{self as response};
use aqueduct_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};

use super::shared::failure;
use super::{Context, own};
use crate::metadata::{Command, MetadataError, decide};
use crate::quotas::QuotaValue;
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let metadata = &context.node.metadata;
    let twice = named_twice(&request.entries);
    // What is named twice is not altered.
    let command = |(entry, twice)| command(entry, twice);
    let commands: Vec<Command> = request.entries.iter().zip(&twice).map(command).collect();
    let outcomes: Vec<Result<(), (ErrorCode, String)>> = if !context.allows_cluster(Operation::AlterConfigs) {
        let code = ErrorCode::ClusterAuthorizationFailed;
        commands.iter().map(|_| Err((code, code.message().to_owned()))).collect()
    } else {
        let done = match request.validate_only {
            true => {
                let image = metadata.image();
                let check = |command| decide(&image, command).map(|(_, outcome)| outcome);
                commands.iter().map(|command| check(command).map_err(MetadataError::from)).collect()
            }
            false => metadata.submit(commands).await,
        };
        let done = done.into_iter().map(|outcome| outcome.map(|_| ()).map_err(failure));
        done.zip(&twice).map(|(outcome, twice)| if *twice { Err(repeated()) } else { outcome }).collect()
    };
    let entries = request.entries.into_iter().zip(outcomes).map(entry).collect();
    AlterClientQuotasResponse { entries, ..Default::default() }
}

/// Which entries are of an entity that another is of too.
fn named_twice(entries: &[EntryData]) -> Vec<bool> {
    let key = |entry: &EntryData| {
        let mut parts: Vec<_> =
            entry.entity.iter().map(|p| (p.entity_type.clone(), p.entity_name.clone())).collect();
        parts.sort();
        parts
    };
    let mut count: HashMap<_, usize> = HashMap::new();
    for entry in entries {
        *count.entry(key(entry)).or_default() += 1;
    }
    entries.iter().map(|entry| count.get(&key(entry)) > Some(&1)).collect()
}

fn repeated() -> (ErrorCode, String) {
    (ErrorCode::InvalidRequest, "An entity must appear at most once in a request.".to_owned())
}

fn command(entry: &EntryData, twice: &bool) -> Command {
    let op = |op: &OpData| (own(&op.key), (!op.remove).then_some(QuotaValue(op.value)));
    let entity = entry.entity.iter();
    Command::AlterQuota {
        entity: entity.map(|part| (own(&part.entity_type), part.entity_name.as_deref().map(own))).collect(),
        ops: if *twice { Vec::new() } else { entry.ops.iter().map(op).collect() },
    }
}

fn entry((asked, outcome): (EntryData, Result<(), (ErrorCode, String)>)) -> response::EntryData {
    let (code, message) = match outcome {
        Ok(()) => (ErrorCode::None, None),
        Err((code, message)) => (code, Some(message.into())),
    };
    let parts = asked.entity.into_iter();
    let part = parts
        .map(|part| response::EntityData { entity_type: part.entity_type, entity_name: part.entity_name });
    response::EntryData { error_code: code.code(), error_message: message, entity: part.collect() }
}

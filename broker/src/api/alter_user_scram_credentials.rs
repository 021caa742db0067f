//! AlterUserScramCredentials (KIP-554), version 0: credentials of users come and go.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use aqueduct_protocol::messages::{AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse};
use bytestring::ByteString;
use indexmap::IndexMap;

use super::Context;
use crate::metadata::{Command, MetadataError, SaltedPassword, ScramChange, decide};
use crate::security::Operation;

pub(crate) async fn handle(
    context: Context,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let deletions = request
        .deletions
        .into_iter()
        .map(|deletion| ScramChange::Delete { user: deletion.name, mechanism: deletion.mechanism });
    let upsertions = request.upsertions.into_iter().map(|upsertion| ScramChange::Upsert {
        user: upsertion.name,
        mechanism: upsertion.mechanism,
        iterations: upsertion.iterations,
        salt: upsertion.salt,
        salted_password: SaltedPassword(upsertion.salted_password),
    });
    let mut by_user: IndexMap<ByteString, Vec<ScramChange>> = IndexMap::new();
    for change in deletions.chain(upsertions) {
        by_user.entry(change.user().clone()).or_default().push(change);
    }
    let result =
        |user: ByteString, code: ErrorCode, message: Option<String>| AlterUserScramCredentialsResult {
            user,
            error_code: code.code(),
            error_message: message.map(Into::into),
        };
    let results = if context.allows_cluster(Operation::Alter) {
        // As Apache Kafka: one change of a user in a request, of whichever mechanism.
        let (twice, once): (Vec<_>, Vec<_>) = by_user.into_iter().partition(|(_, changes)| changes.len() > 1);
        let image = context.node.metadata.image();
        // What is wrong with the first of them is told before that.
        let refused = twice.into_iter().map(|(user, mut changes)| {
            changes.truncate(1);
            match decide(&image, &Command::AlterScram { changes }) {
                Err(rejection) => result(user, rejection.code, Some(rejection.message)),
                Ok(_) => {
                    let message = "A user credential cannot be altered twice in the same request";
                    result(user, ErrorCode::DuplicateResource, Some(message.to_owned()))
                }
            }
        });
        let refused: Vec<_> = refused.collect();
        let (users, changes): (Vec<_>, Vec<_>) = once.into_iter().unzip();
        let commands = changes.into_iter().map(|changes| Command::AlterScram { changes }).collect();
        let outcomes = context.node.metadata.submit(commands).await;
        let outcomes = users.into_iter().zip(outcomes);
        outcomes
            .map(|(user, outcome)| match outcome {
                Ok(_) => result(user, ErrorCode::None, None),
                Err(MetadataError::Rejected(rejection)) => {
                    result(user, rejection.code, Some(rejection.message))
                }
                Err(error) => result(user, ErrorCode::KafkaStorageError, Some(error.to_string())),
            })
            .chain(refused)
            .collect()
    } else {
        let code = ErrorCode::ClusterAuthorizationFailed;
        let message = || Some("Cluster authorization failed.".to_owned());
        by_user.into_keys().map(|user| result(user, code, message())).collect()
    };
    AlterUserScramCredentialsResponse { throttle_time_ms: 0, results }
}

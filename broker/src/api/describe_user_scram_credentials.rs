//! DescribeUserScramCredentials (KIP-554), version 0: which users have which credentials; never the credentials.

use std::collections::BTreeMap;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use aqueduct_protocol::messages::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};
use bytestring::ByteString;

use super::Context;
use crate::metadata::ScramImage;
use crate::security::Operation;

pub(crate) async fn handle(
    context: Context,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    if !context.allows_cluster(Operation::Describe) {
        return DescribeUserScramCredentialsResponse {
            error_code: ErrorCode::ClusterAuthorizationFailed.code(),
            error_message: Some("Cluster authorization failed.".into()),
            ..Default::default()
        };
    }
    let scram = context.node.metadata.image().scram.clone();
    let named = request.users.unwrap_or_default();
    let mut wanted: BTreeMap<ByteString, usize> = BTreeMap::new();
    if named.is_empty() {
        wanted.extend(scram.users().map(|user| (user.clone(), 1)));
    }
    for user in named {
        *wanted.entry(user.name).or_default() += 1;
    }
    DescribeUserScramCredentialsResponse {
        error_message: None,
        results: wanted.into_iter().map(|(user, times)| describe(&scram, user, times)).collect(),
        ..Default::default()
    }
}

fn describe(scram: &ScramImage, user: ByteString, times: usize) -> DescribeUserScramCredentialsResult {
    let failed = |code: ErrorCode, message: String| DescribeUserScramCredentialsResult {
        user: user.clone(),
        error_code: code.code(),
        error_message: Some(message.into()),
        credential_infos: Vec::new(),
    };
    if times > 1 {
        let message =
            format!("Cannot describe SCRAM credentials for the same user twice in a single request: {user}");
        return failed(ErrorCode::DuplicateResource, message);
    }
    let Some(credentials) = scram.user(&user) else {
        let message = format!("Attempt to describe a user credential that does not exist: {user}");
        return failed(ErrorCode::ResourceNotFound, message);
    };
    let info = |(mechanism, credential): (&aqueduct_security::scram::Mechanism, &_)| {
        let aqueduct_security::scram::Credential { iterations, .. } = credential;
        CredentialInfo { mechanism: *mechanism as i8, iterations: *iterations as i32 }
    };
    DescribeUserScramCredentialsResult {
        error_code: 0,
        error_message: None,
        credential_infos: credentials.iter().map(info).collect(),
        user,
    }
}

//! UpdateFeatures (KIP-584, KIP-778, KIP-1022), versions 0 to 2: sets the levels of features. All or none are set.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::update_features_request::FeatureUpdateKey;
use aqueduct_protocol::messages::update_features_response::UpdatableFeatureResult;
use aqueduct_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::Context;
use super::shared::{failure, own};
use crate::metadata::{Command, Rejection, UpgradeType, decide};
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let updates = request.feature_updates;
    let done = match context.allows_cluster(Operation::Alter) {
        true => update(&context, &updates, request.validate_only && context.version >= 1).await,
        false => Err(Rejection::new(ErrorCode::ClusterAuthorizationFailed, "Cluster authorization failed.")),
    };
    let (error_code, error_message) = match done {
        Ok(()) => (0, None),
        Err(rejection) => (rejection.code.code(), Some(rejection.message.into())),
    };
    // Up to version 1 there is an answer for each feature as well, all alike as they stand or fall together.
    let each =
        |update: FeatureUpdateKey| UpdatableFeatureResult { feature: update.feature, ..Default::default() };
    let succeeded = error_code == 0 && context.version <= 1;
    let results = if succeeded { updates.into_iter().map(each).collect() } else { Vec::new() };
    UpdateFeaturesResponse { error_code, error_message, results, ..Default::default() }
}

async fn update(
    context: &Context,
    updates: &[FeatureUpdateKey],
    validate_only: bool,
) -> Result<(), Rejection> {
    let metadata = &context.node.metadata;
    let mut image = (*metadata.image()).clone();
    let mut commands = Vec::with_capacity(updates.len());
    for (at, update) in updates.iter().enumerate() {
        if updates[..at].iter().any(|before| before.feature == update.feature) {
            return Err(Rejection::new(
                ErrorCode::InvalidRequest,
                format!("Feature {} is named twice.", update.feature),
            ));
        }
        let command = command(context.version, update)?;
        let (records, _) = decide(&image, &command).map_err(|rejection| {
            Rejection::new(
                rejection.code,
                format!(
                    "The update failed for all features since the following feature had an error: {}",
                    rejection.message
                ),
            )
        })?;
        records.iter().for_each(|record| image.apply(record));
        commands.push(command);
    }
    if validate_only {
        return Ok(());
    }
    for outcome in metadata.submit(commands).await {
        outcome.map_err(|error| {
            let (code, message) = failure(error);
            Rejection::new(code, message)
        })?;
    }
    Ok(())
}

fn command(version: i16, update: &FeatureUpdateKey) -> Result<Command, Rejection> {
    let kind = match (version, update.upgrade_type) {
        // As the reference has it, version 0 cannot lower a level, whatever it allows.
        (0, _) | (_, 1) => UpgradeType::Upgrade,
        (_, 2) => UpgradeType::SafeDowngrade,
        (_, 3) => UpgradeType::UnsafeDowngrade,
        (_, other) => {
            let why = format!("The controller does not support the given upgrade type {other}.");
            return Err(Rejection::new(ErrorCode::InvalidUpdateVersion, why));
        }
    };
    Ok(Command::UpdateFeature { name: own(&update.feature), level: update.max_version_level, kind })
}

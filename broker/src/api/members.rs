//! QuorumMessage and AskController, of our own: what the nodes of a cluster say to each other. Both need CLUSTER_ACTION.

use aqueduct_protocol::error_code::ErrorCode;

use super::Context;
use crate::membership::message::{AskController, ControllerAnswer, QuorumAnswer, QuorumMessage, closed};
use crate::security::Operation;

pub(crate) async fn quorum_message(context: Context, request: QuorumMessage) -> QuorumAnswer {
    QuorumAnswer(closed(match (&context.node.member, context.allows_cluster(Operation::ClusterAction)) {
        (_, false) => Err(ErrorCode::ClusterAuthorizationFailed),
        (None, true) => Err(ErrorCode::UnsupportedVersion),
        (Some(member), true) => Ok(member.serve(request.0).await),
    }))
}

pub(crate) async fn ask_controller(context: Context, request: AskController) -> ControllerAnswer {
    ControllerAnswer(closed(match (&context.node.member, context.allows_cluster(Operation::ClusterAction)) {
        (_, false) => Err(ErrorCode::ClusterAuthorizationFailed),
        (None, true) => Err(ErrorCode::UnsupportedVersion),
        (Some(member), true) => member.answer(request.0).await,
    }))
}

//! ListTransactions (KIP-664, KIP-994, KIP-1152), versions 0 to 2: the transactions that this broker coordinates, filtered
//! by state, producer, duration (since version 1) and id (since version 2).

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::ProducerId;
use aqueduct_protocol::messages::list_transactions_response::TransactionState as Shown;
use aqueduct_protocol::messages::{ListTransactionsRequest, ListTransactionsResponse};
use regex::Regex;

use super::{Context, own};
use crate::coordinator::{Filter, Listed, TransactionState};
use crate::security::{Operation, ResourceType};

pub(crate) async fn handle(context: Context, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let failed = |code: ErrorCode| ListTransactionsResponse { error_code: code.code(), ..Default::default() };
    let pattern = match request.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty()) {
        Some(pattern) => match Regex::new(&format!("^(?:{pattern})$")) {
            Ok(pattern) => Some(pattern),
            Err(_) => return failed(ErrorCode::InvalidRegularExpression),
        },
        None => None,
    };
    let states = request.state_filters.iter().filter_map(|name| TransactionState::from_name(name));
    let states: Vec<TransactionState> = states.collect();
    let unknown = request.state_filters.iter().filter(|name| TransactionState::from_name(name).is_none());
    let unknown_state_filters = unknown.map(|name| own(name)).collect();
    if states.is_empty() && !request.state_filters.is_empty() {
        // No transaction is in a state that is not known.
        return ListTransactionsResponse { unknown_state_filters, ..Default::default() };
    }
    let filter = Filter {
        states,
        producers: request.producer_id_filters.into_iter().map(ProducerId).collect(),
        longer_than_ms: if context.version >= 1 { request.duration_filter } else { -1 },
        pattern,
    };
    let listed = match context.node.transactions.list(filter).await {
        Ok(listed) => listed,
        Err(code) => return failed(code),
    };
    let may_see = |listed: &Listed| {
        context.would_allow(Operation::Describe, ResourceType::TransactionalId, listed.id.as_str())
    };
    let transaction_states = listed.into_iter().filter(may_see).map(shown).collect();
    ListTransactionsResponse { unknown_state_filters, transaction_states, ..Default::default() }
}

fn shown(listed: Listed) -> Shown {
    Shown {
        transactional_id: own(listed.id.as_str()),
        producer_id: listed.producer.0,
        transaction_state: listed.state.name().into(),
    }
}

//! What is asked of a transaction coordinator, free of API versions: the handlers translate.

use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};

use super::state::TransactionState;
use super::transaction::Place;
use crate::coordinator::ids::TransactionalId;

/// InitProducerId with a transactional id.
#[derive(Clone, Debug)]
pub struct Init {
    pub id: TransactionalId,
    pub timeout_ms: i32,
    /// What the client believes to be, where it says so.
    pub expected: Option<(ProducerId, ProducerEpoch)>,
    /// A producer id that nobody has had, for the case that one is needed.
    pub fresh: Option<ProducerId>,
}

/// Who speaks of a transaction.
#[derive(Clone, Debug)]
pub struct Speaker {
    pub id: TransactionalId,
    pub producer: ProducerId,
    pub epoch: ProducerEpoch,
}

/// AddPartitionsToTxn and AddOffsetsToTxn.
#[derive(Clone, Debug)]
pub struct Add {
    pub who: Speaker,
    pub partitions: Vec<Place>,
    /// Version of the client's transaction protocol.
    pub client_version: i16,
}

/// EndTxn.
#[derive(Clone, Debug)]
pub struct End {
    pub who: Speaker,
    pub commit: bool,
    /// Version of the client's transaction protocol.
    pub client_version: i16,
    /// A producer id that nobody has had, for the case that one is needed.
    pub fresh: Option<ProducerId>,
}

/// Which transactions a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Empty for all.
    pub states: Vec<TransactionState>,
    /// Empty for all.
    pub producers: Vec<ProducerId>,
    /// Those alone that have been running for longer than this, in milliseconds; negative for all.
    pub longer_than_ms: i64,
    /// Those alone whose id it matches as a whole.
    pub pattern: Option<regex::Regex>,
}

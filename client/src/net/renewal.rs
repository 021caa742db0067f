//! When a session that the broker limits is to be renewed, and doing it (KIP-368).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Shared;
use super::sasl::{Exchange, Parties};
use crate::config::Sasl;
use crate::error::Result;

/// The broker answers what came before first, long polls among it; a group may take minutes to gather.
pub(super) const ANSWER: Duration = Duration::from_secs(600);

/// A session that ends.
#[derive(Debug)]
pub(super) struct Renewal {
    sasl: Arc<Sasl>,
    at: Option<Instant>,
}

impl Renewal {
    /// A session that has begun now and lasts as long as `life`.
    pub fn new(sasl: Arc<Sasl>, life: Duration) -> Self {
        Self { sasl, at: Some(moment(life)) }
    }

    /// Authenticates again; no other request may be written meanwhile.
    pub async fn renew(&mut self, wire: &mut impl Exchange, shared: &Shared) -> Result<()> {
        let Shared { broker, client_id, versions, .. } = shared;
        let parties = Parties { broker, client_id, versions, sasl: &self.sasl };
        let life = parties.authenticate(wire).await?;
        self.at = life.map(moment);
        tracing::debug!(broker, ?life, "session renewed");
        Ok(())
    }
}

/// Between 85 and 95 per cent of the time, so that many clients do not come at once.
fn moment(life: Duration) -> Instant {
    Instant::now() + life.mul_f64(rand::random_range(0.85..0.95))
}

/// Resolves when the session is to be renewed; never where it lasts.
pub(super) async fn due(renewal: Option<&Renewal>) {
    match renewal.and_then(|renewal| renewal.at) {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

//! What happens without being asked for: transactions time out, ids expire, markers are tried again.

use aqueduct_protocol::ids::ProducerId;

use super::effect::{Effect, Reply};
use super::state::TransactionState;
use super::{Now, Then, TransactionalId, Transactions};

impl Transactions {
    /// Lets everything happen that is due by now.
    pub fn on_tick(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some((_, id)) = self.retries.first().filter(|(at_ms, _)| *at_ms <= now.tick_ms).cloned() {
            self.retries.pop_first();
            self.mark(now, &id, &mut effects);
        }
        if self.timeouts_at <= now.tick_ms {
            self.timeouts_at = now.tick_ms.saturating_add(self.options.timeout_check_interval_ms);
            self.abort_timed_out(now, &mut effects);
        }
        if self.expiry_at <= now.tick_ms {
            self.expiry_at = now.tick_ms.saturating_add(self.options.expiry_check_interval_ms);
            self.expire(now, &mut effects);
        }
        effects
    }

    /// Takes what [`Effect::WantId`] asked for; it is used at the next look.
    pub fn on_fresh_id(&mut self, id: ProducerId) {
        self.spare_id = Some(id);
    }

    fn abort_timed_out(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut wants_id = false;
        for entry in self.ids.values_mut().filter(|entry| entry.at.state == TransactionState::Ongoing) {
            // Begun by a coordinator whose clock is ahead of this one: it would stay open for as long as that is.
            entry.at.start_ms = entry.at.start_ms.min(now.wall_ms);
        }
        for id in self.due(|entry| {
            let deadline = entry.at.start_ms.saturating_add(entry.at.timeout_ms.into());
            entry.at.state == TransactionState::Ongoing && deadline < now.wall_ms
        }) {
            let fresh = self.spare_id;
            match self.fence(now, &id, None, fresh) {
                Ok(effect) => {
                    tracing::info!(%id, "transaction is aborted: it took longer than its timeout");
                    if let Effect::Append(_, record) = &effect
                        && record.value.as_ref().is_some_and(|at| Some(at.next) == fresh)
                    {
                        self.spare_id = None;
                    }
                    effects.push(effect);
                }
                Err(Reply::NeedsId) => wants_id = true,
                Err(_) => {}
            }
        }
        if wants_id {
            effects.push(Effect::WantId);
        }
    }

    fn expire(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let oldest = now.wall_ms.saturating_sub(self.options.id_expiration_ms);
        for id in self.due(|entry| entry.at.state.is_at_rest() && entry.at.updated_ms <= oldest) {
            effects.push(self.append(&id, None, Then::Removed));
        }
    }

    /// Ids that nothing is on its way for, in an order that is always the same.
    fn due(&self, is_due: impl Fn(&super::Entry) -> bool) -> Vec<TransactionalId> {
        let due = self.ids.iter().filter(|(_, entry)| !entry.pending && is_due(entry));
        let mut due: Vec<_> = due.map(|(id, _)| id.clone()).collect();
        due.sort_unstable();
        due
    }
}

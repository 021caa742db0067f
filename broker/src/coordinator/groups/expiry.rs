//! Offsets that are too old go, and groups that are empty of members and offsets.

use std::sync::Arc;

use tracing::info;

use super::Groups;
use super::transactional::is_settled;
use crate::coordinator::context::{Context, Then};
use crate::coordinator::effect::Effect;
use crate::coordinator::group::{Group, GroupState};
use crate::coordinator::ids::GroupId;
use crate::coordinator::offsets::Committed;
use crate::coordinator::record::Record;
use crate::coordinator::request::Now;
use crate::coordinator::timers::TimerKey;

impl Groups {
    /// Looks through all groups, and asks to be called again.
    pub(super) fn expire(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.for_each(now, effects, Group::expire);
        self.timers
            .set(TimerKey::Expiry, now.tick_ms.saturating_add(self.options.retention_check_interval_ms));
    }

    /// Topics are gone, and with them the offsets in them.
    pub fn on_topics_deleted(&mut self, now: Now, topics: &[Arc<str>]) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.for_each(now, &mut effects, |group, cx| {
            group.drop_offsets(cx, |topic, _| topics.contains(topic))
        });
        effects
    }

    fn for_each(
        &mut self,
        now: Now,
        effects: &mut Vec<Effect>,
        mut act: impl FnMut(&mut Group, &mut Context<'_>),
    ) {
        let ids: Vec<GroupId> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with(now, effects, &id, &mut act);
        }
    }
}

impl Group {
    fn expire(&mut self, cx: &mut Context<'_>) {
        let (wall_ms, retention_ms) = (cx.now.wall_ms, cx.options.offsets_retention_ms);
        // Of a consumer group, each offset ages on its own as well.
        let simple = self.protocol_type.is_none();
        let empty = self.has_no_members();
        let since_empty = self.state_since_ms.filter(|_| empty && !simple);
        let stable_consumers = self.state() == GroupState::Stable && self.subscribed.is_some();
        if !(simple || empty || stable_consumers) {
            return;
        }
        let old: Vec<_> = self
            .offsets
            .iter()
            .filter(|(topic, index, _)| !cx.open.holds(self.id.as_str(), topic, *index))
            .filter(|(topic, _, at)| {
                let since = since_empty.unwrap_or(at.commit_ms);
                !self.is_subscribed(topic) && at.is_expired(wall_ms, since, retention_ms)
            })
            .map(|(topic, index, _)| self.tombstone(topic, index))
            .collect();
        let left = self.offsets.iter().count() - old.len();
        self.append_tombstones(
            cx,
            old,
            empty && left == 0 && self.pending_join.is_empty() && is_settled(cx, &self.id),
        );
    }

    fn drop_offsets(&mut self, cx: &mut Context<'_>, which: impl Fn(&Arc<str>, &Committed) -> bool) {
        let gone: Vec<_> = self
            .offsets
            .iter()
            .filter(|(topic, _, at)| which(topic, at))
            .map(|(topic, index, _)| self.tombstone(topic, index))
            .collect();
        self.append_tombstones(cx, gone, false);
    }

    fn append_tombstones(&mut self, cx: &mut Context<'_>, mut records: Vec<Record>, and_group: bool) {
        if !records.is_empty() {
            info!(group = %self.id, offsets = records.len(), "offsets are dropped");
        }
        if and_group {
            records.extend(self.end());
        }
        if records.is_empty() {
            return;
        }
        let write = cx.append(records, Then::Apply);
        if and_group {
            self.last_write = Some(write);
        }
    }
}

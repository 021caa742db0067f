//! What a consumer group reads: names, patterns, the epoch that rises with them, and the target assignment.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use tracing::{debug, info};

use crate::coordinator::consumer::assignor::{Assignor, Spec, SpecMember};
use crate::coordinator::consumer::draft::Draft;
use crate::coordinator::consumer::entry::{Entry, GroupEpoch, Resolved, TargetEpoch, Terms};
use crate::coordinator::consumer::hash::topics_hash;
use crate::coordinator::consumer::pattern::Pattern;
use crate::coordinator::consumer::request::{Refusal, Visible};
use crate::coordinator::ids::GroupId;
use crate::coordinator::request::Now;
use crate::metadata::MetadataImage;

/// What decisions about subscriptions look at.
pub(super) struct Look<'a> {
    pub group: &'a GroupId,
    pub image: &'a MetadataImage,
    pub now: Now,
}

impl Look<'_> {
    /// Finds the topics of a pattern that nobody had before.
    pub fn resolve_new(
        &self,
        draft: &mut Draft<'_>,
        pattern: &Arc<str>,
        visible: &Visible,
    ) -> Result<(), Refusal> {
        if draft.state.resolved(pattern).is_some() {
            return Ok(());
        }
        let compiled = Pattern::new(pattern).map_err(|why| {
            let message =
                format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {why}.");
            Refusal::new(ErrorCode::InvalidRegularExpression, message)
        })?;
        draft.put(Entry::Pattern(pattern.clone(), Some(Arc::new(self.resolve(&compiled, visible)))));
        Ok(())
    }

    /// Looks again for the topics of every pattern, and forgets those that nobody has any more.
    pub fn refresh(&self, draft: &mut Draft<'_>, visible: &Visible) {
        let used: Vec<Arc<str>> = draft.state.used_patterns().cloned().collect();
        for pattern in used {
            let Ok(compiled) = Pattern::new(&pattern) else { continue };
            let found = self.resolve(&compiled, visible);
            if draft.state.resolved(&pattern).is_none_or(|known| known.topics != found.topics) {
                debug!(group = %self.group, %pattern, topics = found.topics.len(), "pattern matches other topics");
                draft.put(Entry::Pattern(pattern, Some(Arc::new(found))));
            }
        }
    }

    /// Forgets patterns that nobody has any more.
    pub fn drop_unused_patterns(draft: &mut Draft<'_>) {
        let known = draft.state.patterns().map(|(pattern, _)| pattern.clone());
        let unused: Vec<_> = known.filter(|pattern| !draft.state.uses_pattern(pattern)).collect();
        unused.into_iter().for_each(|pattern| draft.put(Entry::Pattern(pattern, None)));
    }

    fn resolve(&self, pattern: &Pattern, visible: &Visible) -> Resolved {
        let names = self.image.topics().map(|topic| &*topic.name).filter(|name| visible.shows(name));
        Resolved { topics: pattern.find(names), version: self.image.version as i64, at_ms: self.now.wall_ms }
    }

    /// Raises the group's epoch where `changed` says so or the topics are not what they were.
    pub fn raise_epoch(&self, draft: &mut Draft<'_>, changed: bool) {
        let topics_hash = topics_hash(self.image, draft.state.subscribed().iter());
        if changed || topics_hash != draft.state.topics_hash() {
            let epoch = draft.state.epoch().saturating_add(1);
            info!(group = %self.group, epoch, "group epoch rises");
            draft.put(Entry::Epoch(Some(GroupEpoch { epoch, topics_hash })));
        }
        if draft.state.has_old_metadata() {
            draft.put(Entry::TopicMetadata(false));
        }
    }

    /// Computes the target of the group's epoch, unless the last one is too young.
    pub fn assign(&self, draft: &mut Draft<'_>, default: Assignor, interval_ms: i32) {
        let target = draft.state.target_epoch();
        let (epoch, now_ms) = (draft.state.epoch(), self.now.wall_ms);
        // A clock that was set back must not hold assignments up.
        let young =
            target.at_ms > 0 && now_ms >= target.at_ms && now_ms - target.at_ms < i64::from(interval_ms);
        if epoch <= target.epoch || young {
            return;
        }
        let assignor =
            draft.state.preferred_assignor().and_then(|name| Assignor::find(name)).unwrap_or(default);
        let spec = self.spec(draft);
        for (id, target) in assignor.assign(&spec) {
            if !draft.state.has_target(&id) || *draft.state.target(&id) != target {
                draft.put(Entry::Target(id, Some(Arc::new(target))));
            }
        }
        draft.put(Entry::TargetEpoch(Some(TargetEpoch { epoch, at_ms: now_ms })));
        info!(group = %self.group, epoch, %assignor, members = spec.members.len(), "target assignment is computed");
    }

    fn spec(&self, draft: &Draft<'_>) -> Spec {
        let state = &*draft.state;
        let mut spec = Spec::default();
        // Most members read the same: one set serves them all.
        let mut seen: HashMap<_, Arc<BTreeSet<Uuid>>> = HashMap::new();
        for (id, member) in state.members() {
            let key = (&member.terms.topics, member.terms.pattern());
            let topics = seen.entry(key).or_insert_with(|| Arc::new(self.topic_ids(draft, &member.terms)));
            spec.members.push(SpecMember {
                id: id.clone(),
                instance_id: member.terms.instance_id.clone(),
                topics: topics.clone(),
                before: state.target(id),
            });
        }
        for id in seen.values().flat_map(|topics| topics.iter()) {
            if let Some(topic) = self.image.topic_by_id(*id) {
                spec.topics.insert(*id, topic.partitions.len() as i32);
            }
        }
        spec
    }

    /// Topics that a member reads and that there are.
    pub fn topic_ids(&self, draft: &Draft<'_>, terms: &Terms) -> BTreeSet<Uuid> {
        let names = draft.state.topics_of(terms);
        names.iter().filter_map(|name| self.image.topic(name)).map(|topic| topic.id).collect()
    }
}

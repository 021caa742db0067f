//! What is asked of single partitions: in-sync sets, elections, reassignments.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, PartitionIndex, Uuid};

use super::change::{Change, Election, NO_LEADER};
use super::{AlterPartition, Controller, Reply};
use crate::metadata::features::ELIGIBLE_LEADER_REPLICAS_VERSION;
use crate::metadata::{
    BrokerEpoch, ClusterRecord, ElectionType, Outcome, PartitionImage, PartitionState, Record, Rejection,
    Resource, has_duplicates, without,
};

impl Controller {
    /// Begins a change of a partition that is there.
    pub(super) fn change(&self, topic: Uuid, index: PartitionIndex) -> Option<Change<'_>> {
        let image = self.image();
        let found = image.topic_by_id(topic)?;
        let unclean = self
            .flag(&found.name, "unclean.leader.election.enable")
            .unwrap_or(self.settings.unclean_leader_election);
        let (partition, state) = (found.partition(index)?, image.partition_state(topic, index));
        Some(Change {
            image,
            topic,
            index,
            partition,
            state,
            finding: self.finding((topic, index), partition, state),
            min_isr: self.min_isr(&found.name),
            keeps_elr: image.level(&ELIGIBLE_LEADER_REPLICAS_VERSION) > 0,
            election: if unclean { Election::Unclean } else { Election::Online },
            isr: None,
            unclean: Vec::new(),
            replicas: None,
            recovering: None,
        })
    }

    /// Changes all partitions that `wanted` says as `adjust` does, where that is true and makes a difference.
    pub(super) fn change_partitions(
        &mut self,
        wanted: impl Fn(&PartitionImage, &PartitionState) -> bool,
        adjust: impl FnMut(&mut Change<'_>) -> bool,
    ) {
        self.change_some(usize::MAX, wanted, adjust);
    }

    /// The same until `most` have changed; says how many have.
    pub(super) fn change_some(
        &mut self,
        most: usize,
        wanted: impl Fn(&PartitionImage, &PartitionState) -> bool,
        mut adjust: impl FnMut(&mut Change<'_>) -> bool,
    ) -> usize {
        let mut records = Vec::new();
        for (topic, index) in self.find_partitions(wanted) {
            if records.len() == most {
                break;
            }
            let Some(mut change) = self.change(topic, index) else { continue };
            if adjust(&mut change)
                && let Some((partition, state)) = change.build()
            {
                records.push(record(topic, index, partition, state));
            }
        }
        let changed = records.len();
        records.into_iter().for_each(|record| self.push(record));
        changed
    }

    /// Has one partition look whether anybody can lead it.
    pub(super) fn change_partition(&mut self, topic: Uuid, index: PartitionIndex) {
        let built = self.change(topic, index).and_then(|change| change.build());
        if let Some((partition, state)) = built {
            self.push(record(topic, index, partition, state));
        }
    }

    /// Eligible replicas and automatic elections depend on configurations.
    pub(super) fn after_config_change(&mut self) {
        self.change_partitions(
            |partition, state| partition.leader == NO_LEADER || !state.elr.is_empty(),
            |_| true,
        );
    }

    fn setting(&self, topic: &str, key: &str) -> Option<&str> {
        let at = |resource| self.image.config(&resource)?.get(key).map(|value| &**value);
        at(Resource::Topic(topic.into())).or_else(|| at(Resource::Broker(None)))
    }

    fn flag(&self, topic: &str, key: &str) -> Option<bool> {
        self.setting(topic, key).map(|value| value.eq_ignore_ascii_case("true"))
    }

    fn min_isr(&self, topic: &str) -> usize {
        let set = self.setting(topic, "min.insync.replicas").and_then(|value| value.parse().ok());
        set.unwrap_or(self.settings.min_insync_replicas)
    }

    /// Where the change ends a reassignment, the leader may be another one afterwards: the records are valid all the same,
    /// and the asker is to be told NEW_LEADER_ELECTED.
    pub(super) fn alter_partition(&mut self, wanted: &AlterPartition) -> Result<Reply, Rejection> {
        self.check_epoch(wanted.broker, wanted.epoch)?;
        self.check_alter(wanted)?;
        let (topic, index) = (wanted.topic, wanted.index);
        let built = self.change(topic, index).and_then(|mut change| {
            change.isr = Some(wanted.isr.iter().map(|(id, _)| *id).collect());
            change.recovering = Some(wanted.recovering);
            change.build()
        });
        if let Some((partition, state)) = built {
            self.push(record(topic, index, partition, state));
        }
        let now = self.image.topic_by_id(topic).and_then(|topic| topic.partition(index));
        let partition = now.expect("the partition was there").clone();
        let recovering = self.image.partition_state(topic, index).recovering;
        Ok(Reply::Partition(partition, recovering))
    }

    fn check_alter(&self, wanted: &AlterPartition) -> Result<(), Rejection> {
        let refuse = |code, why: String| Err(Rejection::new(code, why));
        let Some(topic) = self.image.topic_by_id(wanted.topic) else {
            return refuse(ErrorCode::UnknownTopicId, "This server does not host this topic ID.".into());
        };
        let place = format!("{}-{}", topic.name, wanted.index);
        let Some(partition) = topic.partition(wanted.index) else {
            return refuse(ErrorCode::UnknownTopicOrPartition, format!("no partition {place}"));
        };
        let (now, epoch) = (partition.leader_epoch, partition.partition_epoch);
        if wanted.leader_epoch > now || wanted.partition_epoch > epoch {
            // The leader knows more than this controller, which is then none any more.
            return refuse(
                ErrorCode::NotController,
                format!("{place}: leader epoch {now} is behind the leader"),
            );
        }
        if wanted.leader_epoch < now {
            return refuse(
                ErrorCode::FencedLeaderEpoch,
                format!("{place}: the leader epoch is {now} by now"),
            );
        }
        if wanted.broker != partition.leader {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("{place} is led by broker {}", partition.leader),
            );
        }
        if wanted.partition_epoch < epoch {
            return refuse(
                ErrorCode::InvalidUpdateVersion,
                format!("{place}: the partition epoch is {epoch} by now"),
            );
        }
        let isr: Vec<_> = wanted.isr.iter().map(|(id, _)| *id).collect();
        let state = self.image.partition_state(wanted.topic, wanted.index);
        let foreign = isr.iter().any(|id| !partition.replicas.contains(id));
        if foreign || has_duplicates(&isr) || !isr.contains(&partition.leader) {
            return refuse(ErrorCode::InvalidRequest, format!("{place}: {isr:?} is no in-sync set for it"));
        }
        if wanted.recovering && (isr.len() > 1 || !state.recovering) {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("{place}: a leader that recovers is in sync alone"),
            );
        }
        // A replica that was registered anew since the leader saw it fetching may have lost what it had.
        let eligible = |(id, epoch): &(BrokerId, BrokerEpoch)| {
            let known = self.image.broker_state(*id).map(|state| state.epoch);
            let offline = self.image.directories.is_offline(wanted.topic, wanted.index, *id);
            self.image.is_live(*id) && !offline && (*epoch == BrokerEpoch::NONE || known == Some(*epoch))
        };
        if let Some((id, _)) = wanted.isr.iter().find(|member| !eligible(member)) {
            return refuse(
                ErrorCode::IneligibleReplica,
                format!("{place}: broker {id} is fenced, stopping, started anew or without the directory"),
            );
        }
        Ok(())
    }

    pub(super) fn elect_leader(
        &mut self,
        topic: &str,
        index: PartitionIndex,
        kind: ElectionType,
    ) -> Result<Outcome, Rejection> {
        let unknown = |why| Rejection::new(ErrorCode::UnknownTopicOrPartition, why);
        let id = self.image.topic(topic).ok_or_else(|| unknown(format!("No such topic as {topic}")))?.id;
        let mut change =
            self.change(id, index).ok_or_else(|| unknown(format!("No such partition as {topic}-{index}")))?;
        let preferred = change.partition.replicas.first().copied();
        let needless = match kind {
            ElectionType::Preferred => preferred == Some(change.partition.leader),
            ElectionType::Unclean => change.partition.leader != NO_LEADER,
        };
        if needless {
            let why = "Leader election not needed for topic partition.";
            return Err(Rejection::new(ErrorCode::ElectionNotNeeded, why));
        }
        change.election = match kind {
            ElectionType::Preferred => Election::Preferred,
            ElectionType::Unclean => Election::Unclean,
        };
        let built = change.build();
        let (code, why) = match kind {
            ElectionType::Preferred => {
                (ErrorCode::PreferredLeaderNotAvailable, "The preferred leader was not available.")
            }
            ElectionType::Unclean => (
                ErrorCode::EligibleLeadersNotAvailable,
                "Eligible topic partition leaders are not available.",
            ),
        };
        let elected = |leader: BrokerId| match kind {
            ElectionType::Preferred => Some(leader) == preferred,
            ElectionType::Unclean => leader != NO_LEADER,
        };
        let Some((partition, state)) = built.filter(|(partition, _)| elected(partition.leader)) else {
            return Err(Rejection::new(code, why));
        };
        self.push(record(id, index, partition, state));
        Ok(Outcome::Done)
    }

    /// Gives a partition other replicas step by step; `None` cancels what is under way.
    pub(super) fn reassign(
        &mut self,
        topic: &str,
        index: PartitionIndex,
        wanted: Option<&[BrokerId]>,
    ) -> Result<Outcome, Rejection> {
        let unknown = |why| Rejection::new(ErrorCode::UnknownTopicOrPartition, why);
        let id = self
            .image
            .topic(topic)
            .ok_or_else(|| unknown(format!("Unable to find a topic named {topic}.")))?
            .id;
        if let Some(wanted) = wanted {
            self.check_targets(wanted)?;
        }
        let mut change = self
            .change(id, index)
            .ok_or_else(|| unknown(format!("Unable to find partition {topic}:{index}.")))?;
        let (partition, state) = (change.partition, change.state);
        // What the partition has when a reassignment under way is taken back.
        let original = without(&partition.replicas, &state.adding);
        match wanted {
            None if !state.is_reassigning() => {
                let why = "No partition reassignment is in progress.";
                return Err(Rejection::new(ErrorCode::NoReassignmentInProgress, why));
            }
            None => {
                let isr = without(&partition.isr, &state.adding);
                if isr.is_empty() {
                    let why = format!(
                        "Cannot revert partition reassignment of {topic}-{index}: none of {original:?} is in sync; wait, or reassign to the brokers that are"
                    );
                    return Err(Rejection::new(ErrorCode::InvalidReplicaAssignment, why));
                }
                change.isr = Some(isr);
                change.replicas = Some([original, Vec::new(), Vec::new()]);
            }
            Some(targets) => {
                let (adding, removing) = (without(targets, &original), without(&original, targets));
                let mut replicas = targets.to_vec();
                replicas.extend(&removing);
                // Replicas that an earlier reassignment was adding, and that are not wanted any more, go at once.
                change.isr = Some(partition.isr.iter().filter(|id| replicas.contains(id)).copied().collect());
                if change.isr.as_ref().is_some_and(Vec::is_empty) && !partition.isr.is_empty() {
                    let why = format!(
                        "{topic}-{index} would be left with no in-sync replica; cancel its reassignment first"
                    );
                    return Err(Rejection::new(ErrorCode::InvalidReplicaAssignment, why));
                }
                change.replicas = Some([replicas, adding, removing]);
            }
        }
        if let Some((partition, state)) = change.build() {
            self.push(record(id, index, partition, state));
        }
        Ok(Outcome::Done)
    }

    fn check_targets(&self, wanted: &[BrokerId]) -> Result<(), Rejection> {
        let invalid = |why: String| Err(Rejection::new(ErrorCode::InvalidReplicaAssignment, why));
        if wanted.is_empty() {
            return invalid("The manual partition assignment includes an empty replica list.".into());
        }
        if has_duplicates(wanted) {
            return invalid(format!(
                "The manual partition assignment {wanted:?} includes a broker more than once."
            ));
        }
        if let Some(id) = wanted.iter().find(|id| !self.is_registered(**id)) {
            return invalid(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
        Ok(())
    }
}

fn record(topic: Uuid, index: PartitionIndex, partition: PartitionImage, state: PartitionState) -> Record {
    Record::Cluster(ClusterRecord::Partition { topic, index, partition, state })
}

//! The cluster as clients of one listener are to see it.

use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, PartitionIndex, Uuid};

use crate::metadata::{BrokerImage, Endpoint, MetadataImage, PartitionImage};

/// An image, as it looks through a listener.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub image: &'a MetadataImage,
    pub listener: &'a str,
}

impl<'a> View<'a> {
    /// The brokers that are not fenced and have the listener.
    pub fn brokers(self) -> impl Iterator<Item = (&'a Arc<BrokerImage>, &'a Endpoint)> {
        self.registered().filter(move |(broker, _)| self.image.is_unfenced(broker.id))
    }

    /// The same with those that are fenced.
    pub fn registered(self) -> impl Iterator<Item = (&'a Arc<BrokerImage>, &'a Endpoint)> {
        let of_listener = move |broker: &'a Arc<BrokerImage>| Some((broker, broker.endpoint(self.listener)?));
        self.image.brokers.values().filter_map(of_listener)
    }

    /// The broker that is told to be the controller: any that is there, as each passes on what the controller decides;
    /// the one that is asked where it may be.
    pub fn controller(self, asked: BrokerId) -> i32 {
        if self.image.is_unfenced(asked) {
            return asked.0;
        }
        self.brokers().next().map_or(-1, |(broker, _)| broker.id.0)
    }

    /// Who leads a partition, or why clients cannot be told.
    pub fn leader(self, partition: &PartitionImage) -> Result<BrokerId, ErrorCode> {
        match self.image.brokers.get(&partition.leader) {
            None => Err(ErrorCode::LeaderNotAvailable),
            Some(leader) if leader.endpoint(self.listener).is_none() => Err(ErrorCode::ListenerNotFound),
            Some(leader) => Ok(leader.id),
        }
    }

    /// Replicas that nobody can read from: on brokers that are gone, fenced or without the listener, or in directories that
    /// failed.
    pub fn offline(self, topic: Uuid, index: PartitionIndex, partition: &PartitionImage) -> Vec<i32> {
        let is_there = |id: BrokerId| {
            let broker = self.image.brokers.get(&id);
            self.image.is_unfenced(id)
                && broker.is_some_and(|broker| broker.endpoint(self.listener).is_some())
                && !self.image.directories.is_offline(topic, index, id)
        };
        numbers(partition.replicas.iter().filter(|id| !is_there(**id)))
    }
}

/// Ids as they are on the wire.
pub(super) fn numbers<'a>(brokers: impl IntoIterator<Item = &'a BrokerId>) -> Vec<i32> {
    brokers.into_iter().map(|id| id.0).collect()
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::LeaderEpoch;

    use super::*;
    use crate::config::SecurityProtocol;
    use crate::metadata::{BrokerState, ClusterRecord, Record};

    fn image() -> MetadataImage {
        let mut image = MetadataImage::new("c".into());
        for (id, listener, fenced, shutting_down) in
            [(1, "A", true, false), (2, "A", false, true), (3, "A", false, false), (4, "B", false, false)]
        {
            let id = BrokerId(id);
            let endpoint = Endpoint {
                listener: listener.into(),
                host: "h".into(),
                port: 9092,
                protocol: SecurityProtocol::Plaintext,
            };
            let broker = BrokerImage { id, incarnation: Uuid::ZERO, endpoints: vec![endpoint], rack: None };
            image.apply(&Record::BrokerRegistered(broker));
            let state = BrokerState { fenced, shutting_down, ..Default::default() };
            image.apply(&Record::Cluster(ClusterRecord::Broker { id, state }));
        }
        image
    }

    #[test]
    fn fenced_brokers_are_not_shown_and_their_replicas_are_offline() {
        let image = image();
        let view = View { image: &image, listener: "A" };
        let ids =
            |all: Vec<(&Arc<BrokerImage>, &Endpoint)>| all.iter().map(|(b, _)| b.id.0).collect::<Vec<_>>();
        assert_eq!(ids(view.brokers().collect()), [2, 3]);
        assert_eq!(ids(view.registered().collect()), [1, 2, 3]);
        assert_eq!((view.controller(BrokerId(1)), view.controller(BrokerId(3))), (2, 3));
        let mut partition = PartitionImage {
            leader: BrokerId(3),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas: [3, 1, 4, 9].map(BrokerId).to_vec(),
            isr: vec![BrokerId(3)],
        };
        assert_eq!(view.offline(Uuid::ZERO, PartitionIndex(0), &partition), [1, 4, 9]);
        assert_eq!(view.leader(&partition), Ok(BrokerId(3)));
        partition.leader = BrokerId(-1);
        assert_eq!(view.leader(&partition), Err(ErrorCode::LeaderNotAvailable));
        partition.leader = BrokerId(4);
        assert_eq!(view.leader(&partition), Err(ErrorCode::ListenerNotFound));
    }
}

//! Where members are reached, and how patient they are: what the configuration says, in the quorum's terms.

use std::collections::BTreeMap;
use std::time::Duration;

use aqueduct_protocol::ids::BrokerId;
use aqueduct_quorum::{DirectoryId, NodeId, Peer, Timing};

use crate::config::{Address, ClusterSettings, Settings};
use crate::network::Door;

fn peer_at(cluster: &ClusterSettings, address: &Address) -> Peer {
    Peer {
        directory: DirectoryId::UNKNOWN,
        listener: cluster.controller_listener.name.clone(),
        host: address.host.clone(),
        port: address.port,
    }
}

pub(super) fn voters(cluster: &ClusterSettings) -> BTreeMap<NodeId, Peer> {
    let voters = cluster.voters.iter();
    voters
        .filter_map(|(id, address)| Some((NodeId::try_from(*id).ok()?, peer_at(cluster, address))))
        .collect()
}

/// The controllers that the configuration names.
pub(super) fn configured(cluster: &ClusterSettings) -> Vec<(BrokerId, Peer)> {
    let voters = cluster.voters.iter().map(|(id, address)| (BrokerId(*id), peer_at(cluster, address)));
    let servers = cluster.bootstrap.iter().zip(1..);
    voters.chain(servers.map(|(address, n)| (BrokerId(-n), peer_at(cluster, address)))).collect()
}

pub(super) fn timing(cluster: &ClusterSettings) -> Timing {
    match cluster.fetch_timeout {
        // A leader that is gone has been replaced after 800 ms: its lease of the longest time, then an election.
        None => Timing {
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(500),
            ..Timing::default()
        },
        Some(patience) => Timing {
            heartbeat: (patience / 10).clamp(Duration::from_millis(1), Duration::from_millis(500)),
            election_min: (patience / 4).max(Duration::from_millis(4)),
            election_max: (patience / 2).max(Duration::from_millis(8)),
            ..Timing::default()
        },
    }
}

/// Where others reach this node.
pub(super) fn own_peer(
    settings: &Settings,
    cluster: &ClusterSettings,
    doors: &[&Door],
    directory: DirectoryId,
) -> Peer {
    let bound = |name: &str| {
        doors.iter().find(|door| door.listener.name == name).map_or(0, |door| door.address.port())
    };
    if let Some(address) = cluster.voters.get(&settings.node_id.0) {
        return Peer { directory, ..peer_at(cluster, address) };
    }
    let listeners = &settings.listeners;
    let listener = match cluster.is_controller {
        true => listeners.of_controller(&cluster.controller_listener),
        false => {
            let advertised = listeners.advertised.iter().find(|one| one.name == listeners.inter_broker);
            advertised.cloned().unwrap_or_else(|| cluster.controller_listener.reachable())
        }
    };
    let port = match listener.port {
        0 => bound(&listener.name),
        port => port,
    };
    Peer { directory, listener: listener.name, host: listener.host, port }
}

//! The types of the log as bytes: big-endian, lengths before contents, nothing read beyond what is there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::{CommittedLeaderId, EntryPayload, LeaderId};

use crate::types::{
    DirectoryId, Entry, LogId, Membership, NodeId, Peer, Proposal, SnapshotMeta, StoredMembership, Vote,
};

pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

pub(crate) fn get_bytes(bytes: &mut Bytes) -> Option<Bytes> {
    let length = bytes.try_get_u32().ok()? as usize;
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

pub(crate) fn put_text(out: &mut BytesMut, text: &str) {
    put_bytes(out, text.as_bytes());
}

pub(crate) fn get_text(bytes: &mut Bytes) -> Option<String> {
    let text = get_bytes(bytes)?;
    Some(std::str::from_utf8(&text).ok()?.to_owned())
}

pub(crate) fn get_flag(bytes: &mut Bytes) -> Option<bool> {
    match bytes.try_get_u8().ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

pub(crate) fn put_directory(out: &mut BytesMut, id: DirectoryId) {
    out.put_slice(&id.0);
}

pub(crate) fn get_directory(bytes: &mut Bytes) -> Option<DirectoryId> {
    let mut id = [0; 16];
    bytes.try_copy_to_slice(&mut id).ok()?;
    Some(DirectoryId(id))
}

pub(crate) fn put_vote(out: &mut BytesMut, vote: &Vote) {
    out.put_u64(vote.leader_id.term);
    out.put_u8(u8::from(vote.leader_id.voted_for.is_some()));
    out.put_u64(vote.leader_id.voted_for.unwrap_or(0));
    out.put_u8(u8::from(vote.committed));
}

pub(crate) fn get_vote(bytes: &mut Bytes) -> Option<Vote> {
    let term = bytes.try_get_u64().ok()?;
    let voted = get_flag(bytes)?;
    let id = bytes.try_get_u64().ok()?;
    let committed = get_flag(bytes)?;
    Some(Vote { leader_id: LeaderId { term, voted_for: voted.then_some(id) }, committed })
}

pub(crate) fn put_log_id(out: &mut BytesMut, id: LogId) {
    out.put_u64(id.leader_id.term);
    out.put_u64(id.index);
}

pub(crate) fn get_log_id(bytes: &mut Bytes) -> Option<LogId> {
    let term = bytes.try_get_u64().ok()?;
    Some(LogId::new(CommittedLeaderId::new(term, 0), bytes.try_get_u64().ok()?))
}

pub(crate) fn put_opt_log_id(out: &mut BytesMut, id: Option<LogId>) {
    out.put_u8(u8::from(id.is_some()));
    put_log_id(out, id.unwrap_or_default());
}

pub(crate) fn get_opt_log_id(bytes: &mut Bytes) -> Option<Option<LogId>> {
    let some = get_flag(bytes)?;
    let id = get_log_id(bytes)?;
    Some(some.then_some(id))
}

pub(crate) fn put_peer(out: &mut BytesMut, peer: &Peer) {
    put_directory(out, peer.directory);
    put_text(out, &peer.listener);
    put_text(out, &peer.host);
    out.put_u16(peer.port);
}

pub(crate) fn get_peer(bytes: &mut Bytes) -> Option<Peer> {
    let (directory, listener, host) = (get_directory(bytes)?, get_text(bytes)?, get_text(bytes)?);
    Some(Peer { directory, listener, host, port: bytes.try_get_u16().ok()? })
}

fn put_membership(out: &mut BytesMut, membership: &Membership) {
    let configs = membership.get_joint_config();
    out.put_u8(configs.len() as u8);
    for config in configs {
        out.put_u16(config.len() as u16);
        config.iter().for_each(|id| out.put_u64(*id));
    }
    out.put_u16(membership.nodes().count() as u16);
    for (id, peer) in membership.nodes() {
        out.put_u64(*id);
        put_peer(out, peer);
    }
}

fn get_membership(bytes: &mut Bytes) -> Option<Membership> {
    let mut configs = Vec::new();
    for _ in 0..bytes.try_get_u8().ok()? {
        let mut config = BTreeSet::new();
        for _ in 0..bytes.try_get_u16().ok()? {
            config.insert(bytes.try_get_u64().ok()?);
        }
        configs.push(config);
    }
    let mut nodes: BTreeMap<NodeId, Peer> = BTreeMap::new();
    for _ in 0..bytes.try_get_u16().ok()? {
        nodes.insert(bytes.try_get_u64().ok()?, get_peer(bytes)?);
    }
    configs.iter().flatten().all(|id| nodes.contains_key(id)).then(|| Membership::new(configs, nodes))
}

pub(crate) fn put_stored_membership(out: &mut BytesMut, stored: &StoredMembership) {
    put_opt_log_id(out, *stored.log_id());
    put_membership(out, stored.membership());
}

pub(crate) fn get_stored_membership(bytes: &mut Bytes) -> Option<StoredMembership> {
    Some(StoredMembership::new(get_opt_log_id(bytes)?, get_membership(bytes)?))
}

pub(crate) fn put_meta(out: &mut BytesMut, meta: &SnapshotMeta) {
    put_opt_log_id(out, meta.last_log_id);
    put_stored_membership(out, &meta.last_membership);
    put_text(out, &meta.snapshot_id);
}

pub(crate) fn get_meta(bytes: &mut Bytes) -> Option<SnapshotMeta> {
    Some(SnapshotMeta {
        last_log_id: get_opt_log_id(bytes)?,
        last_membership: get_stored_membership(bytes)?,
        snapshot_id: get_text(bytes)?,
    })
}

pub(crate) fn put_entry(out: &mut BytesMut, entry: &Entry) {
    put_log_id(out, entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => out.put_u8(0),
        EntryPayload::Normal(proposal) => {
            out.put_u8(1);
            out.put_u64(proposal.epoch);
            put_bytes(out, &proposal.data);
        }
        EntryPayload::Membership(membership) => {
            out.put_u8(2);
            put_membership(out, membership);
        }
    }
}

pub(crate) fn get_entry(bytes: &mut Bytes) -> Option<Entry> {
    let log_id = get_log_id(bytes)?;
    let payload = match bytes.try_get_u8().ok()? {
        0 => EntryPayload::Blank,
        1 => EntryPayload::Normal(Proposal { epoch: bytes.try_get_u64().ok()?, data: get_bytes(bytes)? }),
        2 => EntryPayload::Membership(get_membership(bytes)?),
        _ => return None,
    };
    Some(Entry { log_id, payload })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn membership() -> Membership {
        let peer = |id: u8| Peer {
            directory: DirectoryId([id; 16]),
            listener: "C".into(),
            host: format!("h{id}"),
            port: 9093,
        };
        let nodes: BTreeMap<_, _> = (1..=4).map(|id| (u64::from(id), peer(id))).collect();
        Membership::new(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])], nodes)
    }

    pub(crate) fn entries() -> Vec<Entry> {
        let id = |index| LogId::new(CommittedLeaderId::new(3, 0), index);
        let proposal = Proposal { epoch: 3, data: Bytes::from_static(b"records") };
        vec![
            Entry { log_id: id(7), payload: EntryPayload::Blank },
            Entry { log_id: id(8), payload: EntryPayload::Normal(proposal) },
            Entry { log_id: id(9), payload: EntryPayload::Membership(membership()) },
        ]
    }

    #[test]
    fn entries_round_trip_and_cut_bytes_are_none() {
        for entry in entries() {
            let mut out = BytesMut::new();
            put_entry(&mut out, &entry);
            let bytes = out.freeze();
            assert_eq!(get_entry(&mut bytes.clone()), Some(entry));
            for cut in 0..bytes.len() {
                assert_eq!(get_entry(&mut bytes.slice(..cut)), None);
            }
        }
    }

    #[test]
    fn votes_and_snapshots_round_trip() {
        for vote in [Vote::default(), Vote::new(4, 2), Vote::new_committed(5, 3)] {
            let mut out = BytesMut::new();
            put_vote(&mut out, &vote);
            assert_eq!(get_vote(&mut out.freeze()), Some(vote));
        }
        let meta = SnapshotMeta {
            last_log_id: Some(entries()[1].log_id),
            last_membership: StoredMembership::new(None, membership()),
            snapshot_id: "3-8".into(),
        };
        let mut out = BytesMut::new();
        put_meta(&mut out, &meta);
        assert_eq!(get_meta(&mut out.freeze()), Some(meta));
    }
}

//! Finds the active controller and asks it.

use std::collections::BTreeSet;
use std::time::Duration;

use aqueduct_protocol::ids::BrokerId;
use aqueduct_quorum::{Peer, Status};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::message::{self, Answered, AskController, Asked, Leader, Sender, Wish};
use super::transport::Dialers;

/// A node that does not answer within this is passed over.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody to ask, and what stands for it in the pool of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    key: BrokerId,
    peer: Peer,
}

/// The controllers of the cluster, as this node reaches them.
pub(super) struct Controllers {
    dialers: Dialers,
    status: watch::Receiver<Status>,
    sender: Sender,
    /// Those of the configuration; the key is that of a voter, or negative where only an address is known.
    configured: Vec<(BrokerId, Peer)>,
    /// Who was said to lead.
    hint: Mutex<Option<Leader>>,
}

impl Controllers {
    pub fn new(
        dialers: Dialers,
        status: watch::Receiver<Status>,
        sender: Sender,
        configured: Vec<(BrokerId, Peer)>,
    ) -> Self {
        Self { dialers, status, sender, configured, hint: Mutex::default() }
    }

    /// Asks whoever seems to lead, and then the others, until one answers for the controller; once around at most. An
    /// error says what the last of them had to say.
    pub async fn ask(&self, wish: &Wish) -> Result<Answered, String> {
        let mut last = "no other controller is known".to_owned();
        let mut tried = BTreeSet::new();
        while let Some(next) = self.next(&tried) {
            tried.insert((next.peer.host.clone(), next.peer.port));
            let place = format!("{}:{}", next.peer.host, next.peer.port);
            match self.ask_one(&next, wish).await {
                Ok(Answered::NotController(leader)) => {
                    last = match &leader {
                        Some(leader) => {
                            format!("{place} says that node {} is the active controller", leader.node)
                        }
                        None => format!("{place} knows of no active controller"),
                    };
                    *self.hint.lock() = leader;
                }
                Ok(answered) => {
                    return Ok(answered);
                }
                Err(why) => {
                    let mut hint = self.hint.lock();
                    if hint.as_ref().is_some_and(|hint| hint.peer == next.peer) {
                        *hint = None;
                    }
                    last = why;
                }
            }
        }
        Err(last)
    }

    /// Whom to ask next.
    fn next(&self, tried: &BTreeSet<(String, u16)>) -> Option<Candidate> {
        let hint = self.hint.lock().clone();
        let all = candidates(&self.status.borrow(), hint.as_ref(), &self.configured);
        all.into_iter().find(|one| !tried.contains(&(one.peer.host.clone(), one.peer.port)))
    }

    async fn ask_one(&self, to: &Candidate, wish: &Wish) -> Result<Answered, String> {
        let place = || format!("controller {}:{}", to.peer.host, to.peer.port);
        let asked = Asked { sender: self.sender.clone(), wish: wish.clone() };
        let call = self.dialers.call(to.key, &to.peer, AskController(message::encode(&asked)), PATIENCE);
        let answer = tokio::select! {
            answer = call => answer.map_err(|error| error.to_string())?,
            () = self.another_leads(to) => return Err(format!("{} does not lead any more", place())),
        };
        match message::open(answer.0) {
            Some(Ok(bytes)) => {
                message::decode(bytes).ok_or_else(|| format!("{}: its answer cannot be read", place()))
            }
            Some(Err(code)) => Err(format!("{} refuses this node: {code}", place())),
            None => Err(format!("{}: its answer cannot be read", place())),
        }
    }

    /// Resolves when the quorum is known to have another leader than the one that is asked; an old one may never answer.
    async fn another_leads(&self, asked: &Candidate) {
        let mut status = self.status.clone();
        let before = status.borrow_and_update().leader;
        let changed = status.wait_for(|now| {
            now.leader.is_some() && now.leader != before && now.leader != u64::try_from(asked.key.0).ok()
        });
        if changed.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whom to ask, the likeliest first; this node itself is left out.
fn candidates(status: &Status, hint: Option<&Leader>, configured: &[(BrokerId, Peer)]) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = Vec::new();
    let mut add = |id: Option<u64>, key: BrokerId, peer: &Peer| {
        let known = all.iter().any(|one| (&one.peer.host, one.peer.port) == (&peer.host, peer.port));
        if id != Some(status.id) && !known {
            all.push(Candidate { key, peer: peer.clone() });
        }
    };
    let key = |id: u64| BrokerId(i32::try_from(id).unwrap_or(i32::MAX));
    if let Some(hint) = hint {
        add(Some(hint.node), key(hint.node), &hint.peer);
    }
    let leader = status.members.iter().find(|member| Some(member.id) == status.leader);
    let voters = status.members.iter().filter(|member| member.votes);
    for member in leader.into_iter().chain(voters) {
        add(Some(member.id), key(member.id), &member.peer);
    }
    for (key, peer) in configured {
        add(u64::try_from(key.0).ok(), *key, peer);
    }
    all
}

#[cfg(test)]
mod tests {
    use aqueduct_quorum::{DirectoryId, Member, Role};

    use super::*;

    fn peer(id: u64) -> Peer {
        Peer { directory: DirectoryId::UNKNOWN, listener: "C".into(), host: format!("h{id}"), port: 1 }
    }

    fn status(leader: Option<u64>, members: &[u64]) -> Status {
        let member = |id: &u64| Member { id: *id, peer: peer(*id), votes: true, replicated: None };
        Status {
            id: 1,
            role: Role::Follower,
            epoch: 1,
            leader,
            active_epoch: None,
            members: members.iter().map(member).collect(),
            last: 0,
            applied: 0,
            snapshot: None,
            purged: None,
            since_majority_ms: None,
            failure: None,
        }
    }

    fn hosts(found: Vec<Candidate>) -> Vec<String> {
        found.into_iter().map(|one| one.peer.host).collect()
    }

    #[test]
    fn the_likeliest_is_asked_first_and_nobody_twice() {
        let configured: Vec<_> = (1..=4).map(|id| (BrokerId(id as i32), peer(id))).collect();
        let nothing = candidates(&status(None, &[]), None, &configured);
        assert_eq!(hosts(nothing), ["h2", "h3", "h4"]);
        let leader = candidates(&status(Some(3), &[1, 2, 3]), None, &configured);
        assert_eq!(hosts(leader), ["h3", "h2", "h4"]);
        let hint = Leader { node: 2, peer: peer(2) };
        let hinted = candidates(&status(Some(3), &[1, 2, 3]), Some(&hint), &[]);
        assert_eq!(hosts(hinted), ["h2", "h3"]);
        let by_address = vec![(BrokerId(-1), peer(7))];
        assert_eq!(hosts(candidates(&status(None, &[]), None, &by_address)), ["h7"]);
    }
}

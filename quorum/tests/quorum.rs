//! Nodes in one process: elections, followers, members that come and go, disks that are not what they should be.

mod support;

use std::time::Duration;

use aqueduct_quorum::*;
use bytes::Bytes;
use support::{Cluster, peer, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_leads_when_the_leader_is_gone() {
    let mut cluster = Cluster::running(1..=3).await;
    for _ in 0..5 {
        cluster.propose().await;
    }
    cluster.converge(&[1, 2, 3]).await;
    until("a refusal", || async {
        let (leader, epoch) = cluster.leader().await;
        let other = *cluster.ids().iter().find(|id| **id != leader)?;
        match cluster.node(other).propose(epoch, Bytes::from_static(b"x")).await {
            Err(ProposeError::NotLeader { .. }) => Some(()),
            // It leads by now.
            Err(ProposeError::Superseded) => None,
            other => panic!("{other:?}"),
        }
    })
    .await;
    let (first, epoch) = cluster.leader().await;
    cluster.kill(first).await;
    let (second, next) = cluster.leader().await;
    assert!(second != first && next > epoch);
    for _ in 0..5 {
        cluster.propose().await;
    }
    cluster.start(first).await.unwrap();
    cluster.converge(&[1, 2, 3]).await;
    // What was decided in an epoch that is over has no effect.
    let all = [1, 2, 3];
    let late = cluster.on_leader("a refusal", &all, |node, epoch| async move {
        match node.propose(epoch - 1, Bytes::from_static(b"late")).await {
            Err(ProposeError::NotLeader { .. }) => None,
            other => Some(other),
        }
    });
    assert_eq!(late.await, Err(ProposeError::Superseded));
    cluster.propose().await;
    cluster.converge(&all).await;
    assert!(cluster.ledgers[&1].0.lock().iter().all(|(_, entry)| &entry[..] != b"late"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::new(1..=3);
    (cluster.timing.snapshot_every, cluster.timing.keep) = (20, 0);
    for id in 1..=3 {
        cluster.start(id).await.unwrap();
    }
    cluster.propose().await;
    cluster.converge(&[1, 2, 3]).await;
    let lagging = *cluster.ids().iter().find(|id| cluster.status(**id).active_epoch.is_none()).unwrap();
    cluster.kill(lagging).await;
    for _ in 0..120 {
        cluster.propose().await;
    }
    let (leader, _) = cluster.leader().await;
    until("the leader to forget old entries", || async {
        cluster.status(leader).purged.filter(|at| *at > 60)
    })
    .await;
    cluster.start(lagging).await.unwrap();
    cluster.converge(&[1, 2, 3]).await;
    until("word of the snapshot", || async { cluster.status(lagging).snapshot.filter(|at| *at > 60) }).await;
    // And it is there after a start without the others.
    cluster.kill(lagging).await;
    cluster.start(lagging).await.unwrap();
    assert!(cluster.ledgers[&lagging].0.lock().len() > 50);
    cluster.propose().await;
    cluster.converge(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_goes_on_whatever_is_cut() {
    let mut cluster = Cluster::running(1..=3).await;
    cluster.propose().await;
    let (leader, _) = cluster.leader().await;
    let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    // The leader is heard no more, but hears the others.
    others.iter().for_each(|id| cluster.net.cut(leader, *id));
    for _ in 0..3 {
        cluster.propose_to(&others).await;
    }
    cluster.net.heal();
    cluster.converge(&[1, 2, 3]).await;
    let (leader, _) = cluster.leader().await;
    let follower = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    cluster.net.cut(follower, leader);
    for _ in 0..3 {
        cluster.propose().await;
    }
    cluster.net.heal();
    cluster.propose().await;
    cluster.converge(&[1, 2, 3]).await;
}

/// Has a leader remove a member, which an attempt whose answer was late may have done already.
async fn remove(leader: Quorum, id: NodeId) -> Option<()> {
    let gone = !leader.watch().borrow().members.iter().any(|member| member.id == id);
    (gone || leader.remove(id).await.is_ok()).then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_while_the_quorum_runs() {
    let mut cluster = Cluster::running(1..=3).await;
    cluster.propose().await;
    cluster.start(4).await.unwrap();
    let mut joining = peer(4);
    joining.directory = cluster.node(4).directory();
    let three = [1, 2, 3];
    let add = |node: Quorum, _| {
        let joining = joining.clone();
        async move { node.add_observer(4, joining).await.ok() }
    };
    cluster.on_leader("an observer", &three, add).await;
    cluster.propose_to(&three).await;
    cluster.converge(&[1, 2, 3, 4]).await;
    assert_eq!(cluster.status(4).role, Role::Observer);
    cluster.on_leader("a vote", &three, |node, _| async move { node.add_voter(4).await.ok() }).await;
    let all = [1, 2, 3, 4];
    cluster.voters_are(&all, &all).await;
    // The leader itself leaves, and one that is down.
    let (left, _) = cluster.leader().await;
    cluster.on_leader("the leader to leave", &all, |node, _| remove(node, left)).await;
    let others: Vec<_> = all.into_iter().filter(|id| *id != left).collect();
    cluster.propose_to(&others).await;
    cluster.voters_are(&others, &others).await;
    cluster.kill(left).await;
    let (next, _) = cluster.leader_of(&others).await;
    let down = *others.iter().find(|id| **id != next).unwrap();
    cluster.kill(down).await;
    let rest: Vec<_> = others.iter().copied().filter(|id| *id != down).collect();
    cluster.on_leader("removal", &rest, |node, _| remove(node, down)).await;
    cluster.propose_to(&rest).await;
    cluster.converge(&rest).await;
    cluster.voters_are(&rest, &rest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_voter_has_no_vote_until_it_is_added_anew() {
    let mut cluster = Cluster::running(1..=3).await;
    cluster.propose().await;
    cluster.converge(&[1, 2, 3]).await;
    // Also the one that would form a new quorum.
    cluster.kill(1).await;
    cluster.disks[&1].wipe();
    cluster.start(1).await.unwrap();
    let rest = [2, 3];
    cluster.propose_to(&rest).await;
    assert_eq!(cluster.status(1).members, []);
    let (leader, _) = cluster.leader_of(&rest).await;
    // With another voter gone, two that remember are needed.
    let other = if leader == 2 { 3 } else { 2 };
    cluster.kill(other).await;
    let node = cluster.node(leader);
    let proposal = node.propose(cluster.status(leader).epoch, Bytes::from_static(b"alone"));
    let proposal = tokio::time::timeout(Duration::from_secs(1), proposal).await;
    assert!(!matches!(proposal, Ok(Ok(_))), "{proposal:?}");
    cluster.start(other).await.unwrap();
    let mut again = peer(1);
    again.directory = cluster.node(1).directory();
    let add = |node: Quorum, _| {
        let again = again.clone();
        async move {
            match node.add_observer(1, again).await {
                Err(ChangeError::Refused(why)) => Some(Err(why)),
                Err(_) => None,
                Ok(()) => Some(Ok(())),
            }
        }
    };
    let why = cluster.on_leader("a refusal", &rest, add).await.unwrap_err();
    assert!(why.contains("remove it first"), "{why}");
    cluster.on_leader("removal", &rest, |node, _| remove(node, 1)).await;
    cluster.voters_are(&rest, &rest).await;
    until("an observer", || async { cluster.on_leader("an answer", &rest, add).await.ok() }).await;
    cluster.propose_to(&rest).await;
    cluster.converge(&[1, 2, 3]).await;
    cluster.on_leader("a vote", &rest, |node, _| async move { node.add_voter(1).await.ok() }).await;
    cluster.voters_are(&[1, 2, 3], &[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_and_nodes_of_another_cluster_are_refused() {
    let mut cluster = Cluster::running([1]).await;
    cluster.propose().await;
    cluster.kill(1).await;
    cluster.cluster_id = "d".into();
    assert!(matches!(cluster.start(1).await, Err(StartError::OtherCluster { .. })));
    cluster.cluster_id = "c".into();
    cluster.start(1).await.unwrap();
    cluster.propose().await;
    // A node of another cluster that was told the wrong address waits, and disturbs nobody.
    let disk = cluster.disks[&1].clone();
    cluster.cluster_id = "d".into();
    cluster.voters.insert(0, peer(0));
    cluster.start(0).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(cluster.status(0).members, []);
    cluster.propose_to(&[1]).await;
    cluster.kill(1).await;
    cluster.disks.insert(2, disk);
    cluster.cluster_id = "c".into();
    assert!(matches!(cluster.start(2).await, Err(StartError::OtherNode { found: 1, expected: 2 })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_that_were_formatted_form_a_quorum_without_asking() {
    let mut cluster = Cluster::new([]);
    // The nth start has the directory n.
    let directory = |n: u8| DirectoryId([n; 16]);
    let voters = (1..=3).map(|id| (id, Peer { directory: directory(id as u8), ..peer(id) })).collect();
    (1..=3).for_each(|id| cluster.format(id, &voters));
    for id in 1..=2 {
        cluster.start(id).await.unwrap();
    }
    cluster.propose().await;
    cluster.start(3).await.unwrap();
    cluster.propose().await;
    cluster.converge(&[1, 2, 3]).await;
    cluster.voters_are(&[1, 2, 3], &[1, 2, 3]).await;
    for id in 1..=3 {
        cluster.kill(id).await;
    }
    for id in 1..=3 {
        cluster.start(id).await.unwrap();
    }
    cluster.propose().await;
    cluster.converge(&[1, 2, 3]).await;
    // A disk that is not the one that the voters know.
    cluster.format(4, &[(4, Peer { directory: directory(99), ..peer(4) })].into());
    let refused = cluster.start(4).await;
    assert!(matches!(refused, Err(StartError::OtherDirectory { .. })), "{refused:?}");
}

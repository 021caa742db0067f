//! A disk that stops at any write: what was acknowledged is there when the node is back.

mod support;

use aqueduct_quorum::*;
use bytes::Bytes;
use support::{Cluster, PATIENCE, peer, until};

/// Proposes until the node's disk has stopped or all is done; true where it has stopped.
async fn work(cluster: &mut Cluster, first: usize, count: usize) -> bool {
    if cluster.start(1).await.is_err() {
        return true;
    }
    for n in first..first + count {
        let node = cluster.node(1);
        let epoch = until("a leader or the end", || async {
            let status = cluster.status(1);
            match status.active_epoch {
                _ if cluster.disks[&1].is_stopped() => Some(None),
                epoch => epoch.map(Some),
            }
        })
        .await;
        let Some(epoch) = epoch else { return true };
        let entry = Bytes::from(format!("entry {n}"));
        match tokio::time::timeout(PATIENCE, node.propose(epoch, entry.clone())).await {
            Ok(Ok(index)) => cluster.acknowledged.push((index, entry)),
            _ => return true,
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_may_crash_at_any_write() {
    let mut stops = 0;
    for at in 1.. {
        let mut cluster = Cluster::new([1]);
        (cluster.timing.snapshot_every, cluster.timing.keep) = (4, 0);
        cluster.disks.entry(1).or_default().stop_at(at);
        let stopped = work(&mut cluster, 0, 12).await;
        cluster.kill(1).await;
        assert!(!work(&mut cluster, 100, 2).await, "it goes on after a crash at write {at}");
        cluster.converge(&[1]).await;
        cluster.kill(1).await;
        // And the crash may come while it recovers from a crash.
        for again in 1..=3 {
            cluster.disks[&1].stop_at(again);
            work(&mut cluster, 200, 1).await;
            cluster.kill(1).await;
        }
        assert!(!work(&mut cluster, 300, 1).await);
        cluster.converge(&[1]).await;
        cluster.kill(1).await;
        if !stopped {
            break;
        }
        stops += 1;
    }
    assert!(stops > 20, "only {stops} writes were tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_may_crash_at_any_write() {
    let mut cluster = Cluster::new(1..=3);
    (cluster.timing.snapshot_every, cluster.timing.keep) = (7, 2);
    for id in 1..=3 {
        cluster.start(id).await.unwrap();
    }
    cluster.propose().await;
    for round in 1..=9_usize {
        // Leaders and followers in turn.
        let (leader, _) = cluster.leader().await;
        let victim = match round % 3 {
            0 => leader,
            n => *cluster.ids().iter().filter(|id| **id != leader).nth(n - 1).unwrap(),
        };
        let rest: Vec<_> = cluster.ids().into_iter().filter(|id| *id != victim).collect();
        cluster.disks[&victim].stop_at(round);
        for _ in 0..6 {
            let running = if cluster.disks[&victim].is_stopped() { rest.clone() } else { cluster.ids() };
            cluster.propose_to(&running).await;
        }
        cluster.kill(victim).await;
        cluster.propose_to(&rest).await;
        cluster.start(victim).await.unwrap();
        cluster.converge(&[1, 2, 3]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_formatted_voter_may_crash_at_any_write_of_its_first_start() {
    let mut stops = 0;
    for at in 1..=12 {
        let mut cluster = Cluster::new([]);
        cluster.directories = (1..=3).map(|id| (id, DirectoryId([id as u8; 16]))).collect();
        let voter =
            |(id, directory): (&NodeId, &DirectoryId)| (*id, Peer { directory: *directory, ..peer(*id) });
        let voters = cluster.directories.iter().map(voter).collect();
        (1..=3).for_each(|id| cluster.format(id, &voters));
        cluster.disks[&1].stop_at(at);
        for id in [2, 3] {
            cluster.start(id).await.unwrap();
        }
        // The disk may stop before the node has started.
        let _ = cluster.start(1).await;
        for _ in 0..6 {
            let running = if cluster.disks[&1].is_stopped() { vec![2, 3] } else { cluster.ids() };
            let index = cluster.propose_to(&running).await;
            // So that each entry is a write of its own.
            until("the entry or the end", || async {
                let ledger = cluster.ledgers.get(&1);
                let last = ledger.and_then(|ledger| ledger.0.lock().last().map(|(at, _)| *at));
                (cluster.disks[&1].is_stopped() || last >= Some(index)).then_some(())
            })
            .await;
        }
        stops += usize::from(cluster.disks[&1].is_stopped());
        cluster.kill(1).await;
        cluster.start(1).await.unwrap();
        cluster.propose().await;
        cluster.converge(&[1, 2, 3]).await;
        cluster.voters_are(&[1, 2, 3], &[1, 2, 3]).await;
    }
    assert!(stops > 5, "only {stops} writes were tried");
}

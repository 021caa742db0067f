//! Who leads where nobody is known to have everything.

use super::*;

/// The epoch of a log's last record, and its end.
type Last = (i32, i64);

/// Three replicas, of which the brokers 1 and 2 were in sync and crashed, and came back.
fn crashed() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.command(assigned(&[&[1, 2, 3]])).unwrap();
    let set = ("min.insync.replicas".into(), crate::metadata::ConfigOp::Set("2".into()));
    let resource = Resource::Topic("t".into());
    cluster.command(Command::AlterConfig { resource, ops: vec![set] }).unwrap();
    // Broker 3 stops in order, and nobody knows yet that the others are no more.
    cluster.heartbeat(3, true, 0);
    assert_eq!(cluster.partition().isr, ids(&[1, 2]));
    cluster.wait(&[], 10_000);
    cluster.start(2, 9, BrokerEpoch::NONE).unwrap();
    cluster.beat(2);
    cluster.start(1, 9, BrokerEpoch::NONE).unwrap();
    cluster.beat(1);
    let state = cluster.controller.image().partition_state(TOPIC, P0);
    assert_eq!((&*state.elr, state.last_known_leader), (&[][..], Some(BrokerId(1))));
    assert_eq!(leader(&cluster), -1, "it may have lost the end of its log");
    cluster
}

fn leader(cluster: &Cluster) -> i32 {
    cluster.partition().leader.0
}

fn tell_as(cluster: &mut Cluster, id: i32, epoch: BrokerEpoch, leader_epoch: LeaderEpoch, (last, end): Last) {
    let end =
        LogEnd { topic: TOPIC, index: P0, leader_epoch, last_epoch: LeaderEpoch(last), end: Offset(end) };
    let unknown = LogEnd { topic: Uuid([8; 16]), ..end.clone() };
    let told = LogEnds { broker: BrokerId(id), epoch, ends: vec![unknown, end] };
    assert_eq!(cluster.ask(Request::LogEnds(told)), Ok(Reply::Noted));
}

fn tell(cluster: &mut Cluster, id: i32, last: Last) {
    let epoch = cluster.epochs[&id];
    let leader_epoch = cluster.partition().leader_epoch;
    tell_as(cluster, id, epoch, leader_epoch, last);
}

fn come_back_in_order(cluster: &mut Cluster, id: i32) {
    let epoch = cluster.epochs[&id];
    cluster.start(id, 9, epoch).unwrap();
    cluster.beat(id);
}

#[test]
fn the_longest_log_leads_whoever_led_last() {
    let cases: [([Last; 3], i32); 5] = [
        ([(0, 90), (0, 100), (0, 95)], 2),
        // The one that had left in order before anybody knew of the crashes.
        ([(0, 90), (0, 99), (0, 100)], 3),
        // A later epoch counts for more than length.
        ([(4, 90), (3, 100), (3, 100)], 1),
        // Of equal ones the last leader, then the order of replicas.
        ([(0, 100), (0, 100), (0, 100)], 1),
        ([(-1, 0), (0, 1), (0, 1)], 2),
    ];
    for (lasts, wanted) in cases {
        let mut cluster = crashed();
        come_back_in_order(&mut cluster, 3);
        for (id, last) in (1..).zip(lasts) {
            assert_eq!(leader(&cluster), -1, "not all have told");
            tell(&mut cluster, id, last);
        }
        let now = cluster.partition();
        assert_eq!((now.leader.0, &*now.isr), (wanted, &*ids(&[wanted])), "{lasts:?}");
        assert!(cluster.controller.image().partition_state(TOPIC, P0).recovering);
        assert_eq!(cluster.controller.take_tally().unclean, 1);
        // Nothing is left to be told.
        tell(&mut cluster, 1, (9, 900));
        assert_eq!(leader(&cluster), wanted);
    }
}

#[test]
fn who_does_not_come_back_is_waited_for_only_so_long() {
    let mut cluster = crashed();
    tell(&mut cluster, 2, (0, 100));
    cluster.wait(&[1, 2], 120_000);
    assert_eq!(leader(&cluster), -1, "the last leader has not told");
    tell(&mut cluster, 1, (0, 90));
    cluster.wait(&[1, 2], 50_000);
    assert_eq!(leader(&cluster), -1);
    // What this process slept through does not count.
    cluster.now_ms += 600_000;
    cluster.controller.tick(cluster.now_ms);
    cluster.wait(&[1, 2], 4_000);
    assert_eq!(leader(&cluster), -1);
    cluster.wait(&[1, 2], 10_000);
    assert_eq!(leader(&cluster), 2);
}

#[test]
fn what_is_told_of_another_epoch_or_by_another_process_does_not_count() {
    let mut cluster = crashed();
    let (first, epoch) = (cluster.epochs[&2], cluster.partition().leader_epoch);
    tell_as(&mut cluster, 2, first, LeaderEpoch(epoch.0 - 1), (9, 900));
    let other = LogEnds { broker: BrokerId(2), epoch: BrokerEpoch(first.0 - 1), ends: Vec::new() };
    assert_eq!(cluster.ask(Request::LogEnds(other)), Err(ErrorCode::StaleBrokerEpoch));
    // Told, and then another process.
    tell(&mut cluster, 2, (9, 900));
    cluster.wait(&[1], 10_000);
    cluster.start(2, 10, BrokerEpoch::NONE).unwrap();
    cluster.beat(2);
    come_back_in_order(&mut cluster, 3);
    tell(&mut cluster, 1, (0, 90));
    tell(&mut cluster, 3, (0, 80));
    assert_eq!(leader(&cluster), -1);
    tell(&mut cluster, 2, (0, 70));
    assert_eq!(leader(&cluster), 1);
}

#[test]
fn another_controller_hears_it_anew() {
    let mut cluster = crashed();
    come_back_in_order(&mut cluster, 3);
    tell(&mut cluster, 1, (0, 90));
    tell(&mut cluster, 3, (0, 100));
    let image = cluster.controller.image().clone();
    cluster.controller = Controller::new(image, ControllerSettings::default(), cluster.now_ms);
    tell(&mut cluster, 2, (0, 95));
    assert_eq!(leader(&cluster), -1);
    tell(&mut cluster, 1, (0, 90));
    tell(&mut cluster, 3, (0, 100));
    assert_eq!(leader(&cluster), 3);
}

#[test]
fn an_unclean_election_takes_the_longest_log_that_is_known() {
    let mut cluster = crashed();
    tell(&mut cluster, 2, (0, 100));
    cluster
        .command(Command::ElectLeader { topic: "t".into(), index: P0, kind: ElectionType::Unclean })
        .unwrap();
    assert_eq!(leader(&cluster), 2);
}

#[test]
fn a_single_replica_has_nobody_to_wait_for() {
    let mut cluster = Cluster::new(2);
    cluster.command(assigned(&[&[1]])).unwrap();
    cluster.wait(&[2], 10_000);
    assert_eq!(leader(&cluster), -1);
    cluster.start(1, 9, BrokerEpoch::NONE).unwrap();
    cluster.beat(1);
    assert_eq!(leader(&cluster), 1);
}

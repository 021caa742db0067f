use super::*;

const LIMIT: Duration = Duration::from_secs(60);

struct Clock(Instant);

impl Clock {
    fn at(&self, seconds: u64) -> Instant {
        self.0 + Duration::from_secs(seconds)
    }
}

fn start() -> (Clock, Progress) {
    let now = Instant::now();
    (Clock(now), Progress::new(now))
}

fn lag(position: i64, end: i64) -> Vec<PartitionLag> {
    vec![PartitionLag {
        partition: TopicPartition { topic: "t".into(), partition: 3 },
        position,
        end: Some(end),
    }]
}

fn waits_for(progress: &Progress, now: Instant) -> Option<String> {
    progress.stuck(now, LIMIT).map(|stuck| stuck.waits_for)
}

#[test]
fn calls_that_do_not_return_are_stuck() {
    for (activity, words) in [
        (Activity::TakingOver("the coordinator"), "the coordinator"),
        (Activity::Starting, "start()"),
        (Activity::Polling, "poll()"),
        (Activity::Converting(5), "done with 5 records"),
        (Activity::Putting(7), "given 7 records"),
        (Activity::Sending(2), "take 2 records"),
        (Activity::Committing, "offsets to be committed"),
    ] {
        let (clock, mut progress) = start();
        progress.enter(clock.at(10), activity);
        assert_eq!(waits_for(&progress, clock.at(69)), None, "{activity:?}");
        let found = waits_for(&progress, clock.at(70)).expect("stuck");
        assert!(found.contains(words), "{found}");
    }
}

#[test]
fn a_source_that_polls_again_and_again_is_not_stuck() {
    let (clock, mut progress) = start();
    for second in 0..200 {
        progress.enter(clock.at(second), Activity::Polling);
        progress.polled(clock.at(second), 0);
        assert_eq!(waits_for(&progress, clock.at(second)), None);
    }
}

#[test]
fn records_that_are_not_acknowledged_make_a_source_stuck_though_it_polls() {
    let (clock, mut progress) = start();
    progress.sent(clock.at(0), 3);
    progress.sent(clock.at(50), 4);
    for second in 1..60 {
        progress.enter(clock.at(second), Activity::Polling);
    }
    assert_eq!(waits_for(&progress, clock.at(59)), None);
    assert!(waits_for(&progress, clock.at(60)).expect("stuck").contains("acknowledge 7 records"));
    progress.acknowledged(clock.at(61));
    assert_eq!((waits_for(&progress, clock.at(62)), progress.in_flight()), (None, 4));
    progress.acknowledged(clock.at(63));
    progress.enter(clock.at(500), Activity::Polling);
    assert_eq!(waits_for(&progress, clock.at(501)), None);
}

#[test]
fn lag_that_does_not_move_makes_a_sink_stuck() {
    let (clock, mut progress) = start();
    progress.enter(clock.at(0), Activity::WaitingForRecords);
    progress.note_lag(clock.at(0), lag(5, 5));
    assert_eq!(waits_for(&progress, clock.at(1000)), None);
    progress.note_lag(clock.at(1000), lag(5, 9));
    progress.note_lag(clock.at(1001), lag(6, 9));
    for second in 1002..1061 {
        progress.enter(clock.at(second), Activity::WaitingForRecords);
        progress.note_lag(clock.at(second), lag(6, 10));
        assert_eq!(waits_for(&progress, clock.at(second)), None);
    }
    assert!(waits_for(&progress, clock.at(1061)).expect("stuck").contains("t-3@6"));
    progress.note_lag(clock.at(1062), lag(7, 10));
    assert_eq!(waits_for(&progress, clock.at(1062)), None);
    assert_eq!(progress.behind(), 3);
}

#[test]
fn failing_for_long_is_being_stuck_and_a_pause_never_is() {
    let (clock, mut progress) = start();
    progress.failed(clock.at(0), "no route", Duration::from_secs(1));
    progress.enter(clock.at(30), Activity::Putting(1));
    progress.failed(clock.at(31), "no route to host", Duration::from_secs(2));
    assert_eq!(waits_for(&progress, clock.at(59)), None);
    let found = waits_for(&progress, clock.at(60)).expect("stuck");
    assert!(found.contains("failed 2 times") && found.contains("no route to host"), "{found}");
    let told = progress.describe(clock.at(32));
    assert!(told.contains("next try in 1s"), "{told}");
    progress.enter(clock.at(61), Activity::Paused);
    assert_eq!(waits_for(&progress, clock.at(500)), None);
    progress.succeeded();
    progress.enter(clock.at(500), Activity::WaitingForRecords);
    assert_eq!(waits_for(&progress, clock.at(501)), None);
    assert!((progress.pause_ratio(clock.at(500)) - 439.0 / 500.0).abs() < 0.01);
}

#[test]
fn it_is_told_once_that_it_began_and_once_that_it_ended() {
    let (clock, mut progress) = start();
    progress.enter(clock.at(0), Activity::Putting(1));
    assert_eq!(progress.observe(clock.at(59), LIMIT), None);
    assert!(matches!(progress.observe(clock.at(65), LIMIT), Some(Change::Began(_))));
    assert_eq!(progress.observe(clock.at(70), LIMIT), None);
    progress.enter(clock.at(80), Activity::WaitingForRecords);
    assert_eq!(progress.observe(clock.at(80), LIMIT), Some(Change::Ended(Duration::from_secs(80))));
    assert_eq!(progress.observe(clock.at(81), LIMIT), None);
}

#[test]
fn times_and_sizes_of_batches_are_kept_and_long_errors_are_cut() {
    let (clock, mut progress) = start();
    progress.enter(clock.at(1), Activity::Putting(10));
    progress.enter(clock.at(3), Activity::Committing);
    progress.enter(clock.at(4), Activity::WaitingForRecords);
    let now = clock.at(5);
    assert_eq!(progress.batch_sizes.average(now), Some(10.0));
    assert_eq!(progress.batch_times.max(now), Some(2000.0));
    assert_eq!(progress.commit_times.max(now), Some(1000.0));
    progress.note_error(7, &"é".repeat(5000));
    assert_eq!(progress.last_error().expect("an error").text.chars().count(), ERROR_LIMIT + 3);
}

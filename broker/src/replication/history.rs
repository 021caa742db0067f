//! Where the histories of two logs part, and how a follower gets its own back in line. Pure.

use aqueduct_protocol::ids::{LeaderEpoch, Offset};
use aqueduct_storage::Log;

/// A log as the sequence of reigns that wrote it.
pub(crate) trait History {
    /// The offset after the last record.
    fn end(&self) -> Offset;

    /// The largest epoch in it that is not above `epoch`, and where that ends.
    fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)>;
}

impl History for Log {
    fn end(&self) -> Offset {
        self.log_end_offset()
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epoch_end_offset(epoch)
    }
}

/// A leader's log, whose own reign goes on even if nothing was written in it yet.
pub(crate) struct Reign<'a, H> {
    pub log: &'a H,
    pub epoch: LeaderEpoch,
}

impl<H: History> Reign<'_, H> {
    /// The largest epoch that is not above `epoch`, and where it ends; `None` for one that is still to come, or none.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        match epoch.cmp(&self.epoch) {
            std::cmp::Ordering::Less => self.log.epoch_end(epoch),
            std::cmp::Ordering::Equal => Some((epoch, self.log.end())),
            std::cmp::Ordering::Greater => None,
        }
    }

    /// Where a reader parts from this log whose last record, just below `offset`, is of `epoch`; `None` where it does not.
    ///
    /// # Errors
    /// Nothing is known of that epoch.
    pub fn divergence(
        &self,
        epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<Option<(LeaderEpoch, Offset)>, UnknownEpoch> {
        let (found, end) = self.epoch_end(epoch).ok_or(UnknownEpoch)?;
        Ok((found < epoch || end < offset).then_some((found, end)))
    }
}

/// The leader knows nothing of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnknownEpoch;

/// Where a follower cuts its log off whose leader said that `epoch`, the largest that it knows up to the follower's, ends at
/// `end` there. Where the follower knows another epoch before that one it cuts less or more, and asks again.
pub(crate) fn cut(own: &impl History, (epoch, end): (LeaderEpoch, Offset)) -> Offset {
    let to = match own.epoch_end(epoch) {
        Some((known, own_end)) if known == epoch => own_end.min(end),
        Some((_, own_end)) => own_end,
        None => end,
    };
    to.min(own.end())
}

/// What a follower does whose offset is not in its leader's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repair {
    /// The leader has less: it was elected without all that was committed.
    TruncateTo(Offset),
    /// What the follower lacks is not there any more.
    StartAt(Offset),
    /// It is there by now.
    FetchAgain,
}

/// Chooses by where the leader's log begins and ends.
pub(crate) fn repair(own_end: Offset, leader_start: Offset, leader_end: Offset) -> Repair {
    if leader_end < own_end {
        Repair::TruncateTo(leader_end)
    } else if leader_start > own_end {
        Repair::StartAt(leader_start)
    } else {
        Repair::FetchAgain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epochs with their first offsets, and the end.
    struct Fake(Vec<(i32, i64)>, i64);

    impl History for Fake {
        fn end(&self) -> Offset {
            Offset(self.1)
        }

        fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
            let after = self.0.partition_point(|(e, _)| *e <= epoch.0);
            let found = after.checked_sub(1).map_or(epoch.0, |last| self.0[last].0);
            let end = self.0.get(after).map_or(self.1, |(_, start)| *start);
            (epoch.0 >= 0).then_some((LeaderEpoch(found), Offset(end)))
        }
    }

    /// Lets a follower with the log `own` fetch until it is in line; returns where its log then ends.
    fn aligned(leader: &Fake, epoch: i32, mut own: Fake) -> i64 {
        let reign = Reign { log: leader, epoch: LeaderEpoch(epoch) };
        for _ in 0..10 {
            let Some((last, _)) = own.0.last().copied() else { return own.1 };
            match reign.divergence(LeaderEpoch(last), Offset(own.1)).unwrap() {
                None => return own.1,
                Some(at) => {
                    let end = cut(&own, at).0;
                    own.0.retain(|(_, start)| *start < end);
                    own.1 = end;
                }
            }
        }
        panic!("it never ends")
    }

    #[test]
    fn a_follower_keeps_what_both_have() {
        let leader = Fake(vec![(1, 0), (4, 10)], 20);
        assert_eq!(aligned(&leader, 4, Fake(vec![(1, 0)], 8)), 8);
        assert_eq!(aligned(&leader, 4, Fake(vec![(1, 0)], 14)), 10);
        assert_eq!(aligned(&leader, 4, Fake(vec![(1, 0), (2, 6), (3, 12)], 15)), 6);
        assert_eq!(aligned(&leader, 4, Fake(vec![(1, 0), (4, 10)], 25)), 20, "unclean, and its own reign");
        assert_eq!(aligned(&leader, 4, Fake(vec![(0, 0), (1, 3)], 9)), 9);
        assert_eq!(aligned(&leader, 4, Fake(vec![], 0)), 0);
        assert_eq!(aligned(&leader, 5, Fake(vec![(1, 0), (3, 10)], 10)), 10, "a reign without a record");
    }

    #[test]
    fn epochs_to_come_are_not_known() {
        let reign = Reign { log: &Fake(vec![(1, 0)], 5), epoch: LeaderEpoch(2) };
        assert_eq!(reign.epoch_end(LeaderEpoch(2)), Some((LeaderEpoch(2), Offset(5))));
        assert_eq!(reign.divergence(LeaderEpoch(3), Offset(5)), Err(UnknownEpoch));
    }

    #[test]
    fn out_of_range_goes_by_where_the_leaders_log_lies() {
        assert_eq!(repair(Offset(9), Offset(0), Offset(5)), Repair::TruncateTo(Offset(5)));
        assert_eq!(repair(Offset(0), Offset(3), Offset(5)), Repair::StartAt(Offset(3)));
        assert_eq!(repair(Offset(4), Offset(3), Offset(5)), Repair::FetchAgain);
    }
}

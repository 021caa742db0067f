//! A member's next step towards the target: first it gives up what is not its own any more, then it moves to the
//! target's epoch and gets what nobody else holds.

use std::collections::BTreeSet;

use aqueduct_protocol::ids::Uuid;

use super::entry::{MemberState, Standing};
use super::partitions::{Owned, Partitions, epoch_of, give};

/// What a step depends on.
pub struct Surroundings<'a> {
    pub target_epoch: i32,
    pub target: &'a Partitions,
    /// Topics that the member reads.
    pub subscribed: &'a BTreeSet<Uuid>,
    /// Whether the member has just changed what it reads.
    pub resubscribed: bool,
    /// What the member says that it still has; `None` where it did not say.
    pub owned: Option<&'a [(Uuid, Vec<i32>)]>,
    /// Whether no member holds a partition.
    pub is_free: &'a dyn Fn(Uuid, i32) -> bool,
}

/// Where the member stands after the step; `Err` where it must start anew.
pub fn step(standing: &Standing, around: &Surroundings<'_>) -> Result<Standing, MustRejoin> {
    match standing.state {
        MemberState::Stable if standing.epoch != around.target_epoch => Ok(around.advance(standing)),
        MemberState::Stable if around.resubscribed => Ok(around.unsubscribe(standing)),
        MemberState::Stable => Ok(standing.clone()),
        MemberState::Unrevoked if around.still_owns(&standing.revoking) => {
            if around.resubscribed {
                Ok(around.unsubscribe(standing))
            } else {
                Ok(standing.clone())
            }
        }
        MemberState::Unrevoked | MemberState::Unreleased => Ok(around.advance(standing)),
        MemberState::Unknown if around.owned.is_some_and(<[_]>::is_empty) => {
            Ok(around.advance(&Standing { epoch: around.target_epoch, ..standing.clone() }))
        }
        MemberState::Unknown => Err(MustRejoin),
    }
}

/// The member's state is of a later version.
#[derive(Debug, PartialEq, Eq)]
pub struct MustRejoin;

impl Surroundings<'_> {
    /// Whether the member has any of these, or has not said.
    fn still_owns(&self, given_up: &Owned) -> bool {
        self.owned.is_none_or(|owned| {
            owned.iter().any(|(topic, indexes)| {
                given_up.get(topic).is_some_and(|parts| indexes.iter().any(|index| parts.contains_key(index)))
            })
        })
    }

    fn advance(&self, standing: &Standing) -> Standing {
        let none = BTreeSet::new();
        let (mut assigned, mut revoking, mut wanted) = (Owned::new(), Owned::new(), Vec::new());
        let mut unreleased = false;
        let topics: BTreeSet<_> = self.target.keys().chain(standing.assigned.keys()).copied().collect();
        for topic in topics {
            let target =
                self.target.get(&topic).filter(|_| self.subscribed.contains(&topic)).unwrap_or(&none);
            let current = standing.assigned.get(&topic);
            for (index, epoch) in current.into_iter().flatten() {
                let to = if target.contains(index) { &mut assigned } else { &mut revoking };
                give(to, topic, *index, *epoch);
            }
            for index in target.iter().filter(|index| current.is_none_or(|c| !c.contains_key(index))) {
                let own = epoch_of(&standing.revoking, topic, *index).is_some();
                if own || (self.is_free)(topic, *index) {
                    wanted.push((topic, *index));
                } else {
                    unreleased = true;
                }
            }
        }
        if !revoking.is_empty() && self.still_owns(&revoking) {
            // It stays in its epoch until it has given them up.
            return Standing {
                epoch: standing.epoch,
                previous_epoch: standing.epoch,
                state: MemberState::Unrevoked,
                assigned,
                revoking,
            };
        }
        for (topic, index) in wanted {
            give(&mut assigned, topic, index, self.target_epoch);
        }
        Standing {
            epoch: self.target_epoch,
            previous_epoch: standing.epoch,
            state: if unreleased { MemberState::Unreleased } else { MemberState::Stable },
            assigned,
            revoking: Owned::new(),
        }
    }

    /// Takes topics away that the member has just stopped to read, ahead of the next target.
    fn unsubscribe(&self, standing: &Standing) -> Standing {
        let (mut assigned, mut revoking) = (standing.assigned.clone(), standing.revoking.clone());
        assigned.retain(|topic, parts| {
            let keeps = self.subscribed.contains(topic);
            if !keeps {
                revoking.entry(*topic).or_default().extend(parts.iter());
            }
            keeps
        });
        if assigned == standing.assigned {
            return standing.clone();
        }
        let mut next = Standing { previous_epoch: standing.epoch, assigned, ..standing.clone() };
        if self.still_owns(&revoking) {
            next.state = MemberState::Unrevoked;
            next.revoking = revoking;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    const T: Uuid = Uuid([1; 16]);
    const U: Uuid = Uuid([2; 16]);

    fn owned(partitions: &[(Uuid, i32, i32)]) -> Owned {
        let mut owned = Owned::new();
        partitions.iter().for_each(|(topic, index, epoch)| give(&mut owned, *topic, *index, *epoch));
        owned
    }

    fn target(partitions: &[(Uuid, i32)]) -> Partitions {
        let mut target = Partitions::new();
        for (topic, index) in partitions {
            target.entry(*topic).or_default().insert(*index);
        }
        target
    }

    struct Case<'a> {
        target: &'a [(Uuid, i32)],
        held: &'a [(Uuid, i32)],
        owned: Option<&'a [(Uuid, Vec<i32>)]>,
        resubscribed: bool,
        subscribed: &'a [Uuid],
    }

    fn run(standing: &Standing, case: &Case<'_>) -> Standing {
        let held: HashSet<_> = case.held.iter().copied().collect();
        let around = Surroundings {
            target_epoch: 2,
            target: &target(case.target),
            subscribed: &case.subscribed.iter().copied().collect(),
            resubscribed: case.resubscribed,
            owned: case.owned,
            is_free: &|topic, index| !held.contains(&(topic, index)),
        };
        step(standing, &around).unwrap()
    }

    fn at(
        epoch: i32,
        state: MemberState,
        assigned: &[(Uuid, i32, i32)],
        revoking: &[(Uuid, i32, i32)],
    ) -> Standing {
        Standing { epoch, previous_epoch: 0, state, assigned: owned(assigned), revoking: owned(revoking) }
    }

    #[test]
    fn a_member_gives_up_first_and_then_gets() {
        let case = Case {
            target: &[(T, 1), (T, 2)],
            held: &[(T, 0), (T, 1)],
            owned: None,
            resubscribed: false,
            subscribed: &[T],
        };
        let start = at(1, MemberState::Stable, &[(T, 0, 1), (T, 1, 1)], &[]);
        let revoking = run(&start, &case);
        let expected = at(1, MemberState::Unrevoked, &[(T, 1, 1)], &[(T, 0, 1)]);
        assert_eq!(revoking, Standing { previous_epoch: 1, ..expected });
        let silent = run(&revoking, &case);
        assert_eq!(silent, revoking, "it has not said that it gave up");
        let holds = [(T, vec![0, 1])];
        assert_eq!(run(&revoking, &Case { owned: Some(&holds), ..case }), revoking);
        let gave_up = [(T, vec![1])];
        let done = run(&revoking, &Case { owned: Some(&gave_up), ..case });
        let expected = at(2, MemberState::Stable, &[(T, 1, 1), (T, 2, 2)], &[]);
        assert_eq!(done, Standing { previous_epoch: 1, ..expected });
    }

    #[test]
    fn what_others_hold_is_waited_for() {
        let case = Case {
            target: &[(T, 0), (T, 1)],
            held: &[(T, 1)],
            owned: None,
            resubscribed: false,
            subscribed: &[T],
        };
        let waiting = run(&at(0, MemberState::Stable, &[], &[]), &case);
        assert_eq!(waiting, at(2, MemberState::Unreleased, &[(T, 0, 2)], &[]));
        let complete = run(&waiting, &Case { held: &[(T, 0)], ..case });
        assert_eq!(complete.state, MemberState::Stable);
        assert_eq!(complete.assigned, owned(&[(T, 0, 2), (T, 1, 2)]));
    }

    #[test]
    fn what_it_is_giving_up_can_come_back_to_it() {
        let standing = at(1, MemberState::Unrevoked, &[], &[(T, 0, 1)]);
        let case = Case {
            target: &[(T, 0)],
            held: &[(T, 0)],
            owned: Some(&[]),
            resubscribed: false,
            subscribed: &[T],
        };
        assert_eq!(run(&standing, &case).assigned, owned(&[(T, 0, 2)]));
    }

    #[test]
    fn topics_that_are_not_read_any_more_go_at_once() {
        let standing = at(2, MemberState::Stable, &[(T, 0, 1), (U, 0, 1)], &[]);
        let case = Case {
            target: &[(T, 0), (U, 0)],
            held: &[(T, 0), (U, 0)],
            owned: None,
            resubscribed: true,
            subscribed: &[U],
        };
        let next = run(&standing, &case);
        assert_eq!((next.state, next.epoch), (MemberState::Unrevoked, 2));
        assert_eq!((next.assigned, next.revoking), (owned(&[(U, 0, 1)]), owned(&[(T, 0, 1)])));
        let same = run(&standing, &Case { subscribed: &[T, U], ..case });
        assert_eq!(same, standing);
    }

    #[test]
    fn a_state_of_a_later_version_starts_anew() {
        let standing = at(1, MemberState::Unknown, &[], &[]);
        let around = Surroundings {
            target_epoch: 2,
            target: &BTreeMap::new(),
            subscribed: &BTreeSet::new(),
            resubscribed: false,
            owned: None,
            is_free: &|_, _| true,
        };
        assert_eq!(step(&standing, &around), Err(MustRejoin));
        let given_up = Surroundings { owned: Some(&[]), ..around };
        assert_eq!(step(&standing, &given_up).unwrap().state, MemberState::Stable);
    }
}

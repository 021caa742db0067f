//! A history that came up at random once: two fetches of one follower are under way, and the second is answered late.

use super::{BROKERS, Message, Sim};

impl Sim {
    /// Delivers all messages, and those that come of them.
    fn settle(&mut self) {
        while !self.messages.is_empty() {
            let message = self.messages.remove(0);
            self.deliver(message);
        }
    }
}

#[test]
fn an_answer_of_before_a_cut_does_not_cut_again() {
    let mut sim = Sim::new(2, false);
    let old = sim.partition().leader.0;
    // Two records that only the leader has when it goes.
    sim.produce(old);
    sim.produce(old);
    sim.kill(old, 0);
    let others = BROKERS.into_iter().filter(|id| *id != old);
    while sim.partition().leader.0 == old {
        sim.now_ms += 1_000;
        others.clone().for_each(|id| sim.beat(id));
        sim.controller.tick(sim.now_ms);
    }
    // Two others take their place and are committed.
    let leader = sim.partition().leader.0;
    others.clone().for_each(|id| sim.learn(id));
    sim.produce(leader);
    sim.produce(leader);
    for _ in 0..3 {
        others.clone().filter(|id| *id != leader).for_each(|id| sim.fetch(id));
        sim.settle();
    }
    assert_eq!(sim.brokers[&leader].mark, 2);
    // The old leader asks twice where the logs part.
    sim.start(old);
    sim.beat(old);
    sim.learn(old);
    sim.fetch(old);
    sim.fetch(old);
    for _ in 0..2 {
        let asked = sim.messages.remove(0);
        sim.deliver(asked);
    }
    let late = sim.messages.pop().expect("the second answer");
    assert!(matches!(late, Message::Fetched { .. }), "{late:?}");
    sim.settle();
    for _ in 0..3 {
        sim.fetch(old);
        sim.settle();
    }
    assert_eq!((sim.brokers[&old].mark, sim.brokers[&old].log.values.len()), (2, 2));
    sim.deliver(late);
    assert_eq!((sim.brokers[&old].mark, sim.brokers[&old].log.values.len()), (2, 2));
}

//! Our incremental assignor beside Kafka's: the same groups, the same events, and in each round the same delays, as many
//! items taken away and given, and the same loads. Which of two equal members gets an item is each one's own choice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use aqueduct_connect_worker::membership::Load;
use aqueduct_connect_worker::membership::incremental::{Assignor, Round};
use serde_json::{Value, json};

/// What a member is to start and to stop.
type Share = (BTreeSet<String>, BTreeSet<String>);

trait Leader {
    /// A leader without a memory.
    fn renew(&mut self, max_delay: i64);
    fn assign(&mut self, round: &Event<'_>) -> (i64, BTreeMap<String, Share>);
}

struct Event<'a> {
    now: i64,
    last: Option<i32>,
    generation: i32,
    configured: &'a BTreeSet<String>,
    members: &'a BTreeMap<String, BTreeSet<String>>,
}

struct Ours(Assignor);

fn load(connectors: &BTreeSet<String>) -> Load {
    Load { connectors: connectors.iter().map(|c| c.as_str().into()).collect(), tasks: BTreeSet::new() }
}

fn names(load: &Load) -> BTreeSet<String> {
    load.connectors.iter().map(ToString::to_string).collect()
}

impl Leader for Ours {
    fn renew(&mut self, max_delay: i64) {
        self.0 = Assignor::new(max_delay);
    }

    fn assign(&mut self, event: &Event<'_>) -> (i64, BTreeMap<String, Share>) {
        let members = event.members.iter().map(|(name, held)| (name.clone(), load(held))).collect();
        let shares = self.0.assign(&Round {
            now: event.now,
            generation: event.generation,
            last_completed: event.last,
            members: &members,
            configured: &load(event.configured),
            released: &Load::default(),
        });
        let delay = shares.values().next().map_or(0, |share| share.delay.into());
        let share = |(name, share): (_, aqueduct_connect_worker::membership::incremental::Share)| {
            (name, (names(&share.assigned), names(&share.revoked)))
        };
        (delay, shares.into_iter().map(share).collect())
    }
}

struct Kafkas {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Kafkas {
    fn start() -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/assignor/Rounds.java");
        let mut command = aqueduct_tests::kafka::java("256m", program).expect("Kafka is installed");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("cannot start java: install a JDK, 17 or later");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, input, output: BufReader::new(output) }
    }
}

impl Drop for Kafkas {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

impl Leader for Kafkas {
    fn renew(&mut self, max_delay: i64) {
        writeln!(self.input, "{}", json!({ "max_delay": max_delay })).expect("java reads");
    }

    fn assign(&mut self, event: &Event<'_>) -> (i64, BTreeMap<String, Share>) {
        let line = json!({
            "now": event.now, "last": event.last.unwrap_or(-1), "generation": event.generation,
            "configured": event.configured, "members": event.members,
        });
        writeln!(self.input, "{line}").expect("java reads");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("java answers");
        let answer: Value = serde_json::from_str(&answer).expect("java answers with JSON");
        let set = |value: &Value| -> BTreeSet<String> {
            value.as_array().expect("a list").iter().filter_map(|v| Some(v.as_str()?.to_owned())).collect()
        };
        let members = answer["members"].as_object().expect("members").iter();
        let shares = members.map(|(name, s)| (name.clone(), (set(&s["assigned"]), set(&s["revoked"]))));
        (answer["delay"].as_i64().expect("a delay"), shares.collect())
    }
}

/// A group as one of the leaders has made it.
#[derive(Default)]
struct Group {
    generation: i32,
    configured: BTreeSet<String>,
    members: BTreeMap<String, BTreeSet<String>>,
}

impl Group {
    /// Members from the most to the least loaded; equal ones do not differ but by name.
    fn ranked(&self) -> Vec<String> {
        let mut ranked: Vec<&String> = self.members.keys().collect();
        ranked.sort_by_key(|name| std::cmp::Reverse(self.members[*name].len()));
        ranked.into_iter().cloned().collect()
    }

    fn loads(&self) -> Vec<usize> {
        self.ranked().iter().map(|name| self.members[name].len()).collect()
    }

    /// One round; the delay, and how many items were given and taken away.
    fn round(&mut self, leader: &mut dyn Leader, now: i64, completed: bool) -> (i64, usize, usize) {
        let last = (completed && self.generation > 0).then_some(self.generation);
        self.generation += 1;
        let event = Event {
            now,
            last,
            generation: self.generation,
            configured: &self.configured,
            members: &self.members,
        };
        let (delay, shares) = leader.assign(&event);
        let (mut given, mut taken) = (0, 0);
        for (name, (assigned, revoked)) in shares {
            given += assigned.len();
            taken += revoked.len();
            let held = self.members.get_mut(&name).expect("a member");
            held.retain(|item| !revoked.contains(item));
            held.extend(assigned);
        }
        (delay, given, taken)
    }
}

/// A small generator of its own, so that a seed tells all.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn compare(kafkas: &mut Kafkas, seed: u64) {
    let mut random = Random(seed);
    let max_delay = [0, 1000, 300_000][usize::try_from(random.below(3)).expect("small")];
    let mut ours = Ours(Assignor::new(max_delay));
    kafkas.renew(max_delay);
    let (mut a, mut b) = (Group::default(), Group::default());
    let (mut now, mut next_member, mut next_connector) = (0, 0, 0);
    let mut story = vec![format!("seed {seed}, max delay {max_delay}")];
    for step in 0..12 {
        let what = if step == 0 { 0 } else { random.below(8) };
        match what {
            0 | 1 => {
                for group in [&mut a, &mut b] {
                    group.members.insert(format!("w{next_member:02}"), BTreeSet::new());
                }
                next_member += 1;
                story.push("one joins".to_owned());
            }
            2 if a.members.len() > 1 => {
                let rank = usize::try_from(random.below(a.members.len() as u64)).expect("small");
                for group in [&mut a, &mut b] {
                    let name = group.ranked()[rank].clone();
                    group.members.remove(&name);
                }
                story.push(format!("number {rank} vanishes"));
            }
            3 => {
                let rank = usize::try_from(random.below(a.members.len() as u64)).expect("small");
                for group in [&mut a, &mut b] {
                    let gone = group.members[&group.ranked()[rank]].clone();
                    group.configured.retain(|name| !gone.contains(name));
                }
                story.push(format!("what number {rank} holds is deleted"));
            }
            4 => {
                now += i64::try_from(random.below(2000)).expect("small") * max_delay / 1000;
                story.push(format!("it is {now}"));
            }
            5 => {
                ours.renew(max_delay);
                kafkas.renew(max_delay);
                story.push("another leads".to_owned());
            }
            _ => {
                let more = random.below(6) + 1;
                for _ in 0..more {
                    for group in [&mut a, &mut b] {
                        group.configured.insert(format!("c{next_connector:03}"));
                    }
                    next_connector += 1;
                }
                story.push(format!("{more} are created"));
            }
        }
        for round in 0..=random.below(3) {
            // Without a memory Kafka's leader leaves alone what is no longer configured; ours takes it away.
            let completed = random.below(12) > 0 || what == 3 && round == 0;
            let (mine, theirs) = (a.round(&mut ours, now, completed), b.round(kafkas, now, completed));
            story.push(format!(
                "  completed {completed}: {mine:?} {:?} / {theirs:?} {:?}",
                a.loads(),
                b.loads()
            ));
            // Kafka's longest back-off is a power in floating point, cut off.
            let delays_agree = mine.0.abs_diff(theirs.0) <= 1;
            let agree = delays_agree && (mine.1, mine.2, a.loads()) == (theirs.1, theirs.2, b.loads());
            assert!(agree, "ours and Kafka's differ:\n{}", story.join("\n"));
        }
    }
}

#[test]
fn rounds_are_those_of_kafka() {
    let mut kafkas = Kafkas::start();
    for seed in 1..400 {
        compare(&mut kafkas, seed * 0x9E37_79B9);
    }
}

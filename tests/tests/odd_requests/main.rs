//! Every API in every version is asked the same odd things of our broker and of Apache Kafka's: nothing, null, twice the
//! same, numbers below zero and far too large, names of nobody, frames cut short. The answers must be the same.
//!
//! `ODD_ROUNDS` sets how many requests each version of an API gets, `ODD_SEED` by which number they are drawn, `ODD_API`
//! asks one API only.

mod answer;
mod known;
mod read;
mod schema;
mod socket;
mod write;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aqueduct_tests::server::{Kind, Server};

use answer::Answer;
use known::is_same;
use schema::{Message, apis};
use socket::{Socket, is_busy};
use write::{Chance, request};

/// Requests for each version of an API.
const ROUNDS: u64 = 12;

/// APIs whose answers tell of the broker itself, and are compared elsewhere or by none.
const LEFT_OUT: &[&str] = &[
    // The list of APIs and features: `connection` of the wire tests.
    "ApiVersions",
    // Which loggers there are, and every config of each: the wire tests and the tools' scripts.
    "DescribeConfigs",
    // Sizes and free space.
    "DescribeLogDirs",
    // Offsets of the metadata's own log.
    "DescribeQuorum",
];

const SETTINGS: &[(&str, &str)] = &[
    ("transaction.state.log.num.partitions", "5"),
    ("num.partitions", "1"),
    // Members by chance wait for nobody, and are gone soon.
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "100"),
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("super.users", "User:ANONYMOUS"),
];

#[test]
fn odd_requests_get_the_same_answers() -> Result<()> {
    let (rounds, seed) = (from_environment("ODD_ROUNDS", ROUNDS)?, from_environment("ODD_SEED", 0)?);
    let servers =
        [Server::start_with(Kind::Aqueduct, SETTINGS)?, Server::start_with(Kind::ApacheKafka, SETTINGS)?];
    let mut sockets = [Socket::open(&servers[0])?, Socket::open(&servers[1])?];
    let only = std::env::var("ODD_API").ok();
    let (mut differences, mut asked) = (String::new(), 0);
    for (number, api) in apis()?.iter().enumerate() {
        if LEFT_OUT.contains(&api.as_str()) || only.as_ref().is_some_and(|only| only != api) {
            continue;
        }
        let begun = Instant::now();
        for socket in &mut sockets {
            socket.create_topics()?;
        }
        let (ask, answer) =
            (Message::load(&format!("{api}Request"))?, Message::load(&format!("{api}Response"))?);
        for version in ask.versions.all() {
            let mut chance = Chance::new(seed * 1_000_000 + number as u64 * 1000 + version as u64);
            for round in 0..rounds {
                let case = format!("{number}-{version}-{round}");
                let written = request(&ask, version, &case, &mut chance);
                let mut frame = written.bytes.clone();
                // The last ones are not whole.
                let cut = round == rounds - 1;
                if cut {
                    frame.truncate(frame.len() / 2);
                }
                let mut one = |at: usize| {
                    let seen = sockets[at].ask(&ask, &answer, version, &frame);
                    // Silence is an answer of its own kind: it must not end the comparison.
                    seen.unwrap_or_else(|error| Answer::Word(format!("{error:#}")))
                };
                let (mut ours, mut theirs) = (one(0), one(1));
                // Who is busy alone is asked until it is not.
                let deadline = Instant::now() + Duration::from_secs(60);
                while is_busy(&ours) != is_busy(&theirs)
                    && !is_same(api, &written, &ours, &theirs)
                    && Instant::now() < deadline
                {
                    if is_busy(&ours) {
                        ours = one(0);
                    } else {
                        theirs = one(1);
                    }
                }
                // What changes by itself is asked for again: Apache Kafka creates topics that are missing beside its answer,
                // and knows them a little later; members by chance are gone soon, but not at the same moment.
                let settles = ["Metadata", "DescribeGroups", "ListGroups"].contains(&api.as_str());
                for _ in 0..if settles { 1200 } else { 0 } {
                    if is_same(api, &written, &ours, &theirs) {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                    (ours, theirs) = (one(0), one(1));
                }
                asked += 1;
                if theirs.is_silence() {
                    println!("{api} {version} {}: {theirs}", written.shown);
                }
                if !is_same(api, &written, &ours, &theirs) {
                    let cut = if cut { " (cut)" } else { "" };
                    let difference =
                        format!("{api} {version}{cut} {}\n  ours   {ours}\n  theirs {theirs}", written.shown);
                    println!("{difference}");
                    let _ = writeln!(differences, "{difference}");
                }
            }
        }
        println!("{api}: {:.1} s", begun.elapsed().as_secs_f32());
    }
    println!("{asked} requests");
    let count = differences.matches("\n  ours").count();
    assert!(differences.is_empty(), "{count} of {asked} differ with seed {seed}:\n{differences}");
    Ok(())
}

fn from_environment(name: &str, usual: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(value) => value.parse().with_context(|| format!("{name} is no number: {value}")),
        Err(_) => Ok(usual),
    }
}

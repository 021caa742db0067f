//! Histories of whole nodes that follow from seeds.

use std::process::{Command, Output};

fn simulation(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aqueduct-simulation"))
        .args(arguments)
        .output()
        .expect("it can be started")
}

/// How many seeds are played; `AQUEDUCT_SIMULATION_SEEDS` says how many others.
const SEEDS: &str = "12";

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in ["4", "11"] {
        let [one, other] = [(), ()].map(|()| simulation(&["--seed", seed]));
        assert!(one.status.success(), "{}", String::from_utf8_lossy(&one.stdout));
        assert_eq!(String::from_utf8_lossy(&one.stdout), String::from_utf8_lossy(&other.stdout));
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_clusters_become_whole_again() {
    let seeds = std::env::var("AQUEDUCT_SIMULATION_SEEDS").unwrap_or_else(|_| SEEDS.to_owned());
    let played = simulation(&["--seeds", &seeds]);
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stdout));
    print!("{}", String::from_utf8_lossy(&played.stdout));
}

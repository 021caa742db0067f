//! The assignor of protocol `default`: everything in turn over the sorted members.

use std::collections::BTreeMap;

use super::Load;

/// Shares `all` out: connectors in turn, then tasks, going on with the member after the last one.
pub fn assign(members: &[String], all: &Load) -> BTreeMap<String, Load> {
    let mut sorted: Vec<&String> = members.iter().collect();
    sorted.sort_unstable();
    let mut loads: BTreeMap<String, Load> =
        sorted.iter().map(|member| ((*member).clone(), Load::default())).collect();
    if sorted.is_empty() {
        return loads;
    }
    let mut turn = sorted.iter().cycle();
    let mut next = || (*turn.next().expect("a cycle over members does not end")).clone();
    for connector in &all.connectors {
        loads.entry(next()).or_default().connectors.insert(connector.clone());
    }
    for task in &all.tasks {
        loads.entry(next()).or_default().tasks.insert(task.clone());
    }
    loads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TaskId;

    #[test]
    fn takes_turns() {
        let all = Load {
            connectors: ["a".into()].into(),
            tasks: [TaskId::new("a", 0), TaskId::new("a", 1)].into(),
        };
        let loads = assign(&["w2".to_owned(), "w1".to_owned()], &all);
        assert_eq!(loads["w1"].connectors.len(), 1);
        assert_eq!(loads["w2"].tasks, [TaskId::new("a", 0)].into());
        assert_eq!(loads["w1"].tasks, [TaskId::new("a", 1)].into());
        assert!(assign(&[], &all).is_empty());
    }
}

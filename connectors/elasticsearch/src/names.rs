//! Names of indices.

/// The most bytes of an index name.
const LONGEST: usize = 255;

/// The index of a topic, by the reference's rules: lower case, cut, no `-` or `_` at the start, and words for `.` and `..`.
pub fn index_of(topic: &str) -> String {
    let mut name = topic.to_lowercase();
    if name.len() > LONGEST {
        let cut = (0..=LONGEST).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        name.truncate(cut);
    }
    if name.starts_with(['-', '_']) {
        name.remove(0);
    }
    if name == "." || name == ".." {
        name = name.replace('.', "dot");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_become_indices() {
        let long = "x".repeat(300);
        for (topic, index) in [
            ("Orders", "orders"),
            ("_internal", "internal"),
            ("-a-b", "a-b"),
            (".", "dot"),
            ("..", "dotdot"),
            ("db.table", "db.table"),
            (&*long, &long[..255]),
        ] {
            assert_eq!(index_of(topic), index);
        }
    }
}

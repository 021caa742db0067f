//! Sets of transaction ids.

use std::collections::BTreeMap;
use std::fmt;

/// The transactions that are done, in one of the two servers' notations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GtidSet {
    /// Intervals, both ends included, of each source: a UUID, with `:tag` where there is one.
    MySql(BTreeMap<String, Vec<(u64, u64)>>),
    /// The last one, as server id and number, of each domain.
    MariaDb(BTreeMap<u32, (u32, u64)>),
}

/// Text that is not a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoGtidSet(pub String);

impl GtidSet {
    /// Reads either notation; empty text is MySQL's empty set.
    ///
    /// # Errors
    /// The part that does not fit.
    pub fn parse(text: &str) -> Result<Self, NoGtidSet> {
        let parts: Vec<&str> = text.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
        if parts.iter().any(|p| p.contains(':')) || parts.is_empty() {
            let mut set = Self::MySql(BTreeMap::new());
            for part in parts {
                set.parse_intervals(part).ok_or_else(|| NoGtidSet(part.to_owned()))?;
            }
            return Ok(set);
        }
        let mut set = Self::MariaDb(BTreeMap::new());
        for part in parts {
            let mut numbers = part.split('-').map(str::parse::<u64>);
            match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
                (Some(Ok(domain)), Some(Ok(server)), Some(Ok(number)), None) => {
                    set.add_mariadb(domain as u32, server as u32, number);
                }
                _ => return Err(NoGtidSet(part.to_owned())),
            }
        }
        Ok(set)
    }

    fn parse_intervals(&mut self, part: &str) -> Option<()> {
        let mut fields = part.split(':');
        let uuid = fields.next()?.to_ascii_lowercase();
        if uuid.len() != 36 || uuid.chars().any(|c| !c.is_ascii_hexdigit() && c != '-') {
            return None;
        }
        let mut source = uuid.clone();
        for field in fields {
            if !field.starts_with(|c: char| c.is_ascii_digit()) {
                source = format!("{uuid}:{}", field.to_ascii_lowercase());
                continue;
            }
            let (first, last) = match field.split_once('-') {
                Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
                None => (field.parse().ok()?, field.parse().ok()?),
            };
            self.add_range(&source, first, last);
        }
        Some(())
    }

    fn add_range(&mut self, source: &str, first: u64, last: u64) {
        let Self::MySql(sets) = self else { return };
        let ranges = sets.entry(source.to_owned()).or_default();
        ranges.push((first, last));
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges.drain(..) {
            match merged.last_mut() {
                Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        *ranges = merged;
    }

    /// Adds one transaction of MySQL. `false` where this is a set of MariaDB's.
    pub fn add_mysql(&mut self, source: &str, number: u64) -> bool {
        let Self::MySql(sets) = self else { return false };
        // nearly always the next one
        if let Some(last) = sets.get_mut(source).and_then(|r| r.last_mut())
            && last.1 + 1 == number
        {
            last.1 = number;
            return true;
        }
        self.add_range(source, number, number);
        true
    }

    /// Sets the last transaction of a domain of MariaDB. `false` where this is a set of MySQL's that is not empty.
    pub fn add_mariadb(&mut self, domain: u32, server: u32, number: u64) -> bool {
        if matches!(self, Self::MySql(sets) if sets.is_empty()) {
            *self = Self::MariaDb(BTreeMap::new());
        }
        let Self::MariaDb(domains) = self else { return false };
        let last = domains.entry(domain).or_insert((server, number));
        if number >= last.1 {
            *last = (server, number);
        }
        true
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Self::MySql(sets) => sets.is_empty(),
            Self::MariaDb(domains) => domains.is_empty(),
        }
    }

    /// Whether a source carries a tag: the protocol that this connector speaks cannot ask for such sets.
    pub fn has_tags(&self) -> bool {
        matches!(self, Self::MySql(sets) if sets.keys().any(|source| source.contains(':')))
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        match self {
            Self::MySql(sets) => {
                for (source, ranges) in sets {
                    write!(f, "{separator}{source}")?;
                    separator = ",";
                    for (first, last) in ranges {
                        if first == last {
                            write!(f, ":{first}")?;
                        } else {
                            write!(f, ":{first}-{last}")?;
                        }
                    }
                }
            }
            Self::MariaDb(domains) => {
                for (domain, (server, number)) in domains {
                    write!(f, "{separator}{domain}-{server}-{number}")?;
                    separator = ",";
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn merges_intervals() {
        let mut set = GtidSet::parse(&format!("{B}:1-3:5,\n{A}:7")).unwrap();
        assert!(set.add_mysql(B, 4));
        assert!(set.add_mysql(B, 6));
        assert!(set.add_mysql(A, 9));
        assert_eq!(set.to_string(), format!("{A}:7:9,{B}:1-6"));
        assert!(!set.add_mariadb(0, 1, 1));
    }

    #[test]
    fn keeps_the_last_of_each_domain() {
        let mut set = GtidSet::parse("0-1-5,0-2-7,3-1-1").unwrap();
        assert!(set.add_mariadb(0, 2, 8));
        assert_eq!(set.to_string(), "0-2-8,3-1-1");
    }

    #[test]
    fn refuses_other_text() {
        for text in ["x", "0-1", "1-2-3-4", "uuid:1-2", "0-1-5,x"] {
            assert!(GtidSet::parse(text).is_err(), "{text}");
        }
        assert!(GtidSet::parse(&format!("{A}:tag:1-2")).unwrap().has_tags());
        assert!(GtidSet::parse("").unwrap().is_empty());
    }
}

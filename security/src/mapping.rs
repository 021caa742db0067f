//! `ssl.principal.mapping.rules`: from a certificate's name to the name of a principal.

use regex::Regex;

use crate::Error;

const KEY: &str = "ssl.principal.mapping.rules";

/// The rules, tried in order.
#[derive(Debug, Clone)]
pub struct Rules {
    rules: Vec<Rule>,
    text: String,
}

#[derive(Debug, Clone)]
enum Rule {
    /// The name as it is.
    Default,
    Replace {
        pattern: Regex,
        replacement: String,
        case: Case,
    },
}

#[derive(Debug, Clone, Copy)]
enum Case {
    AsIs,
    Lower,
    Upper,
}

impl Rules {
    /// Reads rules: `DEFAULT` and `RULE:pattern/replacement/[LU]`, with commas or line ends between them.
    ///
    /// # Errors
    /// A rule that has another form, or a pattern that is no regular expression.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut rules = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (rule, after) = one(rest)?;
            rules.push(rule);
            rest = after.trim_start();
            match rest.strip_prefix(',') {
                Some(after) => rest = after.trim_start(),
                None if rest.is_empty() || after.starts_with('\n') => {}
                None => return Err(Error::setting(KEY, format!("expected a comma before '{rest}'"))),
            }
        }
        if rules.is_empty() {
            rules.push(Rule::Default);
        }
        Ok(Self { rules, text: text.trim().to_owned() })
    }

    /// The principal's name for a distinguished name.
    ///
    /// # Errors
    /// Where no rule applies.
    pub fn apply(&self, name: &str) -> Result<String, Error> {
        for rule in &self.rules {
            match rule {
                Rule::Default => return Ok(name.to_owned()),
                Rule::Replace { pattern, replacement, case } => {
                    let Some(groups) = pattern.captures(name) else { continue };
                    let mapped = expand(replacement, &groups);
                    return Ok(match case {
                        Case::AsIs => mapped,
                        Case::Lower => mapped.to_lowercase(),
                        Case::Upper => mapped.to_uppercase(),
                    });
                }
            }
        }
        Err(Error::setting(KEY, format!("no rule applies to {name}; rules are {}", self.text)))
    }
}

fn one(text: &str) -> Result<(Rule, &str), Error> {
    if let Some(rest) = text.strip_prefix("DEFAULT") {
        return Ok((Rule::Default, rest));
    }
    let shape =
        || Error::setting(KEY, format!("'{text}' is neither DEFAULT nor RULE:pattern/replacement/[LU]"));
    let rest = text.strip_prefix("RULE:").ok_or_else(shape)?;
    let (pattern, rest) = until_slash(rest).ok_or_else(shape)?;
    let (replacement, rest) = until_slash(rest).ok_or_else(shape)?;
    let (case, rest) = match rest.as_bytes().first() {
        Some(b'L') => (Case::Lower, &rest[1..]),
        Some(b'U') => (Case::Upper, &rest[1..]),
        _ => (Case::AsIs, rest),
    };
    // Java matches the whole name.
    let pattern = Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
        let why =
            format!("pattern '{pattern}' is not supported: {error}; look-around and back-references are not");
        Error::setting(KEY, why)
    })?;
    Ok((Rule::Replace { pattern, replacement: replacement.to_owned(), case }, rest))
}

fn until_slash(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '/' if !escaped => return Some((&text[..at], &text[at + 1..])),
            _ => escaped = c == '\\' && !escaped,
        }
    }
    None
}

/// `$1` stands for a group that the pattern has; a backslash takes the meaning from what follows.
fn expand(replacement: &str, groups: &regex::Captures<'_>) -> String {
    let mut out = String::new();
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            '$' => match chars.peek().and_then(|c| c.to_digit(10)).filter(|n| (*n as usize) < groups.len()) {
                Some(group) => {
                    chars.next();
                    out.push_str(groups.get(group as usize).map_or("", |found| found.as_str()));
                }
                None => out.push('$'),
            },
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_the_whole_name_counts() {
        let rules = Rules::parse(
            "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/, RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L, \
             RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/U, DEFAULT",
        )
        .unwrap();
        for (name, mapped) in [
            ("CN=kafka1,OU=ServiceUsers,O=Unknown", "kafka1"),
            ("CN=Adm,OU=Admin,O=U,L=U,ST=U,C=U", "adm@admin"),
            ("O=x,CN=john", "JOHN"),
            ("OU=nobody", "OU=nobody"),
        ] {
            assert_eq!(rules.apply(name).unwrap(), mapped);
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert!(Rules::parse("RULE:^CN=(.*)$/$1").is_err());
        assert!(Rules::parse("RULE:^CN=(.*$/$1/").is_err());
        assert!(Rules::parse("other").is_err());
        let rules = Rules::parse("RULE:^CN=(a)$/x\\/$1$7/").unwrap();
        assert_eq!(rules.apply("CN=a").unwrap(), "x/a$7");
        assert!(rules.apply("CN=b").unwrap_err().to_string().contains("no rule applies to CN=b"));
    }
}

//! An answer as a tree, and when two are the same.

use std::fmt;

/// A value of an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    Word(String),
    List(Vec<Self>),
    Struct(Vec<(String, Self)>),
}

impl Answer {
    /// What is answered for a topic that a request names twice, or for none of its partitions: lists lose what is in them
    /// twice, entries of one name become one, and those that hold nothing go.
    pub fn gathered(self) -> Self {
        match self {
            Self::Word(_) => self,
            Self::Struct(fields) => {
                Self::Struct(fields.into_iter().map(|(name, value)| (name, value.gathered())).collect())
            }
            Self::List(all) => {
                let mut gathered: Vec<Self> = Vec::new();
                for one in all {
                    match gathered.iter_mut().find_map(|other| other.list_of_same(&one)) {
                        Some(list) => list.extend(one.into_list()),
                        None => gathered.push(one),
                    }
                }
                let mut all: Vec<_> = gathered.into_iter().map(Self::gathered).collect();
                all.retain(|one| !one.holds_nothing());
                all.sort();
                all.dedup();
                Self::List(all)
            }
        }
    }

    /// Whether all of another answer is in this one, and nothing else but more answers under names that the other has.
    pub fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Struct(ours), Self::Struct(theirs)) => {
                ours.len() == theirs.len()
                    && ours
                        .iter()
                        .zip(theirs)
                        .all(|(ours, theirs)| ours.0 == theirs.0 && ours.1.includes(&theirs.1))
            }
            (Self::List(ours), Self::List(theirs)) => {
                theirs.iter().all(|one| ours.iter().any(|other| other.includes(one)))
                    && ours.iter().all(|one| theirs.iter().any(|other| other.name() == one.name()))
            }
            _ => self == other,
        }
    }

    /// What an element of a list is called: the first word in it that is not a code.
    fn name(&self) -> Option<&Self> {
        match self {
            Self::Struct(fields) => {
                fields.iter().find(|(name, _)| !name.ends_with("ErrorCode")).map(|(_, value)| value)
            }
            other => Some(other),
        }
    }

    /// The name and the list of a struct that is nothing but these: a topic and its partitions.
    fn named_list(&self) -> Option<(&Self, &[Self])> {
        match self {
            Self::Struct(fields) => match fields.as_slice() {
                [(_, name @ Self::Word(_)), (_, Self::List(list))] => Some((name, list)),
                // Of versions that have ids too.
                [(_, Self::Word(empty)), (_, id @ Self::Word(_)), (_, Self::List(list))]
                    if empty == "\"\"" =>
                {
                    Some((id, list))
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn holds_nothing(&self) -> bool {
        self.named_list().is_some_and(|(_, list)| list.is_empty())
    }

    fn list_of_same(&mut self, other: &Self) -> Option<&mut Vec<Self>> {
        if self.named_list()?.0 != other.named_list()?.0 {
            return None;
        }
        match self {
            Self::Struct(fields) => fields.iter_mut().find_map(|(_, value)| match value {
                Self::List(list) => Some(list),
                _ => None,
            }),
            _ => None,
        }
    }

    fn into_list(self) -> Vec<Self> {
        match self {
            Self::Struct(fields) => fields
                .into_iter()
                .find_map(|(_, value)| match value {
                    Self::List(list) => Some(list),
                    _ => None,
                })
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Whether nothing came, and the connection stayed.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Word(word) if word != "closed")
    }

    /// All error codes in it.
    pub fn codes(&self) -> Vec<i16> {
        match self {
            Self::Word(_) => Vec::new(),
            Self::List(all) => all.iter().flat_map(Self::codes).collect(),
            Self::Struct(fields) => fields
                .iter()
                .flat_map(|(name, value)| match value {
                    Self::Word(word) if name.ends_with("ErrorCode") => word.parse().into_iter().collect(),
                    other => other.codes(),
                })
                .collect(),
        }
    }

    /// Whether no list in it has anything but answers without an error.
    pub fn finds_nothing(&self) -> bool {
        let no_error = self.codes().iter().all(|code| *code == 0);
        no_error && !self.to_string().contains("Principal=")
    }

    /// Errors that say nothing where they have a place for words.
    pub fn wordless(&self) -> usize {
        match self {
            Self::Word(_) => 0,
            Self::List(all) => all.iter().map(Self::wordless).sum(),
            Self::Struct(fields) => {
                let word = |name: &str, is: fn(&str) -> bool| {
                    fields.iter().any(|(n, value)| n == name && matches!(value, Self::Word(w) if is(w)))
                };
                let here =
                    word("ErrorCode", |code| code != "0") && word("ErrorMessage", |text| text == "none");
                usize::from(here) + fields.iter().map(|(_, value)| value.wordless()).sum::<usize>()
            }
        }
    }

    /// Without elements of lists.
    pub fn without(self, unwanted: &impl Fn(&Self) -> bool) -> Self {
        match self {
            Self::Word(_) => self,
            Self::List(all) => {
                let kept = all.into_iter().filter(|one| !unwanted(one));
                Self::List(kept.map(|one| one.without(unwanted)).collect())
            }
            Self::Struct(fields) => Self::Struct(
                fields.into_iter().map(|(name, value)| (name, value.without(unwanted))).collect(),
            ),
        }
    }

    /// Without the words of errors, and without where `min.insync.replicas` was set, which formatting does there.
    pub fn without_messages(self) -> Self {
        match self {
            Self::Word(_) => self,
            Self::List(all) => {
                let mut all: Vec<_> = all.into_iter().map(Self::without_messages).collect();
                all.sort();
                Self::List(all)
            }
            Self::Struct(fields) => {
                let formatted = Self::Word("\"min.insync.replicas\"".to_owned());
                let is_formatted = fields.iter().any(|(name, value)| name == "Name" && *value == formatted);
                let kept = fields
                    .into_iter()
                    .filter(|(name, _)| name != "ErrorMessage" && !(is_formatted && name == "ConfigSource"));
                Self::Struct(kept.map(|(name, value)| (name, value.without_messages())).collect())
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separated =
            |f: &mut fmt::Formatter<'_>, at: usize| if at > 0 { f.write_str(" ") } else { Ok(()) };
        match self {
            Self::Word(word) => f.write_str(word),
            Self::List(all) => {
                f.write_str("[")?;
                for (at, one) in all.iter().enumerate() {
                    separated(f, at)?;
                    write!(f, "{one}")?;
                }
                f.write_str("]")
            }
            Self::Struct(fields) => {
                f.write_str("{")?;
                for (at, (name, value)) in fields.iter().enumerate() {
                    separated(f, at)?;
                    write!(f, "{name}={value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

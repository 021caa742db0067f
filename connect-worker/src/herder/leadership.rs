//! Who leads the group and who runs what: whether a request can be carried out here, and where else.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ids::TaskId;
use crate::membership::{Load, Protocol};

/// What each member runs, by its URL; only the leader knows.
#[derive(Clone, Debug, Default)]
pub struct Owners(Arc<Vec<(String, Load)>>);

impl Owners {
    pub fn new(owners: Vec<(String, Load)>) -> Self {
        Self(Arc::new(owners))
    }

    fn find(&self, holds: impl Fn(&Load) -> bool) -> Option<String> {
        self.0.iter().find(|(_, load)| holds(load)).map(|(url, _)| url.clone())
    }
}

/// What this worker knows of its group.
#[derive(Clone, Debug, Default)]
pub struct Leadership {
    pub leads: bool,
    /// URL of the leader, once there is one.
    pub url: Option<String>,
    /// The protocol of the last round.
    pub protocol: Option<Protocol>,
    pub owners: Owners,
}

impl Leadership {
    /// Lets only the leader go on.
    ///
    /// # Errors
    /// [`Error::Elsewhere`] with the leader's URL and `why`.
    pub fn check(&self, why: &str) -> Result<()> {
        if self.leads { Ok(()) } else { Err(Error::Elsewhere { why: why.to_owned(), url: self.url.clone() }) }
    }

    /// Whether internal requests have to be signed.
    pub fn signs(&self) -> bool {
        self.protocol == Some(Protocol::Sessioned)
    }

    /// Where a connector that does not run here is to be restarted: the leader knows its worker, others know the leader.
    pub fn of_connector(&self, name: &str) -> Error {
        self.elsewhere("connector", |load| load.connectors.contains(name))
    }

    /// The same for a task.
    pub fn of_task(&self, id: &TaskId) -> Error {
        self.elsewhere("task", |load| load.tasks.contains(id))
    }

    fn elsewhere(&self, what: &str, holds: impl Fn(&Load) -> bool) -> Error {
        let why = format!("Cannot restart {what} since it is not assigned to this member");
        match self.check("Only the leader can process restart requests.") {
            Ok(()) => Error::Elsewhere { why, url: self.owners.find(holds) },
            Err(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_go_to_the_leader_and_from_there_to_the_owner() {
        let load = Load { connectors: ["c".into()].into(), tasks: [TaskId::new("c", 1)].into() };
        let owners = Owners::new(vec![("http://a/".into(), Load::default()), ("http://b/".into(), load)]);
        let mut group = Leadership { leads: true, url: Some("http://a/".into()), protocol: None, owners };
        let url = |error: Error| match error {
            Error::Elsewhere { url, .. } => url,
            other => panic!("{other}"),
        };
        assert_eq!(url(group.of_connector("c")).as_deref(), Some("http://b/"));
        assert_eq!(url(group.of_task(&TaskId::new("c", 1))).as_deref(), Some("http://b/"));
        assert_eq!(url(group.of_task(&TaskId::new("c", 2))), None);
        group.leads = false;
        assert_eq!(url(group.of_connector("c")).as_deref(), Some("http://a/"));
        assert!(group.check("x").is_err());
    }
}

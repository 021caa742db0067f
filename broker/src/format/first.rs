//! Who the first voters of a quorum are, as an administrator says.

use std::collections::BTreeSet;

use aqueduct_protocol::ids::Uuid;

/// Who begins the quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstControllers {
    /// Nothing was said: right for brokers, and where `controller.quorum.voters` says it.
    Unsaid,
    /// Others: this node joins later.
    Join,
    /// This node alone; others join it.
    Standalone,
    Initial(Vec<InitialController>),
}

/// One of several that begin together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialController {
    pub id: i32,
    pub host: String,
    pub port: u16,
    /// The id that its metadata directory is formatted with.
    pub directory: Uuid,
}

/// Reads `ID@HOST:PORT:DIRECTORY_ID,...`.
///
/// # Errors
/// The first entry that is not what it should be, and what it should be.
pub fn initial_controllers(text: &str) -> Result<Vec<InitialController>, String> {
    let mut all = Vec::new();
    let (mut ids, mut directories) = (BTreeSet::new(), BTreeSet::new());
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let one = controller(entry).map_err(|why| format!("{entry}: {why}"))?;
        if !ids.insert(one.id) {
            return Err(format!("Node id {} was specified more than once.", one.id));
        }
        if !directories.insert(one.directory.0) {
            return Err(format!("{entry}: another node has the directory id {} already", one.directory));
        }
        all.push(one);
    }
    if all.is_empty() {
        return Err("No voters given.".to_owned());
    }
    Ok(all)
}

fn controller(entry: &str) -> Result<InitialController, &'static str> {
    const FORM: &str = "must look like ID@HOST:PORT:DIRECTORY_ID";
    let (id, rest) = entry.split_once('@').ok_or(FORM)?;
    let id =
        id.parse().ok().filter(|id| *id >= 0).ok_or("the node id before @ must be a number of 0 or more")?;
    let (place, directory) = rest.rsplit_once(':').ok_or(FORM)?;
    let (host, port) = place.rsplit_once(':').ok_or(FORM)?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').ok_or("the host begins with [ and does not end with ]")?,
        None => host,
    };
    if host.is_empty() || host.len() > 255 {
        return Err(FORM);
    }
    let port = port.parse().ok().filter(|port| *port > 0).ok_or("the port must be a number of 1 to 65535")?;
    let directory = Uuid::parse(directory)
        .filter(|id| !id.is_zero())
        .ok_or("the directory id must be 22 characters, as aqueduct storage random-uuid prints them")?;
    Ok(InitialController { id, host: host.to_owned(), port, directory })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_read() {
        let ids = ["4L6g3nShT-eMCtK--X86sw", "hOiM4hI347VI62C4IBlmcA"];
        let found = initial_controllers(&format!("1@a:9093:{},2@[::1]:9094:{}", ids[0], ids[1])).unwrap();
        let [first, second] = &found[..] else { panic!("{found:?}") };
        assert_eq!((first.id, &first.host[..], first.port), (1, "a", 9093));
        assert_eq!((second.id, &second.host[..], second.directory), (2, "::1", Uuid::parse(ids[1]).unwrap()));
        for (text, part) in [
            ("", "No voters"),
            ("a:9093", "ID@HOST:PORT:DIRECTORY_ID"),
            ("1@a:9093", "ID@HOST:PORT:DIRECTORY_ID"),
            ("-1@a:9093:x", "number of 0 or more"),
            ("1@a:x:4L6g3nShT-eMCtK--X86sw", "1 to 65535"),
            ("1@a:9093:bad", "random-uuid"),
            ("1@a:9093:AAAAAAAAAAAAAAAAAAAAAA", "random-uuid"),
            ("1@[a:9093:4L6g3nShT-eMCtK--X86sw", "does not end"),
            ("1@a:1:4L6g3nShT-eMCtK--X86sw,1@b:1:hOiM4hI347VI62C4IBlmcA", "more than once"),
            ("1@a:1:4L6g3nShT-eMCtK--X86sw,2@b:1:4L6g3nShT-eMCtK--X86sw", "another node"),
        ] {
            let error = initial_controllers(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

//! What a node is in its cluster: `process.roles`, `controller.quorum.*` and what belongs to them.

use std::collections::BTreeMap;
use std::time::Duration;

use aqueduct_protocol::ids::BrokerId;

use super::definition::{ConfigError, list};
use super::listeners::{Listener, Listeners, is_any};
use super::{Properties, broker_keys};

/// An address of a controller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

/// A node's part in a cluster of several nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    pub is_broker: bool,
    pub is_controller: bool,
    /// `aqueduct.cluster.id`: what empty directories are formatted for.
    pub cluster_id: Option<String>,
    /// `controller.quorum.voters`: the first members of the quorum. Empty where `bootstrap` says whom to ask.
    pub voters: BTreeMap<i32, Address>,
    /// `controller.quorum.bootstrap.servers`.
    pub bootstrap: Vec<Address>,
    /// `controller.quorum.auto.join.enable`: a controller gets itself a vote.
    pub auto_join: bool,
    /// The first of `controller.listener.names`, by which controllers are reached.
    pub controller_listener: Listener,
    /// Between two heartbeats of the broker.
    pub heartbeat_interval: Duration,
    pub session_timeout: Duration,
    /// How long a broker's registration may be turned down at the start.
    pub registration_timeout: Duration,
    /// A follower that has heard nothing for so long stands for election; `None` leaves it to the quorum.
    pub fetch_timeout: Option<Duration>,
    pub min_insync_replicas: usize,
    pub unclean_leader_election: bool,
    /// How long leaders are not the first of their replicas before that is mended; `None` for never.
    pub balance_interval: Option<Duration>,
}

impl ClusterSettings {
    /// Reads a node's part; `None` for a node that is a cluster by itself and needs no quorum.
    ///
    /// # Errors
    /// Roles without what they need.
    pub fn read(
        properties: &Properties,
        node_id: BrokerId,
        listeners: &Listeners,
    ) -> Result<Option<Self>, ConfigError> {
        Self::read_part(properties, node_id, listeners, false)
    }

    /// The same of a node whose directory was formatted for a quorum, which others can join: one by itself has a part too.
    ///
    /// # Errors
    /// As of [`Self::read`], and a configuration without a quorum.
    pub fn read_formatted(
        properties: &Properties,
        node_id: BrokerId,
        listeners: &Listeners,
    ) -> Result<Self, ConfigError> {
        Self::read_part(properties, node_id, listeners, true)?.ok_or_else(|| ConfigError::Missing {
            key: "controller.quorum.bootstrap.servers".into(),
            why: "the log directory was formatted for a quorum, which a node of process.roles finds by it"
                .into(),
        })
    }

    fn read_part(
        properties: &Properties,
        node_id: BrokerId,
        listeners: &Listeners,
        is_formatted: bool,
    ) -> Result<Option<Self>, ConfigError> {
        const VOTERS: &str = "controller.quorum.voters";
        const BOOTSTRAP: &str = "controller.quorum.bootstrap.servers";
        const CLUSTER_ID: &str = "aqueduct.cluster.id";
        const AUTO_JOIN: &str = "controller.quorum.auto.join.enable";
        const ROLES: &str = "process.roles";
        const NAMES: &str = "controller.listener.names";
        let text = |key: &str| properties.get(key).unwrap_or_default().trim();
        let roles = list(text(ROLES));
        let has = |role: &str| roles.contains(&role);
        let (voters, bootstrap) = (voters(VOTERS, text(VOTERS))?, servers(BOOTSTRAP, text(BOOTSTRAP))?);
        let missing = |key: &str, why: &str| ConfigError::Missing { key: key.into(), why: why.into() };
        if roles.is_empty() || voters.is_empty() && bootstrap.is_empty() {
            return match has("controller") && !has("broker") {
                true => Err(missing(VOTERS, "a controller needs the list of all: ID@HOST:PORT,...")),
                false => Ok(None),
            };
        }
        let (is_broker, is_controller) = (has("broker"), has("controller"));
        let is_self = |address: &Address| listeners.controllers.iter().any(|own| is_own(own, address));
        let alone = match voters.is_empty() {
            false => voters.keys().all(|id| *id == node_id.0),
            true => bootstrap.iter().all(is_self),
        };
        let auto_join = text(AUTO_JOIN).eq_ignore_ascii_case("true");
        if auto_join && !is_controller {
            let why = format!("{AUTO_JOIN} is only supported when {ROLES} contains the 'controller' role");
            return Err(ConfigError::Conflict(why));
        }
        if is_broker && is_controller && alone && !is_formatted {
            return Ok(None);
        }
        let name = list(text(NAMES)).first().map(|name| name.to_ascii_uppercase());
        let name = name.ok_or_else(|| missing(NAMES, "controllers are reached by the first of them"))?;
        let bound = listeners.controllers.iter().find(|listener| listener.name == name);
        if is_controller && bound.is_none() {
            let why = format!("must hold {name}://HOST:PORT, the first of {NAMES}");
            return Err(ConfigError::Invalid {
                key: "listeners".into(),
                value: text("listeners").into(),
                allowed: why,
            });
        }
        if !is_controller && let Some(bound) = listeners.controllers.first() {
            let why = format!("{bound} is a listener of controllers, which this node is not by {ROLES}");
            return Err(ConfigError::Conflict(why));
        }
        if is_controller && !voters.is_empty() && !voters.contains_key(&node_id.0) {
            let why = format!("must hold this node, {node_id}@HOST:PORT, as it is a controller");
            return Err(ConfigError::Invalid {
                key: VOTERS.into(),
                value: text(VOTERS).into(),
                allowed: why,
            });
        }
        if !is_controller && voters.contains_key(&node_id.0) {
            let why = format!("{VOTERS} holds node {node_id}, which is no controller by {ROLES}");
            return Err(ConfigError::Conflict(why));
        }
        let controller_listener = match bound {
            Some(bound) => bound.clone(),
            None => Listener { protocol: listeners.controller_protocol, ..Listener::unbound(&name) },
        };
        let number = |key: &str| {
            let default = broker_keys::find_known(key).and_then(|row| row.default);
            properties.get(key).or(default).and_then(|value| value.trim().parse::<u64>().ok())
        };
        let millis = |key: &str| Duration::from_millis(number(key).unwrap_or_default().max(1));
        let (heartbeat_interval, session_timeout) =
            (millis("broker.heartbeat.interval.ms"), millis("broker.session.timeout.ms"));
        if heartbeat_interval >= session_timeout {
            let why = "broker.heartbeat.interval.ms must be less than broker.session.timeout.ms";
            return Err(ConfigError::Conflict(why.into()));
        }
        let cluster_id = text(CLUSTER_ID);
        if cluster_id.len() > 64 || cluster_id.contains(|c: char| !c.is_ascii_graphic()) {
            return Err(invalid(CLUSTER_ID, cluster_id, "must be at most 64 letters, digits, - and _"));
        }
        let fetch_timeout = properties.get("controller.quorum.fetch.timeout.ms");
        Ok(Some(Self {
            is_broker,
            is_controller,
            cluster_id: (!cluster_id.is_empty()).then(|| cluster_id.to_owned()),
            voters,
            bootstrap,
            auto_join,
            controller_listener,
            heartbeat_interval,
            session_timeout,
            registration_timeout: millis("initial.broker.registration.timeout.ms"),
            fetch_timeout: fetch_timeout.map(|_| millis("controller.quorum.fetch.timeout.ms")),
            min_insync_replicas: number("min.insync.replicas").unwrap_or(1) as usize,
            unclean_leader_election: properties
                .get("unclean.leader.election.enable")
                .is_some_and(|value| value.trim().eq_ignore_ascii_case("true")),
            balance_interval: balance_interval(properties),
        }))
    }
}

fn balance_interval(properties: &Properties) -> Option<Duration> {
    let text = |key: &str| {
        let default = broker_keys::find_known(key).and_then(|row| row.default);
        properties.get(key).or(default).unwrap_or_default().trim()
    };
    let seconds = text("leader.imbalance.check.interval.seconds").parse().ok()?;
    let is_wanted = text("auto.leader.rebalance.enable").eq_ignore_ascii_case("true");
    is_wanted.then(|| Duration::from_secs(seconds))
}

/// Whether an address is that of a listener of this node.
fn is_own(own: &Listener, address: &Address) -> bool {
    let is_here = |host: &str| {
        host.eq_ignore_ascii_case("localhost")
            || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    };
    own.port == address.port
        && (own.host.eq_ignore_ascii_case(&address.host)
            || is_here(&address.host) && (is_here(&own.host) || is_any(&own.host)))
}

fn voters(key: &str, text: &str) -> Result<BTreeMap<i32, Address>, ConfigError> {
    let mut voters = BTreeMap::new();
    for entry in list(text) {
        let wrong = || invalid(key, entry, "must look like ID@HOST:PORT");
        let (id, place) = entry.split_once('@').ok_or_else(wrong)?;
        let id: i32 = id.trim().parse().ok().filter(|id| *id >= 0).ok_or_else(wrong)?;
        if voters.insert(id, address(place).ok_or_else(wrong)?).is_some() {
            return Err(invalid(key, entry, "names a node twice"));
        }
    }
    Ok(voters)
}

fn servers(key: &str, text: &str) -> Result<Vec<Address>, ConfigError> {
    list(text)
        .into_iter()
        .map(|entry| address(entry).ok_or_else(|| invalid(key, entry, "must look like HOST:PORT")))
        .collect()
}

fn address(text: &str) -> Option<Address> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty()).then(|| Address { host: host.to_owned(), port })
}

fn invalid(key: &str, value: &str, allowed: &str) -> ConfigError {
    ConfigError::Invalid { key: key.into(), value: value.into(), allowed: allowed.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<ClusterSettings>, String> {
        let mut properties = Properties::default();
        properties.set("node.id", "1").set("log.dirs", "/d");
        for (key, value) in pairs {
            properties.set(key, value);
        }
        Settings::read(properties).map(|settings| settings.cluster).map_err(|error| error.to_string())
    }

    const BOTH: (&str, &str) = ("process.roles", "broker,controller");
    const NAMES: (&str, &str) = ("controller.listener.names", "CONTROLLER");
    const LISTENERS: (&str, &str) = ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093");

    #[test]
    fn a_node_by_itself_needs_no_quorum() {
        assert_eq!(read(&[BOTH]), Ok(None));
        assert_eq!(read(&[("controller.quorum.voters", "1@h:1,2@h:2")]), Ok(None), "without roles");
        for quorum in [
            ("controller.quorum.voters", "1@h:9093"),
            ("controller.quorum.bootstrap.servers", "localhost:9093"),
        ] {
            assert_eq!(read(&[BOTH, NAMES, LISTENERS, quorum]), Ok(None));
        }
    }

    #[test]
    fn members_are_read() {
        let voters = ("controller.quorum.voters", "1@a:9093, 2@[::1]:9093,3@c:9093");
        let found = read(&[BOTH, NAMES, LISTENERS, voters]).unwrap().unwrap();
        assert!(found.is_broker && found.is_controller && found.fetch_timeout.is_none());
        assert_eq!(found.voters[&2], Address { host: "::1".into(), port: 9093 });
        assert_eq!(found.controller_listener.to_string(), "CONTROLLER://:9093");
        assert_eq!(found.session_timeout, Duration::from_secs(9));
        let broker = [
            ("process.roles", "broker"),
            NAMES,
            ("controller.quorum.bootstrap.servers", "a:9093,b:9093"),
            ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:SSL"),
        ];
        let found = read(&broker).unwrap().unwrap();
        assert_eq!((found.bootstrap.len(), found.is_controller), (2, false));
        assert!(found.controller_listener.protocol.is_tls() && !found.auto_join);
        let controller =
            [("process.roles", "controller"), NAMES, ("listeners", "CONTROLLER://:9093"), voters];
        assert!(!read(&controller).unwrap().unwrap().is_broker);
    }

    #[test]
    fn mistakes_say_what_to_change() {
        let voters = ("controller.quorum.voters", "1@a:9093,2@b:9093");
        let bootstrap = ("controller.quorum.bootstrap.servers", "a:9093");
        for (pairs, part) in [
            (&[BOTH, voters][..], "controller.listener.names"),
            (&[BOTH, NAMES, voters], "CONTROLLER://HOST:PORT"),
            (&[BOTH, NAMES, LISTENERS, ("controller.quorum.voters", "2@b:1,3@c:1")], "1@HOST:PORT"),
            (&[("process.roles", "broker"), NAMES, LISTENERS, voters], "listener of controllers"),
            (&[("process.roles", "broker"), NAMES, voters], "no controller"),
            (
                &[("process.roles", "controller"), NAMES, ("listeners", "CONTROLLER://:9093")],
                "controller.quorum.voters",
            ),
            (&[("process.roles", "controller")], "controller.listener.names"),
            (
                &[("process.roles", "broker"), bootstrap, ("controller.quorum.auto.join.enable", "true")],
                "'controller' role",
            ),
            (&[BOTH, ("controller.quorum.voters", "a:9093")], "ID@HOST:PORT"),
            (&[BOTH, ("controller.quorum.voters", "1@a:1,1@b:1")], "twice"),
            (&[BOTH, ("controller.quorum.bootstrap.servers", "a")], "HOST:PORT"),
            (&[BOTH, NAMES, LISTENERS, voters, ("broker.session.timeout.ms", "2000")], "must be less"),
        ] {
            let error = read(pairs).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}

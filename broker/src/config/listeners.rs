//! Where the broker listens and what it tells clients: `listeners`, `advertised.listeners` and what belongs to them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs as _};

pub use aqueduct_security::SecurityProtocol;

use super::definition::{ConfigError, list};
use super::{Properties, broker_keys};

/// Where to listen, or what to tell clients: `NAME://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// In capitals, as Kafka compares them.
    pub name: String,
    pub protocol: SecurityProtocol,
    /// Empty stands for every address of the machine.
    pub host: String,
    pub port: u16,
}

impl Listener {
    /// A listener of another node, of which only the name is known.
    pub fn unbound(name: &str) -> Self {
        Self { name: name.to_owned(), protocol: SecurityProtocol::Plaintext, host: String::new(), port: 0 }
    }

    /// The same as others are told of it: with a host that they can use.
    pub fn reachable(&self) -> Self {
        let host = if is_any(&self.host) { host_name() } else { self.host.clone() };
        Self { host, ..self.clone() }
    }

    /// What stands before the keys that are set for this listener alone.
    pub fn prefix(&self) -> String {
        format!("listener.name.{}.", self.name.to_ascii_lowercase())
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, host, port, .. } = self;
        match host.contains(':') {
            true => write!(f, "{name}://[{host}]:{port}"),
            false => write!(f, "{name}://{host}:{port}"),
        }
    }
}

/// All listeners of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listeners {
    /// Those for clients and other brokers, in the order of the file; those of the controller are left out.
    pub bound: Vec<Listener>,
    /// What clients are told; the port is 0 where the bound port is to be told. May lack some of `bound`.
    pub advertised: Vec<Listener>,
    /// Name of the one that brokers use among themselves, and what it speaks.
    pub inter_broker: String,
    pub inter_broker_protocol: SecurityProtocol,
    /// Those of the controller, in the order of the file. Opened by members of a quorum only.
    pub controllers: Vec<Listener>,
    /// What other nodes are told of those, where `advertised.listeners` names them.
    pub advertised_controllers: Vec<Listener>,
    /// What the listeners of controllers speak, wherever they are: that of the first name.
    pub controller_protocol: SecurityProtocol,
}

impl Listeners {
    /// Reads all keys about listeners.
    ///
    /// # Errors
    /// Malformed addresses, names that occur twice or have no security protocol, an advertised listener that is not
    /// there, a host that clients cannot use.
    pub fn read(properties: &Properties) -> Result<Self, ConfigError> {
        let reader = Reader(properties);
        let (bound, controllers) = reader.bound()?;
        let advertised = reader.advertised(&bound)?;
        let inter_broker = reader.inter_broker(&advertised)?;
        let controller_protocol = match reader.controllers().first() {
            Some(name) => reader.controller_protocol(name)?,
            None => SecurityProtocol::Plaintext,
        };
        let inter_broker_protocol = reader.protocol(&inter_broker)?.unwrap_or(SecurityProtocol::Plaintext);
        let advertised_controllers = reader.advertised_controllers(&controllers)?;
        Ok(Self {
            bound,
            advertised,
            inter_broker,
            inter_broker_protocol,
            controllers,
            advertised_controllers,
            controller_protocol,
        })
    }

    /// Where other nodes reach a listener of controllers; with port 0 only once it is bound.
    pub fn of_controller(&self, listener: &Listener) -> Listener {
        let told = self.advertised_controllers.iter().find(|told| told.name == listener.name);
        told.cloned().unwrap_or_else(|| listener.reachable())
    }
}

/// Reads `max.connections.per.ip.overrides`: `HOST:LIMIT` with commas between them. Names are looked up now.
pub(super) fn per_ip_overrides(text: &str) -> Result<BTreeMap<IpAddr, usize>, ConfigError> {
    const KEY: &str = "max.connections.per.ip.overrides";
    let mut found = BTreeMap::new();
    for entry in list(text) {
        let shape = || invalid(KEY, entry, "must look like HOST:LIMIT".into());
        let (host, limit) = entry.rsplit_once(':').ok_or_else(shape)?;
        let limit = limit.trim().parse().map_err(|_| shape())?;
        let host = host.trim().trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = host.parse::<IpAddr>() {
            found.insert(ip.to_canonical(), limit);
            continue;
        }
        let addresses = (host, 0).to_socket_addrs();
        let addresses =
            addresses.map_err(|error| invalid(KEY, entry, format!("host is not known: {error}")))?;
        found.extend(addresses.map(|address| (address.ip().to_canonical(), limit)));
    }
    Ok(found)
}

struct Reader<'a>(&'a Properties);

impl Reader<'_> {
    fn text(&self, name: &str) -> String {
        let default = broker_keys::find_known(name).and_then(|key| key.default);
        self.0.get(name).or(default).unwrap_or_default().trim().to_owned()
    }

    fn controllers(&self) -> Vec<String> {
        list(self.0.get("controller.listener.names").unwrap_or_default())
            .iter()
            .map(|name| name.to_ascii_uppercase())
            .collect()
    }

    /// Whether this node serves clients, as one without roles does.
    fn is_broker(&self) -> bool {
        self.0.get("process.roles").is_none_or(|roles| list(roles).contains(&"broker"))
    }

    /// Kafka gives listeners of controllers PLAINTEXT where nothing is said of them.
    fn controller_protocol(&self, name: &str) -> Result<SecurityProtocol, ConfigError> {
        Ok(self.protocol(name)?.unwrap_or(SecurityProtocol::Plaintext))
    }

    /// Those for clients, and those of the controller.
    fn bound(&self) -> Result<(Vec<Listener>, Vec<Listener>), ConfigError> {
        let text = self.text("listeners");
        let names = self.controllers();
        let mut controllers: Vec<Listener> = Vec::new();
        let mut bound: Vec<Listener> = Vec::new();
        for entry in list(&text) {
            let (name, host, port) = split(entry).map_err(|why| invalid("listeners", entry, why))?;
            if names.contains(&name) {
                let protocol = self.controller_protocol(&name)?;
                controllers.push(Listener { name, protocol, host, port });
                continue;
            }
            let protocol = self.protocol(&name)?.ok_or_else(|| {
                let why =
                    format!("add {name}:PLAINTEXT, or what it speaks, to listener.security.protocol.map");
                invalid("listeners", entry, why)
            })?;
            let listener = Listener { name, protocol, host, port };
            if bound.iter().any(|other| other.name == listener.name) {
                return Err(invalid("listeners", &text, format!("names {} twice", listener.name)));
            }
            if let Some(other) = bound.iter().find(|other| clash(other, &listener)) {
                let why = format!("{} and {} have the same port", other.name, listener.name);
                return Err(invalid("listeners", &text, why));
            }
            bound.push(listener);
        }
        if bound.is_empty() && (self.is_broker() || controllers.is_empty()) {
            return Err(invalid("listeners", &text, "must name a listener for clients".into()));
        }
        if let Some(first) = bound.first().filter(|_| !self.is_broker()) {
            let why =
                format!("{} is not among controller.listener.names, and the node is no broker", first.name);
            return Err(invalid("listeners", &text, why));
        }
        Ok((bound, controllers))
    }

    fn protocol(&self, name: &str) -> Result<Option<SecurityProtocol>, ConfigError> {
        const KEY: &str = "listener.security.protocol.map";
        let map = self.text(KEY);
        for entry in list(&map) {
            let shape = || invalid(KEY, entry, "must look like NAME:PROTOCOL".into());
            let (listener, protocol) = entry.split_once(':').ok_or_else(shape)?;
            if !listener.trim().eq_ignore_ascii_case(name) {
                continue;
            }
            let known = SecurityProtocol::parse(protocol);
            let why = "the protocol must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL";
            return known.map(Some).ok_or_else(|| invalid(KEY, entry, why.into()));
        }
        Ok(None)
    }

    fn advertised_controllers(&self, controllers: &[Listener]) -> Result<Vec<Listener>, ConfigError> {
        const KEY: &str = "advertised.listeners";
        let mut advertised = Vec::new();
        for entry in list(self.0.get(KEY).unwrap_or_default()) {
            let (name, host, port) = split(entry).map_err(|why| invalid(KEY, entry, why))?;
            let bound = controllers.iter().find(|listener| listener.name == name);
            if let Some(bound) = bound.filter(|_| !is_any(&host)) {
                advertised.push(Listener { host, port, ..bound.clone() });
            }
        }
        Ok(advertised)
    }

    fn advertised(&self, bound: &[Listener]) -> Result<Vec<Listener>, ConfigError> {
        const KEY: &str = "advertised.listeners";
        let Some(text) = self.0.get(KEY) else {
            return Ok(bound.iter().map(Listener::reachable).collect());
        };
        let controllers = self.controllers();
        let mut advertised: Vec<Listener> = Vec::new();
        for entry in list(text) {
            let (name, host, port) = split(entry).map_err(|why| invalid(KEY, entry, why))?;
            if controllers.contains(&name) {
                continue;
            }
            let Some(listener) = bound.iter().find(|listener| listener.name == name) else {
                let names: Vec<&str> = bound.iter().map(|listener| listener.name.as_str()).collect();
                return Err(invalid(KEY, entry, format!("listeners has only {}", names.join(", "))));
            };
            if is_any(&host) {
                return Err(invalid(KEY, entry, "must name a host that clients can reach".into()));
            }
            if advertised.iter().any(|other| other.name == name) {
                return Err(invalid(KEY, text, format!("names {name} twice")));
            }
            advertised.push(Listener { name, protocol: listener.protocol, host, port });
        }
        if advertised.is_empty() && !bound.is_empty() {
            return Err(invalid(KEY, text, "must hold an entry for a listener of listeners".into()));
        }
        Ok(advertised)
    }

    /// Kafka takes PLAINTEXT where nothing is said, even if there is no such listener; the first one serves as well.
    fn inter_broker(&self, advertised: &[Listener]) -> Result<String, ConfigError> {
        const KEY: &str = "inter.broker.listener.name";
        if advertised.is_empty() {
            // A controller, which sends to brokers that follow the quorum by this listener of theirs.
            let named = self.0.get(KEY).or_else(|| self.0.get("security.inter.broker.protocol"));
            return Ok(named.map_or("PLAINTEXT", str::trim).to_ascii_uppercase());
        }
        let protocol = self.0.get("security.inter.broker.protocol").map(str::trim);
        let named = |name: &str| advertised.iter().find(|listener| listener.name.eq_ignore_ascii_case(name));
        let wanted = match (self.0.get(KEY).map(str::trim), protocol) {
            (Some(_), Some(_)) => {
                let why = format!("{KEY} and security.inter.broker.protocol exclude each other: remove one");
                return Err(ConfigError::Conflict(why));
            }
            (None, None) => {
                let found = named("PLAINTEXT").unwrap_or(&advertised[0]);
                return Ok(found.name.clone());
            }
            (Some(name), None) => (KEY, name),
            (None, Some(name)) => ("security.inter.broker.protocol", name),
        };
        let (key, name) = wanted;
        named(name).map(|listener| listener.name.clone()).ok_or_else(|| {
            let names: Vec<&str> = advertised.iter().map(|listener| listener.name.as_str()).collect();
            invalid(key, name, format!("must be an advertised listener: {}", names.join(", ")))
        })
    }
}

fn invalid(key: &str, value: &str, allowed: String) -> ConfigError {
    ConfigError::Invalid { key: key.into(), value: value.into(), allowed }
}

/// An address of IPv4 and one of IPv6 may share a port.
fn clash(a: &Listener, b: &Listener) -> bool {
    let v6 = |host: &str| host.parse::<Ipv6Addr>().is_ok();
    a.port != 0
        && a.port == b.port
        && v6(&a.host) == v6(&b.host)
        && (a.host == b.host || is_any(&a.host) || is_any(&b.host))
}

pub(super) fn is_any(host: &str) -> bool {
    matches!(host, "" | "0.0.0.0" | "::")
}

fn split(entry: &str) -> Result<(String, String, u16), String> {
    let shape = || "must look like PLAINTEXT://HOST:PORT".to_owned();
    let (name, address) = entry.split_once("://").ok_or_else(shape)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(shape)?;
    let port = port.parse().map_err(|error| format!("port {port}: {error}"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if name.is_empty() {
        return Err(shape());
    }
    Ok((name.to_ascii_uppercase(), host.to_owned(), port))
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Listeners, ConfigError> {
        let mut properties = Properties::default();
        for (key, value) in pairs {
            properties.set(key, value);
        }
        Listeners::read(&properties)
    }

    #[test]
    fn several_listeners_each_have_a_protocol_and_an_advertised_address() {
        let found = read(&[
            ("listeners", "INTERNAL://:9092,external://0.0.0.0:9093,CONTROLLER://:9094,V6://[::1]:9095"),
            ("controller.listener.names", "CONTROLLER"),
            (
                "listener.security.protocol.map",
                "INTERNAL:PLAINTEXT,EXTERNAL:sasl_ssl,V6:SSL,CONTROLLER:PLAINTEXT",
            ),
            ("advertised.listeners", "INTERNAL://b.internal:9092,EXTERNAL://broker.example:443"),
            ("inter.broker.listener.name", "internal"),
        ])
        .unwrap();
        let bound: Vec<String> = found.bound.iter().map(ToString::to_string).collect();
        assert_eq!(bound, ["INTERNAL://:9092", "EXTERNAL://0.0.0.0:9093", "V6://[::1]:9095"]);
        assert_eq!(found.bound[1].protocol, SecurityProtocol::SaslSsl);
        assert_eq!(found.bound[1].prefix(), "listener.name.external.");
        let told: Vec<String> = found.advertised.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["INTERNAL://b.internal:9092", "EXTERNAL://broker.example:443"]);
        assert_eq!(found.inter_broker, "INTERNAL");
    }

    #[test]
    fn mistakes_are_named() {
        let map = ("listener.security.protocol.map", "A:PLAINTEXT,B:SSL,C:TLS");
        let message = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().copied().chain([map]).collect();
            read(&pairs).unwrap_err().to_string()
        };
        for (pairs, part) in [
            (&[("listeners", "A://h:port")][..], "port port"),
            (&[("listeners", "D://h:1")], "add D:PLAINTEXT"),
            (&[("listeners", "C://h:1")], "SASL_SSL"),
            (&[("listeners", "A://h:1,a://h:2")], "A twice"),
            (&[("listeners", "A://h:1,B://h:1")], "same port"),
            (&[("listeners", "A://h:1"), ("advertised.listeners", "B://h:2")], "has only A"),
            (&[("listeners", "A://h:1"), ("advertised.listeners", "A://0.0.0.0:2")], "can reach"),
            (&[("listeners", "A://h:1"), ("inter.broker.listener.name", "B")], "advertised listener: A"),
            (&[("listeners", "A://h:1"), ("controller.listener.names", "A")], "for clients"),
        ] {
            assert!(message(pairs).contains(part), "{}", message(pairs));
        }
    }

    #[test]
    fn addresses_with_their_own_limits_are_read() {
        let found = per_ip_overrides("10.0.0.1:5, [::1]:7,localhost:9").unwrap();
        assert_eq!(found[&IpAddr::from([10, 0, 0, 1])], 5);
        assert_eq!(found[&IpAddr::from([127, 0, 0, 1])], 9);
        assert!(per_ip_overrides("10.0.0.1").is_err() && per_ip_overrides("10.0.0.1:x").is_err());
    }
}

//! Connections out of this node: secured with the settings of the listener that they go to, which are read anew when they
//! or the files behind them change. Connections that are there go on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aqueduct_client::{ClientConfig, Connection, Lane, Pool};
use aqueduct_protocol::ids::BrokerId;
use parking_lot::Mutex;

use super::PeerError;
use crate::config::{Listener, LiveSettings, Settings, broker_keys};
use crate::security::ListenerSettings;

/// For a connection, the handshakes included.
const CONNECT_TIMEOUT_MS: &str = "5000";
/// Longest pause between two attempts to connect: whoever waits for a node that comes back waits no longer.
const LONGEST_PAUSE_MS: &str = "250";
/// Between two looks at the files of keys and certificates.
const FILE_CHECK: Duration = Duration::from_secs(1);

/// What the connections are for: the key that names the mechanism of SASL differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Broker,
    Controller,
}

impl Purpose {
    fn mechanism_key(self) -> &'static str {
        match self {
            Self::Broker => "sasl.mechanism.inter.broker.protocol",
            Self::Controller => "sasl.mechanism.controller.protocol",
        }
    }
}

/// Makes connections to one kind of listener, one to a node and lane.
pub(crate) struct Dialer {
    live: Arc<LiveSettings>,
    /// Its name and protocol; the addresses are the callers'.
    listener: Listener,
    purpose: Purpose,
    current: Mutex<Option<Current>>,
}

/// Connections with the settings of one moment.
struct Current {
    settings: Arc<Settings>,
    stamps: Vec<(PathBuf, Stamp)>,
    checked: Instant,
    config: Arc<ClientConfig>,
    pool: Arc<Pool>,
}

/// What changes with the content of a file.
type Stamp = Option<(SystemTime, u64)>;

impl Dialer {
    pub fn new(live: Arc<LiveSettings>, listener: Listener, purpose: Purpose) -> Self {
        Self { live, listener, purpose, current: Mutex::default() }
    }

    /// The connection to a node on a lane, made where there is none.
    pub async fn connection(&self, lane: Lane, to: BrokerId, address: &str) -> Result<Connection, PeerError> {
        let pool = self.pool()?;
        Ok(pool.connection(lane, to, address).await?)
    }

    /// A connection that nobody shares.
    pub async fn dedicated(&self, address: &str) -> Result<Connection, PeerError> {
        let config = self.with_current(|current| current.config.clone())?;
        Ok(Connection::open(address.to_owned(), config).await?)
    }

    /// The connections, with settings and files as they are now.
    pub fn pool(&self) -> Result<Arc<Pool>, PeerError> {
        self.with_current(|current| current.pool.clone())
    }

    fn with_current<T>(&self, take: impl FnOnce(&Current) -> T) -> Result<T, PeerError> {
        let mut slot = self.current.lock();
        let settings = self.live.current();
        if let Some(current) = &mut *slot {
            let due = current.checked.elapsed() >= FILE_CHECK;
            if due {
                current.checked = Instant::now();
            }
            let same = Arc::ptr_eq(&current.settings, &settings)
                && !(due && current.stamps.iter().any(|(path, stamp)| *stamp != look_at(path)));
            if same {
                return Ok(take(current));
            }
        }
        match self.read(settings) {
            Ok(read) => Ok(take(slot.insert(read))),
            Err(why) => match &*slot {
                // Half written files, perhaps: those before go on until they can be used.
                Some(current) => {
                    tracing::error!(
                        listener = self.listener.name,
                        why,
                        "changed settings for connections to other nodes cannot be used; those before stay in force"
                    );
                    Ok(take(current))
                }
                None => Err(PeerError::Settings { listener: self.listener.name.clone(), why }),
            },
        }
    }

    fn read(&self, settings: Arc<Settings>) -> Result<Current, String> {
        let properties = self.properties(&settings);
        let files = properties.iter().filter(|(key, _)| key.ends_with("store.location"));
        let stamps = files.map(|(_, path)| (PathBuf::from(path), look_at(path.as_ref()))).collect();
        let (config, _) = ClientConfig::from_properties(properties).map_err(|error| error.to_string())?;
        let config = Arc::new(config);
        let pool = Arc::new(Pool::new(config.clone()));
        Ok(Current { settings, stamps, checked: Instant::now(), config, pool })
    }

    /// What a client of the listener would be configured with.
    fn properties(&self, settings: &Settings) -> Vec<(String, String)> {
        let view = ListenerSettings::new(settings, &self.listener);
        let mut properties: Vec<(String, String)> = Vec::new();
        let mut set = |key: &str, value: &str| properties.push((key.to_owned(), value.to_owned()));
        // Never used: each caller says where to.
        set("bootstrap.servers", "localhost:1");
        set("client.id", &format!("broker-{}", settings.node_id));
        set("socket.connection.setup.timeout.ms", CONNECT_TIMEOUT_MS);
        set("reconnect.backoff.max.ms", LONGEST_PAUSE_MS);
        let protocol = self.listener.protocol;
        set("security.protocol", &protocol.to_string());
        if protocol.is_tls() {
            let keys = ClientConfig::known_keys().filter(|key| key.starts_with("ssl."));
            for key in keys {
                if let Some((_, value)) = view.find(key) {
                    set(key, value);
                }
            }
        }
        if protocol.is_sasl() {
            let key = self.purpose.mechanism_key();
            let default = broker_keys::find_known(key).and_then(|row| row.default).unwrap_or_default();
            let mechanism = settings.in_force.get(key).unwrap_or(default).trim().to_owned();
            set("sasl.mechanism", &mechanism);
            let keys = ClientConfig::known_keys().filter(|key| key.starts_with("sasl."));
            for key in keys.filter(|key| *key != "sasl.mechanism") {
                if let Some((_, value)) = view.find_for(&mechanism, key) {
                    set(key, value);
                }
            }
        }
        properties
    }
}

fn look_at(path: &std::path::Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// `HOST:PORT`, an address of IPv6 in brackets.
pub(crate) fn address(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Properties;

    fn dialer(pairs: &[(&str, &str)]) -> Dialer {
        let mut file = Properties::default();
        file.set("node.id", "1").set("listeners", "SASL_SSL://127.0.0.1:0");
        for (key, value) in pairs {
            file.set(key, value);
        }
        let settings = Arc::new(Settings::read(file).unwrap());
        let listener = settings.listeners.bound[0].clone();
        Dialer::new(Arc::new(LiveSettings::new(settings)), listener, Purpose::Broker)
    }

    #[test]
    fn a_listeners_own_settings_count_for_its_clients() {
        let dialer = dialer(&[
            ("ssl.truststore.location", "/all.jks"),
            ("listener.name.sasl_ssl.ssl.truststore.location", "/own.jks"),
            ("sasl.mechanism.inter.broker.protocol", "PLAIN"),
            ("listener.name.sasl_ssl.plain.sasl.jaas.config", "own"),
            ("sasl.jaas.config", "all"),
        ]);
        let properties = dialer.properties(&dialer.live.current());
        let get =
            |key: &str| properties.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        assert_eq!(get("security.protocol"), Some("SASL_SSL"));
        assert_eq!(get("ssl.truststore.location"), Some("/own.jks"));
        assert_eq!((get("sasl.mechanism"), get("sasl.jaas.config")), (Some("PLAIN"), Some("own")));
    }

    #[test]
    fn what_no_connection_can_be_made_with_is_named() {
        let error = dialer(&[]).pool().unwrap_err().to_string();
        assert!(error.starts_with("listener SASL_SSL") && error.contains("GSSAPI"), "{error}");
        assert_eq!((address("h", 1), address("::1", 2)), ("h:1".into(), "[::1]:2".into()));
    }
}

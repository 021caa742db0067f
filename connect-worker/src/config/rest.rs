//! Where the REST API listens, what secures it, and by which address others reach it.

use std::fmt;
use std::net::SocketAddr;

use aqueduct_connect_api::ConfigMap;
use aqueduct_connect_api::config::ConfigValue;

use super::WorkerConfig;
use crate::error::{Error, Result};

/// The one extension of the REST API that is built in.
pub const BASIC_AUTH: &str =
    "org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension";

/// The file with the login modules, named as the JVM's system property.
pub const LOGIN_CONFIG: &str = "java.security.auth.login.config";

/// How a listener is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            _ => None,
        }
    }

    /// As it is written in URLs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// An address of `listeners` or `admin.listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub scheme: Scheme,
    /// Empty for every address of the machine; no brackets around IPv6.
    pub host: String,
    /// 0 for any that is free.
    pub port: u16,
}

impl Listener {
    /// Reads `http://HOST:PORT` or `https://HOST:PORT`.
    ///
    /// # Errors
    /// Why it is neither.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let wrong = || {
            format!(
                "{text} is neither http://HOST:PORT nor https://HOST:PORT; leave HOST out to listen everywhere"
            )
        };
        let (scheme, address) = text.trim().split_once("://").ok_or_else(wrong)?;
        let scheme = Scheme::parse(scheme).ok_or_else(wrong)?;
        let (host, port) = address.trim_end_matches('/').rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
            None => host,
        };
        if host.contains(['/', '[', ']', '@', ' ']) {
            return Err(wrong());
        }
        Ok(Self { scheme, host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.name(), bracketed(&self.host), self.port)
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Where the paths below `/admin` are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminListeners {
    /// On `listeners`, with everything else.
    Shared,
    /// Nowhere.
    Off,
    /// On these alone.
    Own(Vec<Listener>),
}

/// By which address other workers and clients reach a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    pub scheme: Scheme,
    pub host: String,
    pub port: u16,
}

/// Host and port of a listener that speaks plain HTTP.
impl From<(&str, u16)> for Advertised {
    fn from((host, port): (&str, u16)) -> Self {
        Self { scheme: Scheme::Http, host: host.to_owned(), port }
    }
}

impl Advertised {
    /// The URL that the group's members know, with a slash at its end.
    pub fn url(&self) -> String {
        format!("{}://{}/", self.scheme.name(), self.worker_id())
    }

    /// `host:port`, the worker's name in statuses.
    pub fn worker_id(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }
}

impl WorkerConfig {
    /// Where REST listens.
    pub fn listeners(&self) -> Vec<Listener> {
        self.listed("listeners")
    }

    fn listed(&self, key: &str) -> Vec<Listener> {
        let listed = self.config.list(key);
        listed.iter().filter_map(|listener| Listener::parse(listener).ok()).collect()
    }

    /// Where the admin part of REST is served.
    pub fn admin_listeners(&self) -> AdminListeners {
        match self.originals().get("admin.listeners") {
            None => AdminListeners::Shared,
            Some(_) => match self.listed("admin.listeners") {
                none if none.is_empty() => AdminListeners::Off,
                own => AdminListeners::Own(own),
            },
        }
    }

    /// Whether REST asks for names and passwords.
    pub fn has_basic_auth(&self) -> bool {
        self.config.list("rest.extension.classes").iter().any(|class| class == BASIC_AUTH)
    }

    /// The `ssl.*` settings of listeners: those below `prefix` (`listeners.https.`, `admin.listeners.https.`) where there is
    /// any, else the worker's own. The client of forwarded requests has those of `listeners.https.`.
    pub fn rest_ssl_settings(&self, prefix: &str) -> ConfigMap {
        let own = self.config.originals_with_prefix(prefix);
        if !own.is_empty() {
            return own;
        }
        let ssl = |(key, _): &(&String, &String)| key.starts_with("ssl.");
        self.originals().iter().filter(ssl).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// How others reach this worker's REST API, given where `listeners` are bound, in their order.
    pub fn advertised(&self, bound: &[SocketAddr]) -> Advertised {
        let listeners = self.listeners();
        let first = |scheme| listeners.iter().position(|listener| listener.scheme == scheme);
        let scheme =
            self.config.string("rest.advertised.listener").and_then(Scheme::parse).unwrap_or_else(|| {
                if first(Scheme::Http).is_none() && first(Scheme::Https).is_some() {
                    Scheme::Https
                } else {
                    Scheme::Http
                }
            });
        // A proxy may speak the advertised protocol before a listener that does not.
        let used = first(scheme).unwrap_or(0);
        let configured = listeners.get(used).map(|listener| listener.host.as_str()).unwrap_or_default();
        let bound = bound.get(used);
        let named = self.config.string("rest.advertised.host.name").filter(|host| !host.trim().is_empty());
        let host = match (named, bound) {
            (Some(host), _) => host.trim().to_owned(),
            (None, _) if !matches!(configured, "" | "0.0.0.0" | "::") => configured.to_owned(),
            (None, Some(bound)) if !bound.ip().is_unspecified() => bound.ip().to_string(),
            (None, _) => local_host_name(),
        };
        let port = self
            .config
            .integer("rest.advertised.port")
            .and_then(|port| u16::try_from(port).ok())
            .or(bound.map(SocketAddr::port))
            .unwrap_or_default();
        Advertised { scheme, host, port }
    }

    /// Refuses REST settings that would be passed over otherwise.
    pub(super) fn check_rest(&self) -> Result<()> {
        let refuse = |key: &str, value: &str, why: &str| Err(Error::invalid(format!("{key}={value}: {why}")));
        for class in self.config.list("rest.extension.classes") {
            if class != BASIC_AUTH {
                let why = format!(
                    "this extension of the REST API is not there, and one that guards it would be missed; {BASIC_AUTH} is, and \
                     ssl.client.auth=required on an https listener asks for certificates"
                );
                return refuse("rest.extension.classes", class, &why);
            }
        }
        if self.has_basic_auth() && !self.originals().contains_key(LOGIN_CONFIG) {
            let why = format!(
                "needs {LOGIN_CONFIG}: the file whose entry KafkaConnect names a PropertyFileLoginModule and its file of users"
            );
            return refuse("rest.extension.classes", BASIC_AUTH, &why);
        }
        let advertised = self.config.string("rest.advertised.listener").unwrap_or("http");
        if Scheme::parse(advertised).is_none() {
            return refuse("rest.advertised.listener", advertised, "it has to be http or https");
        }
        if let Some(port) = self.config.integer("rest.advertised.port")
            && !(0..=i64::from(u16::MAX)).contains(&port)
        {
            return refuse("rest.advertised.port", &port.to_string(), "it has to be from 0 to 65535");
        }
        Ok(())
    }
}

/// Checks each item of a list of listeners.
pub(super) fn listeners_rule(value: &ConfigValue) -> std::result::Result<(), String> {
    match value {
        ConfigValue::List(items) => items
            .iter()
            .filter(|item| !item.trim().is_empty())
            .try_for_each(|item| Listener::parse(item).map(drop)),
        _ => Ok(()),
    }
}

fn local_host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;

    fn config(more: &[(&str, &str)]) -> Result<WorkerConfig> {
        let base = [("key.converter", "K"), ("value.converter", "V"), ("offset.storage.file.filename", "f")];
        let settings = base.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        WorkerConfig::from_properties(&settings, Mode::Standalone)
    }

    #[test]
    fn listeners_are_read_as_kafka_writes_them() {
        let read = |text: &str| Listener::parse(text).map(|listener| listener.to_string());
        for (text, shown) in [
            ("http://:8083", "http://:8083"),
            ("HTTPS://host.example:8443/", "https://host.example:8443"),
            ("https://[::1]:0", "https://[::1]:0"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(shown));
        }
        for text in [
            "8083",
            "ftp://:1",
            "http://host",
            "http://host:x",
            "http://host:70000",
            "http://a/b:1",
            "http://[::1:1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn admin_listeners_are_shared_off_or_apart() {
        let admin = |settings: &[(&str, &str)]| config(settings).expect("valid").admin_listeners();
        assert_eq!(admin(&[]), AdminListeners::Shared);
        assert_eq!(admin(&[("admin.listeners", " ")]), AdminListeners::Off);
        let own = Listener { scheme: Scheme::Https, host: "a".to_owned(), port: 1 };
        assert_eq!(admin(&[("admin.listeners", "https://a:1")]), AdminListeners::Own(vec![own]));
        assert!(config(&[("admin.listeners", "https://a")]).is_err());
    }

    #[test]
    fn the_advertised_address_follows_its_settings() {
        let bound: [SocketAddr; 2] =
            ["127.0.0.1:1000".parse().expect("address"), "0.0.0.0:2000".parse().expect("address")];
        let listeners = ("listeners", "https://127.0.0.1:1000,http://:2000");
        let advertised = |more: &[(&str, &str)]| {
            let all: Vec<_> = std::iter::once(listeners).chain(more.iter().copied()).collect();
            config(&all).expect("valid").advertised(&bound).url()
        };
        assert_eq!(advertised(&[]), format!("http://{}:2000/", local_host_name()));
        assert_eq!(advertised(&[("rest.advertised.listener", "HTTPS")]), "https://127.0.0.1:1000/");
        let all = [
            ("rest.advertised.host.name", "::1"),
            ("rest.advertised.port", "7"),
            ("rest.advertised.listener", "https"),
        ];
        assert_eq!(advertised(&all), "https://[::1]:7/");
        assert!(config(&[("rest.advertised.listener", "ftp")]).is_err());
        assert!(config(&[("rest.advertised.port", "70000")]).is_err());
    }

    #[test]
    fn tls_settings_below_a_prefix_replace_the_general_ones() {
        let general = [("ssl.keystore.location", "a"), ("ssl.client.auth", "required")];
        let read = config(&general).expect("valid").rest_ssl_settings("listeners.https.");
        assert_eq!(read.get("ssl.client.auth").map(String::as_str), Some("required"));
        let own = [general[0], general[1], ("listeners.https.ssl.keystore.location", "b")];
        let read = config(&own).expect("valid").rest_ssl_settings("listeners.https.");
        assert_eq!(read.get("ssl.keystore.location").map(String::as_str), Some("b"));
        assert_eq!(read.get("ssl.client.auth"), None);
    }

    #[test]
    fn unknown_extensions_and_lacking_login_files_are_refused() {
        let error = config(&[("rest.extension.classes", "a.B")]).expect_err("unknown");
        assert!(error.to_string().contains("rest.extension.classes=a.B"), "{error}");
        let error = config(&[("rest.extension.classes", BASIC_AUTH)]).expect_err("no file");
        assert!(error.to_string().contains(LOGIN_CONFIG), "{error}");
        let with_file = [("rest.extension.classes", BASIC_AUTH), (LOGIN_CONFIG, "/etc/jaas.conf")];
        let read = config(&with_file).expect("valid");
        assert!(read.has_basic_auth() && read.unknown_keys().is_empty());
    }
}

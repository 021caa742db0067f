//! The key set of an issuer, from a file or over HTTP; read anew when it is old or a token names a key that it lacks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_security::Error;
use aqueduct_security::jwt::KeySet;
use arc_swap::ArcSwap;
use tokio::sync::Mutex;

const KEY: &str = "sasl.oauthbearer.jwks.endpoint.url";
/// An issuer that does not answer must not hold up clients for longer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No key set is larger.
const MAX_BYTES: usize = 1 << 20;
/// Tokens with keys of their own invention do not make us ask more often.
const MIN_INTERVAL_MS: i64 = 5_000;

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JwksOptions {
    pub location: String,
    pub refresh_ms: i64,
    pub retry_ms: i64,
}

/// Keys and when they were asked for.
#[derive(Debug)]
pub(super) struct Jwks {
    pub options: JwksOptions,
    place: Place,
    keys: ArcSwap<KeySet>,
    /// When they were last asked for; 0 for never. Held while they are.
    asked_ms: Mutex<i64>,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Http(reqwest::Client),
}

impl Jwks {
    /// Reads a file at once; what is on the network is asked for when the first token comes.
    pub fn open(options: JwksOptions) -> Result<Self, Error> {
        let location = options.location.as_str();
        let wrong = |why: String| Error::setting(KEY, format!("{location}: {why}"));
        if let Some(path) = location.strip_prefix("file:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            let text =
                std::fs::read_to_string(&path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
            let keys = KeySet::parse(&text).map_err(wrong)?;
            return Ok(Self::new(options, Place::File(path), keys));
        }
        if !location.starts_with("https://") && !location.starts_with("http://") {
            return Err(wrong("must begin with https:// or file://".into()));
        }
        let client = reqwest::Client::builder().timeout(TIMEOUT).build();
        let client = client.map_err(|error| wrong(error.to_string()))?;
        Ok(Self::new(options, Place::Http(client), KeySet::default()))
    }

    fn new(options: JwksOptions, place: Place, keys: KeySet) -> Self {
        Self { options, place, keys: ArcSwap::from_pointee(keys), asked_ms: Mutex::new(0) }
    }

    /// The keys, with the one of that id if there is such a one at all.
    pub async fn keys(&self, id: Option<&str>, now_ms: i64) -> Arc<KeySet> {
        let mut asked_ms = self.asked_ms.lock().await;
        let keys = self.keys.load_full();
        let age = now_ms - *asked_ms;
        let old = *asked_ms == 0 || age >= self.options.refresh_ms.max(1);
        let lacking = !keys.has(id) && age >= MIN_INTERVAL_MS.max(self.options.retry_ms);
        if !old && !lacking {
            return keys;
        }
        *asked_ms = now_ms.max(1);
        match self.fetch().await {
            Ok(next) => {
                let next = Arc::new(next);
                self.keys.store(next.clone());
                next
            }
            Err(why) => {
                tracing::error!(location = self.options.location, reason = why, "key set could not be read");
                keys
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let text = match &self.place {
            Place::File(path) => tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())?,
            Place::Http(client) => {
                let answer = client.get(&self.options.location).send().await;
                let mut answer =
                    answer.and_then(|answer| answer.error_for_status()).map_err(|error| error.to_string())?;
                let mut body = Vec::new();
                while let Some(chunk) = answer.chunk().await.map_err(|error| error.to_string())? {
                    body.extend_from_slice(&chunk);
                    if body.len() > MAX_BYTES {
                        return Err(format!("is larger than {MAX_BYTES} bytes"));
                    }
                }
                String::from_utf8(body).map_err(|_| "is not UTF-8".to_owned())?
            }
        };
        KeySet::parse(&text)
    }
}

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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn keys(id: &str) -> String {
        format!(r#"{{"keys":[{{"kty":"RSA","kid":"{id}","n":"AQAB","e":"AQAB"}}]}}"#)
    }

    #[tokio::test]
    async fn keys_are_asked_for_when_they_are_old_or_one_lacks_but_not_all_the_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let location = format!("http://{}/keys", listener.local_addr().unwrap());
        let issuer = tokio::spawn(async move {
            for body in [keys("a"), keys("b"), "garbage".to_owned()] {
                let (mut socket, _) = listener.accept().await.unwrap();
                let _ = socket.read(&mut [0; 4096]).await.unwrap();
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                socket.write_all((head + &body).as_bytes()).await.unwrap();
            }
        });
        let jwks = Jwks::open(JwksOptions { location, refresh_ms: 60_000, retry_ms: 100 }).unwrap();
        let has = async |id: &str, now_ms: i64| jwks.keys(Some(id), now_ms).await.has(Some(id));
        assert!(has("a", 1_000).await, "the first time");
        assert!(!has("b", 2_000).await, "too soon to ask again");
        assert!(has("b", 7_000).await, "a key was lacking");
        assert!(has("b", 70_000).await, "what cannot be read leaves the keys as they are");
        issuer.await.unwrap();
    }

    #[test]
    fn places_are_checked_at_the_start() {
        let open = |location: &str| {
            Jwks::open(JwksOptions { location: location.into(), refresh_ms: 1, retry_ms: 1 }).map(drop)
        };
        assert!(open("file:///no/such/file").unwrap_err().to_string().contains("cannot be read"));
        assert!(open("ftp://x").unwrap_err().to_string().contains("https://"));
    }
}

//! Where OAUTHBEARER tokens come from: a file, an endpoint that gives them for client credentials, or nothing but the
//! settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aqueduct_security::jaas::Jaas;
use aqueduct_security::{Error, Secret, jwt, oauth};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

/// An endpoint that does not answer is given up then.
const TIMEOUT: Duration = Duration::from_secs(20);
/// No answer with a token is larger.
const MAX_BYTES: usize = 1 << 20;
const LIFE_OF_UNSECURED_S: u64 = 3600;

/// Gives tokens, each as long as it lasts.
#[derive(Debug)]
pub(crate) struct Tokens {
    source: Source,
    extensions: BTreeMap<String, String>,
    /// The last one and when to get the next, in milliseconds since 1970.
    held: Mutex<Option<(Secret, i64)>>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Endpoint {
        url: String,
        id: String,
        secret: Secret,
        scope: Option<String>,
    },
    /// Claims of a token without a signature.
    Unsecured(Map<String, Value>),
}

impl Tokens {
    /// Reads the settings; `get` gives the value of a key.
    pub fn read<'a>(jaas: Option<&Jaas>, get: &dyn Fn(&str) -> Option<&'a str>) -> Result<Self, Error> {
        const URL: &str = "sasl.oauthbearer.token.endpoint.url";
        let option =
            |name: &str| jaas.and_then(|jaas| jaas.option(name)).map(|value| value.expose().to_owned());
        let extension = |(name, value): (&str, &Secret)| {
            let name =
                name.strip_prefix("extension_").or_else(|| name.strip_prefix("unsecuredLoginExtension_"))?;
            Some((name.to_owned(), value.expose().to_owned()))
        };
        let extensions = jaas.into_iter().flat_map(Jaas::options).filter_map(extension).collect();
        let source = match get(URL) {
            Some(url) if url.starts_with("file:") => {
                let path = url.trim_start_matches("file:");
                Source::File(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
            }
            Some(url) if url.starts_with("https://") || url.starts_with("http://") => {
                let of = |key: &str, name: &str| get(key).map(str::to_owned).or_else(|| option(name));
                let need = |key: &str, name: &str| {
                    let why = format!("must be set for {URL}, or {name} in sasl.jaas.config");
                    of(key, name).ok_or_else(|| Error::setting(key, why))
                };
                Source::Endpoint {
                    url: url.to_owned(),
                    id: need("sasl.oauthbearer.client.credentials.client.id", "clientId")?,
                    secret: Secret::new(need("sasl.oauthbearer.client.credentials.client.secret", "clientSecret")?),
                    scope: of("sasl.oauthbearer.scope", "scope"),
                }
            }
            Some(url) => return Err(Error::setting(URL, format!("{url}: must begin with https:// or file://"))),
            None => Source::Unsecured(unsecured(jaas).ok_or_else(|| {
                let why = "must be set where sasl.mechanism is OAUTHBEARER: https://... with client credentials, or \
                           file:///... of a file with a token";
                Error::setting(URL, why)
            })?),
        };
        Ok(Self { source, extensions, held: Mutex::default() })
    }

    /// The first message of an exchange, with a token that still lasts.
    pub async fn message(&self) -> Result<Vec<u8>, String> {
        let now_ms = now_ms();
        let mut held = self.held.lock().await;
        if let Some((token, until_ms)) = &*held
            && now_ms < *until_ms
        {
            return Ok(oauth::message(token, &self.extensions));
        }
        let token = self.fetch().await?;
        let message = oauth::message(&token, &self.extensions);
        // Java gets the next one when four fifths of the time have passed.
        let until_ms =
            jwt::expiry_ms(token.expose()).map_or(now_ms, |expires| now_ms + (expires - now_ms) / 5 * 4);
        *held = Some((token, until_ms));
        Ok(message)
    }

    async fn fetch(&self) -> Result<Secret, String> {
        match &self.source {
            Source::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|error| format!("token file {}: {error}", path.display()))?;
                Ok(Secret::new(text.trim()))
            }
            Source::Endpoint { url, id, secret, scope } => ask(url, id, secret, scope.as_deref())
                .await
                .map_err(|why| format!("token endpoint {url}: {why}")),
            Source::Unsecured(claims) => {
                let mut claims = claims.clone();
                let now_s = now_ms() as u64 / 1000;
                claims.entry("iat").or_insert_with(|| now_s.into());
                claims.entry("exp").or_insert_with(|| (now_s + LIFE_OF_UNSECURED_S).into());
                Ok(Secret::new(jwt::unsecured(&claims)))
            }
        }
    }
}

async fn ask(url: &str, id: &str, secret: &Secret, scope: Option<&str>) -> Result<Secret, String> {
    let told = |error: reqwest::Error| error.without_url().to_string();
    let client = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(told)?;
    let mut form = vec![("grant_type", "client_credentials")];
    form.extend(scope.map(|scope| ("scope", scope)));
    let request = client.post(url).basic_auth(id, Some(secret.expose())).form(&form);
    let mut answer = request.send().await.map_err(told)?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("answers {status}: check the client id and secret"));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(told)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BYTES {
            return Err("the answer is too large".into());
        }
    }
    let value: Value = serde_json::from_slice(&body).map_err(|_| "the answer is not JSON".to_owned())?;
    let token = ["access_token", "id_token"].iter().find_map(|name| value.get(name)?.as_str());
    token.map(Secret::new).ok_or_else(|| "the answer holds no access_token".to_owned())
}

/// The claims that options such as `unsecuredLoginStringClaim_sub` name; `None` where there is none.
fn unsecured(jaas: Option<&Jaas>) -> Option<Map<String, Value>> {
    let mut claims = Map::new();
    for (name, value) in jaas?.options() {
        if let Some(claim) = name.strip_prefix("unsecuredLoginStringClaim_") {
            claims.insert(claim.to_owned(), value.expose().into());
        } else if let Some(claim) = name.strip_prefix("unsecuredLoginNumberClaim_") {
            claims.insert(claim.to_owned(), value.expose().parse::<i64>().ok()?.into());
        } else if let Some(claim) = name.strip_prefix("unsecuredLoginListClaim_") {
            // The first character is the separator.
            let text = value.expose();
            let separator = text.chars().next()?;
            claims.insert(claim.to_owned(), text[separator.len_utf8()..].split(separator).collect());
        }
    }
    (!claims.is_empty()).then_some(claims)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn tokens_come_for_client_credentials_and_are_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let issuer = tokio::spawn(async move {
            let mut asked = Vec::new();
            for (status, body) in [("401 No", "{}"), ("200 OK", "PLACE")] {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let mut read = 0;
                while !request[..read].ends_with(b"scope=write") {
                    read += socket.read(&mut request[read..]).await.unwrap();
                }
                asked.push(String::from_utf8_lossy(&request[..read]).into_owned());
                let claims = Map::from_iter([("exp".to_owned(), (now_ms() / 1000 + 600).into())]);
                let token = serde_json::json!({"access_token": jwt::unsecured(&claims)}).to_string();
                let body = body.replace("PLACE", &token);
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        let jaas = "a.OAuthBearerLoginModule required clientId=\"me\" clientSecret=\"geheim\" scope=\"write\" extension_x=\"1\";";
        let jaas = Jaas::parse("sasl.jaas.config", jaas).unwrap();
        let get = |key: &str| (key == "sasl.oauthbearer.token.endpoint.url").then_some(url.as_str());
        let tokens = Tokens::read(Some(&jaas), &get).unwrap();
        let refused = tokens.message().await.unwrap_err();
        assert!(refused.contains("401") && !refused.contains("geheim"), "{refused}");
        let first = tokens.message().await.unwrap();
        assert!(String::from_utf8_lossy(&first).contains("\u{1}x=1\u{1}"));
        assert_eq!(tokens.message().await.unwrap(), first, "it still lasts");
        let asked = issuer.await.unwrap();
        // The name and secret in the form of basic authentication.
        assert!(asked[1].to_ascii_lowercase().contains("authorization: basic bwu6z2vozwlt"), "{}", asked[1]);
        assert!(asked[1].contains("grant_type=client_credentials&scope=write"), "{}", asked[1]);
    }

    #[tokio::test]
    async fn tokens_without_a_signature_are_made_of_options() {
        let jaas = "a.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"me\" unsecuredLoginListClaim_scope=\"|a|b\";";
        let jaas = Jaas::parse("sasl.jaas.config", jaas).unwrap();
        let tokens = Tokens::read(Some(&jaas), &|_| None).unwrap();
        let message = tokens.message().await.unwrap();
        let token = oauth::parse(&message).unwrap().token;
        let token = jwt::Token::parse(token.expose()).unwrap();
        let identity = token.check(&jwt::Rules::default(), now_ms()).unwrap();
        assert!(token.is_unsecured() && identity.subject == "me" && identity.scopes.len() == 2);
    }
}

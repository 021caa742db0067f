//! Names and passwords before the API is used (`BasicAuthSecurityRestExtension`): the entry `KafkaConnect` of a login
//! configuration names a `PropertyFileLoginModule`, and that a file of `user=password` lines.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aqueduct_connect_worker::parse_properties;
use aqueduct_security::Secret;
use aqueduct_security::jaas::Jaas;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

const ENTRY: &str = "KafkaConnect";
const MODULE: &str = "PropertyFileLoginModule";

/// Who may use the API.
#[derive(Debug)]
pub struct Users(BTreeMap<String, Secret>);

impl Users {
    /// Reads the login configuration at `path` and the file of users that it names.
    ///
    /// # Errors
    /// What is missing or cannot be read; never a password.
    pub fn load(path: &Path) -> Result<Self, String> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .map_err(|error| format!("{}: cannot be read: {error}", path.display()))
        };
        let wrong = |why: String| format!("{}: {why}", path.display());
        let entry = entry(&read(path)?, ENTRY).map_err(wrong)?;
        let jaas = Jaas::parse(ENTRY, &entry).map_err(|error| wrong(error.to_string()))?;
        if jaas.module_name() != MODULE {
            return Err(wrong(format!(
                "the login module of {ENTRY} has to be {MODULE}, others are not there"
            )));
        }
        let file =
            jaas.option("file").ok_or_else(|| wrong(format!("{MODULE} needs the option file=\"PATH\"")))?;
        let users = parse_properties(&read(Path::new(file.expose()))?)
            .map_err(|error| format!("{}: {error}", file.expose()))?;
        if users.is_empty() {
            tracing::warn!(
                file = file.expose(),
                "the file of users is empty: everybody may use the REST API"
            );
        }
        Ok(Self(users.into_iter().map(|(name, password)| (name, Secret::new(password))).collect()))
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let given =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(credentials);
        given.is_some_and(|(name, password)| {
            self.0.get(&name).is_some_and(|known| known.matches(password.expose()))
        })
    }
}

/// The body of an entry of a login configuration: its modules.
fn entry(text: &str, name: &str) -> Result<String, String> {
    let text = without_comments(text);
    let missing = || format!("there is no entry {name} {{ ... }};");
    let mut rest = text.as_str();
    loop {
        let start = rest.find(name).ok_or_else(missing)?;
        let before = rest[..start].chars().next_back();
        rest = &rest[start + name.len()..];
        let is_word = before.is_none_or(|c| c.is_whitespace() || c == ';');
        if let Some(body) = rest.trim_start().strip_prefix('{').filter(|_| is_word) {
            let mut quoted = false;
            let end = body.find(|c: char| {
                quoted ^= c == '"';
                c == '}' && !quoted
            });
            return end
                .map(|end| body[..end].trim().to_owned())
                .ok_or_else(|| format!("the entry {name} is not closed"));
        }
    }
}

/// Comments are `// ...`, `# ...` and `/* ... */`, outside of quotes.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut quoted = false;
    while let Some(c) = rest.chars().next() {
        quoted ^= c == '"';
        if !quoted && (rest.starts_with("//") || c == '#') {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if !quoted && rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

fn credentials(header: &str) -> Option<(String, Secret)> {
    let (method, encoded) = header.split_once(' ')?;
    if !method.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':').filter(|(name, _)| !name.is_empty())?;
    Some((name.to_owned(), Secret::new(password)))
}

/// What workers ask of each other is signed and needs no name.
fn is_internal(method: &Method, path: &str) -> bool {
    let mut parts = path.trim_matches('/').split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("connectors"), Some(_), Some("tasks"), None) => *method == Method::POST,
        (Some("connectors"), Some(_), Some("fence"), None) => *method == Method::PUT,
        _ => false,
    }
}

/// Lets in whom `users` knows.
pub async fn guard(State(users): State<Arc<Users>>, request: Request, next: Next) -> Response {
    if is_internal(request.method(), request.uri().path()) || users.admits(request.headers()) {
        return next.run(request).await;
    }
    // The same bare text, which the reference labels as what the method would have answered.
    let kind = if *request.method() == Method::OPTIONS { "text/plain" } else { "application/json" };
    (StatusCode::UNAUTHORIZED, [(header::CONTENT_TYPE, kind)], "User cannot access the resource.")
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JAAS: &str = "/* Kafka { */\nOther { a.B required x=\"}\"; };\n// KafkaConnect { no }\nKafkaConnect {\n  \
        org.apache.kafka.connect.rest.basic.auth.extension.PropertyFileLoginModule required\n  file=\"FILE\"; // end\n};\n";

    fn users(jaas: &str, file: &str) -> Result<Users, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let (config, list) = (dir.path().join("jaas.conf"), dir.path().join("users"));
        std::fs::write(&list, file).expect("written");
        std::fs::write(&config, jaas.replace("FILE", &list.to_string_lossy())).expect("written");
        Users::load(&config)
    }

    fn header(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, text.parse().expect("a value"))])
    }

    #[test]
    fn only_known_names_with_their_passwords_are_admitted() {
        let users = users(JAAS, "alice=se:cret\nbob=\n").expect("valid");
        let basic = |text: &str| header(&format!("Basic {}", BASE64_STANDARD.encode(text)));
        assert!(users.admits(&basic("alice:se:cret")));
        assert!(users.admits(&header(&format!("BASIC {}", BASE64_STANDARD.encode("alice:se:cret")))));
        for wrong in ["alice:", "alice:se", "carl:se:cret", ":x", "alice"] {
            assert!(!users.admits(&basic(wrong)), "{wrong}");
        }
        for wrong in ["Bearer x", "Basic", "Basic !!!", "x"] {
            assert!(!users.admits(&header(wrong)), "{wrong}");
        }
        assert!(!users.admits(&HeaderMap::new()));
        assert!(!format!("{users:?}").contains("cret"));
    }

    #[test]
    fn an_empty_file_admits_everybody_as_in_the_reference() {
        assert!(users(JAAS, "").expect("valid").admits(&HeaderMap::new()));
    }

    #[test]
    fn what_is_wrong_in_the_login_configuration_is_named() {
        for (jaas, part) in [
            ("Other { a.B required; };", "no entry KafkaConnect"),
            ("KafkaConnect { a.B required;", "not closed"),
            ("KafkaConnect { a.B required; };", "PropertyFileLoginModule"),
            ("KafkaConnect { a.PropertyFileLoginModule required; };", "file="),
            ("KafkaConnect { a.PropertyFileLoginModule required file=\"/nowhere/x\"; };", "/nowhere/x"),
        ] {
            let error = users(jaas, "").expect_err(jaas);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn requests_of_other_workers_need_no_name() {
        assert!(is_internal(&Method::POST, "/connectors/a/tasks"));
        assert!(is_internal(&Method::PUT, "/connectors/a/fence/"));
        for (method, path) in [
            (Method::GET, "/connectors/a/tasks"),
            (Method::POST, "/connectors/a/tasks/0/restart"),
            (Method::PUT, "/connectors/tasks"),
        ] {
            assert!(!is_internal(&method, path), "{path}");
        }
    }
}

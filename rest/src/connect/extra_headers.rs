//! Headers that the settings add to every answer (`response.http.headers.config`).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

const KEY: &str = "response.http.headers.config";

#[derive(Debug, PartialEq, Eq)]
enum Value {
    Text(HeaderValue),
    /// A moment this long after the answer.
    After(Duration),
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    /// Whether it takes the place of those of the same name.
    replaces: bool,
    name: HeaderName,
    value: Value,
}

/// What to add.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ExtraHeaders(Vec<Rule>);

impl ExtraHeaders {
    /// Reads `ACTION NAME:VALUE, ...`; an item with a comma stands in double quotes.
    ///
    /// # Errors
    /// The item that is wrong, and how it has to look.
    pub fn read(text: &str) -> Result<Self, String> {
        items(text).iter().map(|item| rule(item)).collect::<Result<_, _>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn apply(&self, headers: &mut HeaderMap, now: SystemTime) {
        for rule in &self.0 {
            let value = match &rule.value {
                Value::Text(value) => value.clone(),
                Value::After(span) => http_date(now + *span),
            };
            match rule.replaces {
                true => drop(headers.insert(rule.name.clone(), value)),
                false => drop(headers.append(rule.name.clone(), value)),
            }
        }
    }
}

/// Items between commas; quotes are taken away.
fn items(text: &str) -> Vec<String> {
    let (mut all, mut item, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut item)),
            c => item.push(c),
        }
    }
    all.push(item);
    all.into_iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

fn rule(item: &str) -> Result<Rule, String> {
    let wrong = |why: &str| {
        format!(
            "{KEY}: '{item}' {why}; it has to be ACTION NAME:VALUE, ACTION one of set, add, setDate, addDate"
        )
    };
    let (action, header) = item.split_once(char::is_whitespace).ok_or_else(|| wrong("has no header"))?;
    let (name, value) = header.split_once(':').ok_or_else(|| wrong("has no value"))?;
    let name = name.trim().parse().map_err(|_| wrong("has a name that no header can have"))?;
    let action = action.to_ascii_lowercase();
    let (replaces, is_date) = match action.as_str() {
        "set" => (true, false),
        "add" => (false, false),
        "setdate" => (true, true),
        "adddate" => (false, true),
        _ => return Err(wrong("has an unknown action")),
    };
    let value = value.trim();
    let value = match is_date {
        true => value
            .parse()
            .map(Duration::from_millis)
            .map(Value::After)
            .map_err(|_| wrong("has no number of milliseconds"))?,
        false => HeaderValue::from_str(value)
            .map(Value::Text)
            .map_err(|_| wrong("has a value that no header can have"))?,
    };
    Ok(Rule { replaces, name, value })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn http_date(at: SystemTime) -> HeaderValue {
    let shown = chrono::DateTime::<chrono::Utc>::from(at).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::from_str(&shown).expect("a date is a header's value")
}

/// Adds the headers to every answer.
pub async fn add(State(extra): State<Arc<ExtraHeaders>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    extra.apply(response.headers_mut(), SystemTime::now());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_set_added_and_dated() {
        let extra =
            ExtraHeaders::read("add X-One: 1, \"set Cache-Control:no-cache, no-store\",setDate Expires:1000")
                .expect("valid");
        let mut headers = HeaderMap::from_iter([
            (HeaderName::from_static("x-one"), HeaderValue::from_static("0")),
            (HeaderName::from_static("cache-control"), HeaderValue::from_static("public")),
        ]);
        extra.apply(&mut headers, SystemTime::UNIX_EPOCH);
        let all = |name: &str| -> Vec<_> {
            headers.get_all(name).iter().map(|v| v.to_str().expect("text")).collect()
        };
        assert_eq!(all("x-one"), ["0", "1"]);
        assert_eq!(all("cache-control"), ["no-cache, no-store"]);
        assert_eq!(all("expires"), ["Thu, 01 Jan 1970 00:00:01 GMT"]);
    }

    #[test]
    fn wrong_items_are_named() {
        for text in ["X-One:1", "remove X-One:1", "set X One:1", "set X-One", "setDate X-One:soon"] {
            assert!(ExtraHeaders::read(text).expect_err(text).contains(text), "{text}");
        }
        assert_eq!(ExtraHeaders::read(" "), Ok(ExtraHeaders::default()));
    }
}

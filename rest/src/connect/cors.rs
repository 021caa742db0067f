//! Calls by browsers from pages of other origins (`access.control.allow.origin`, `access.control.allow.methods`).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use regex::{Regex, RegexBuilder};

/// Seconds for which a browser may keep what it was told.
const MAX_AGE: HeaderValue = HeaderValue::from_static("60");

/// Which origins may call with which methods.
#[derive(Debug)]
pub struct Cors {
    /// `None` for any.
    origins: Option<Vec<Regex>>,
    methods: HeaderValue,
}

impl Cors {
    /// Reads the settings; `None` where no origin is allowed.
    ///
    /// # Errors
    /// The setting that is wrong.
    pub fn read(origins: &str, methods: &str) -> Result<Option<Self>, String> {
        let words = |text: &str| -> Vec<String> {
            text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let listed = words(origins);
        if listed.is_empty() {
            return Ok(None);
        }
        let pattern = |text: &String| {
            RegexBuilder::new(&format!("^(?:{text})$"))
                .case_insensitive(true)
                .build()
                .map_err(|error| format!("access.control.allow.origin={text}: {error}"))
        };
        let origins = match listed.iter().any(|origin| origin == "*") {
            true => None,
            false => Some(listed.iter().map(pattern).collect::<Result<_, _>>()?),
        };
        let methods = match words(methods) {
            none if none.is_empty() => "GET,POST,HEAD".to_owned(),
            listed => listed.join(","),
        };
        let methods = HeaderValue::from_str(&methods)
            .map_err(|error| format!("access.control.allow.methods={methods}: {error}"))?;
        Ok(Some(Self { origins, methods }))
    }

    /// The headers that an answer to such a request gets.
    fn headers(&self, method: &Method, request: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([(header::VARY, HeaderValue::from_static("Origin"))]);
        let Some(origin) = request.get(header::ORIGIN) else { return headers };
        let text = origin.to_str().unwrap_or_default();
        // A request of a page of our own is none from elsewhere.
        let allowed = match &self.origins {
            None => !text.is_empty(),
            Some(patterns) => patterns.iter().any(|pattern| pattern.is_match(text)),
        };
        if !allowed {
            return headers;
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if *method == Method::OPTIONS && request.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type"));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        }
        headers
    }
}

/// Adds the headers to every answer.
pub async fn share(State(cors): State<Arc<Cors>>, request: Request, next: Next) -> Response {
    let headers = cors.headers(request.method(), request.headers());
    let mut response = next.run(request).await;
    response.headers_mut().extend(headers);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cors: &Cors, method: Method, pairs: &[(&'static str, &'static str)]) -> Vec<String> {
        let request = pairs
            .iter()
            .map(|(name, value)| (axum::http::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let given = cors.headers(&method, &request);
        let mut shown: Vec<String> =
            given.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        shown.sort();
        shown
    }

    #[test]
    fn allowed_origins_are_told_so() {
        let cors =
            Cors::read("http://app.example, https://.*\\.corp", "GET, PUT").expect("valid").expect("on");
        let origin = ("origin", "http://APP.example");
        let told = headers(&cors, Method::GET, &[origin]);
        assert_eq!(told, ["access-control-allow-origin: http://APP.example", "vary: Origin"]);
        let asked = headers(
            &cors,
            Method::OPTIONS,
            &[("origin", "https://x.corp"), ("access-control-request-method", "PUT")],
        );
        assert_eq!(
            asked,
            [
                "access-control-allow-headers: Content-Type",
                "access-control-allow-methods: GET,PUT",
                "access-control-allow-origin: https://x.corp",
                "access-control-max-age: 60",
                "vary: Origin",
            ]
        );
        for other in [&[][..], &[("origin", "http://app.example.evil")], &[("origin", "null")]] {
            assert_eq!(headers(&cors, Method::GET, other), ["vary: Origin"]);
        }
    }

    #[test]
    fn any_origin_none_and_wrong_ones() {
        let any = Cors::read("*", "").expect("valid").expect("on");
        let asked = headers(
            &any,
            Method::OPTIONS,
            &[("origin", "http://z"), ("access-control-request-method", "PUT")],
        );
        assert!(asked.contains(&"access-control-allow-methods: GET,POST,HEAD".to_owned()), "{asked:?}");
        assert!(Cors::read(" , ", "").expect("valid").is_none());
        assert!(Cors::read("(", "").expect_err("no pattern").contains("access.control.allow.origin=("));
    }
}

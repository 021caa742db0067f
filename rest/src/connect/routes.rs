//! Paths with their methods: one value an endpoint, so that routing, `OPTIONS` and the API's description agree.

use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, options};

use super::ConnectApi;
use crate::error::ApiError;

/// A path, its methods and what handles them.
pub struct Endpoint {
    pub path: &'static str,
    pub methods: Vec<Method>,
    handlers: MethodRouter<ConnectApi>,
    negotiates: bool,
}

/// An endpoint that speaks JSON.
pub fn at(path: &'static str) -> Endpoint {
    Endpoint { path, methods: Vec::new(), handlers: MethodRouter::new(), negotiates: true }
}

macro_rules! methods {
    ($($name:ident $method:ident),*) => {
        impl Endpoint {
            $(pub fn $name<H: Handler<T, ConnectApi>, T: 'static>(mut self, handler: H) -> Self {
                self.methods.push(Method::$method);
                self.handlers = self.handlers.$name(handler);
                self
            })*
        }
    };
}
methods!(get GET, put PUT, post POST, patch PATCH, delete DELETE);

impl Endpoint {
    /// Whatever the request accepts, the answer is what it is.
    pub fn any_format(self) -> Self {
        Self { negotiates: false, ..self }
    }

    /// What `OPTIONS` answers.
    fn allowed(&self) -> String {
        let mut names: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.push("OPTIONS");
        names.join(",")
    }

    /// What handles the endpoint's methods, and `OPTIONS`; `guarded` puts a guard before handlers, where there is one. What
    /// a request speaks is looked at before who it comes from.
    pub fn into_handlers(
        self,
        guarded: impl Fn(MethodRouter<ConnectApi>) -> MethodRouter<ConnectApi>,
    ) -> MethodRouter<ConnectApi> {
        let allowed = self.allowed();
        let handlers = guarded(self.handlers);
        let handlers = match self.negotiates {
            true => handlers.route_layer(from_fn(negotiate)),
            false => handlers,
        };
        let shown = allowed.replace(',', ", ");
        let allow = HeaderValue::from_str(&allowed).expect("names of methods are a header's value");
        let answer = move || async move {
            ([(header::ALLOW, allow), (header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))], shown)
        };
        handlers.merge(guarded(options(answer)))
    }
}

/// Refuses bodies that are not JSON, and requests that do not take JSON for an answer.
async fn negotiate(request: Request, next: Next) -> Response {
    match acceptable(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn acceptable(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        let kind = headers.get(header::CONTENT_TYPE).map(|kind| essence(kind.to_str().unwrap_or_default()));
        let has_body = headers.contains_key(header::TRANSFER_ENCODING)
            || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
        match kind.as_deref() {
            Some("application/json") => {}
            None if !has_body => {}
            Some(kind) if !kind.contains('/') => {
                let why = "HTTP 400 Bad Request: the header Content-Type is not TYPE/SUBTYPE";
                return Err(ApiError::new(StatusCode::BAD_REQUEST, why));
            }
            _ => return Err(ApiError::bare(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
        }
    }
    let accepts = headers.get_all(header::ACCEPT);
    let takes_json = |value: &HeaderValue| {
        let ranges = value.to_str().unwrap_or_default().split(',');
        ranges.map(essence).any(|range| matches!(&*range, "*/*" | "application/*" | "application/json" | "*"))
    };
    if headers.contains_key(header::ACCEPT) && !accepts.iter().any(takes_json) {
        return Err(ApiError::bare(StatusCode::NOT_ACCEPTABLE));
    }
    Ok(())
}

/// A media type without its parameters.
fn essence(kind: &str) -> String {
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_taken_and_given() {
        let judge = |method: Method, pairs: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                let name: axum::http::HeaderName = name.parse().expect("a name");
                headers.append(name, value.parse().expect("a value"));
            }
            acceptable(&method, &headers).map_err(|error| error.status.as_u16())
        };
        let body = ("content-length", "2");
        for (method, headers, answer) in [
            (Method::PUT, vec![], Ok(())),
            (Method::PUT, vec![("content-type", "Application/JSON; charset=UTF-8"), body], Ok(())),
            (Method::PUT, vec![("content-type", "text/plain")], Err(415)),
            (Method::POST, vec![("content-type", "application/x-www-form-urlencoded"), body], Err(415)),
            (Method::POST, vec![body], Err(415)),
            (Method::POST, vec![("content-type", "nonsense"), body], Err(400)),
            (Method::GET, vec![("content-type", "text/plain")], Ok(())),
            (Method::GET, vec![("accept", "text/html, application/json;q=0.5")], Ok(())),
            (Method::GET, vec![("accept", "*/*;q=0.1")], Ok(())),
            (Method::GET, vec![("accept", "text/html"), ("accept", "application/*")], Ok(())),
            (Method::GET, vec![("accept", "text/html")], Err(406)),
            (Method::DELETE, vec![("accept", "garbage")], Err(406)),
        ] {
            assert_eq!(judge(method, &headers), answer, "{headers:?}");
        }
    }

    #[test]
    fn options_names_the_methods() {
        async fn nothing() {}
        assert_eq!(at("/a").get(nothing).post(nothing).allowed(), "GET,POST,HEAD,OPTIONS");
        assert_eq!(at("/a").put(nothing).allowed(), "PUT,OPTIONS");
    }
}

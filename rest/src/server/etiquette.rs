//! What every path and every answer of ours keeps to: paths that mean one thing, errors in one shape.

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::BODY_LIMIT;
use crate::error::ApiError;

/// Longest path and query that are taken.
const URI_LIMIT: usize = 8 << 10;

/// Refuses paths that may mean more than one thing, lets others end in a slash, and gives errors that come from the
/// machinery the one shape that errors have.
pub async fn keep(mut request: Request, next: Next) -> Response {
    match plain_path(request.uri()) {
        Err(error) => return error.into_response(),
        Ok(None) => {}
        Ok(Some(uri)) => *request.uri_mut() = uri,
    }
    shaped(next.run(request).await)
}

/// The path without what does not count, where that changes it.
fn plain_path(uri: &Uri) -> Result<Option<Uri>, ApiError> {
    let refuse =
        |why: &str| Err(ApiError::new(StatusCode::BAD_REQUEST, format!("HTTP 400 Bad Request: {why}")));
    if uri.path_and_query().is_some_and(|whole| whole.as_str().len() > URI_LIMIT) {
        return Err(ApiError::bare(StatusCode::URI_TOO_LONG));
    }
    let path = uri.path();
    if !path.starts_with('/') {
        // `OPTIONS *`
        return Ok(None);
    }
    if path.bytes().any(|b| b"\"<>[]^`{|}".contains(&b) || !b.is_ascii()) {
        return refuse("the path has a character that must be percent-encoded");
    }
    let mut segments = Vec::new();
    let mut depth = 0usize;
    for segment in path.trim_end_matches('/').split('/').skip(1) {
        // What follows a semicolon is a parameter of the segment, not a part of it.
        let name = segment.split(';').next().unwrap_or_default();
        if name.is_empty() {
            return refuse("the path has an empty segment");
        }
        let Some(bytes) = decoded(name) else {
            return refuse("the path has a percent sign without two hex digits");
        };
        let Ok(text) = String::from_utf8(bytes) else { return refuse("the path is not UTF-8") };
        if text.contains('\\') || text.chars().any(|c| c.is_ascii_control()) {
            return refuse("the path has a backslash or a control character");
        }
        if matches!(&*text, "." | "..") && name.contains('%') {
            return refuse("the path has an encoded . or .. segment");
        }
        depth = match name {
            "." | ".." if segment != name => return refuse("the path has a . or .. segment with parameters"),
            "." => depth,
            ".." => match depth.checked_sub(1) {
                Some(above) => above,
                None => return refuse("the path leaves the root"),
            },
            _ => depth + 1,
        };
        segments.push(name);
    }
    if path.len() > 1 && path.bytes().rev().take_while(|b| *b == b'/').count() > 1 || path.starts_with("//") {
        return refuse("the path has an empty segment");
    }
    let mut plain = format!("/{}", segments.join("/"));
    if plain == path {
        return Ok(None);
    }
    if let Some(query) = uri.query() {
        plain.push('?');
        plain.push_str(query);
    }
    plain.parse().map(Some).or_else(|_| refuse("the path cannot be read"))
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let [a, b, tail @ ..] = tail else { return None };
        let digit = |d: u8| char::from(d).to_digit(16);
        let (a, b) = digit(*a).zip(digit(*b))?;
        bytes.push(u8::try_from(a * 16 + b).ok()?);
        rest = tail;
    }
    Some(bytes)
}

/// Errors that no handler of ours made are plain text: they become JSON, with their headers.
fn shaped(response: Response) -> Response {
    let status = response.status();
    let is_text = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain; charset=utf-8"));
    if !(status.is_client_error() || status.is_server_error()) || !is_text {
        return response;
    }
    let error = match status {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(
            status,
            format!("HTTP 413 Request Entity Too Large: the body has more than {BODY_LIMIT} bytes"),
        ),
        status => ApiError::bare(status),
    };
    let mut made = error.into_response();
    for (name, value) in response.headers() {
        if !matches!(*name, header::CONTENT_TYPE | header::CONTENT_LENGTH) {
            made.headers_mut().append(name.clone(), HeaderValue::clone(value));
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_may_mean_two_things_are_refused() {
        for path in [
            "/connectors//status",
            "//connectors",
            "/connectors/%2e%2E",
            "/connectors/a%5Cb",
            "/connectors/%00",
            "/connectors/a%0ab/status",
            "/connectors/%zz",
            "/connectors/%f",
            "/connectors/%ff",
            "/connectors//",
            "/connectors/a|b",
            "/connectors/\"a\"",
            "/connectors/..;x/y",
            "/..",
            "/connectors/../../etc/passwd",
        ] {
            let error = plain_path(&path.parse().expect("a URI")).expect_err(path);
            assert_eq!(error.status, StatusCode::BAD_REQUEST, "{path}");
        }
        let long = format!("/connectors/{}", "a".repeat(9000));
        let error = plain_path(&long.parse().expect("a URI")).expect_err("long");
        assert_eq!(error.status, StatusCode::URI_TOO_LONG);
    }

    #[test]
    fn last_slashes_and_parameters_of_segments_do_not_count() {
        for (path, plain) in [
            ("/connectors/?a=b", "/connectors?a=b"),
            ("/connectors/x;v=1/status;w", "/connectors/x/status"),
            ("/connectors/%C3%A9%20/", "/connectors/%C3%A9%20"),
        ] {
            let read = plain_path(&path.parse().expect("a URI")).expect(path).expect("changed");
            assert_eq!(read.to_string(), plain);
        }
        for path in
            ["/", "/connectors", "/connectors/..", "/connectors/a/../../x", "/connectors/a%2Fb?x=%2F|"]
        {
            assert_eq!(plain_path(&path.parse().expect("a URI")), Ok(None), "{path}");
        }
    }
}

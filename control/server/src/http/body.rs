//! Reading bodies: bounded before anything else is looked at, then parsed with the field's path.

use std::time::Duration;

use actix_web::{HttpRequest, http::header, web::Payload};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use rap_proto::api::{Problem, ProblemCode};
use serde::de::DeserializeOwned;

/// How long a client may take to send its body.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The whole body, of at most `limit` bytes.
pub(crate) async fn read(
    request: &HttpRequest,
    payload: &mut Payload,
    limit: usize,
) -> Result<Bytes, Problem> {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let collect = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| malformed("the body broke off"))?;
            if body.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    tokio::time::timeout(BODY_TIMEOUT, collect)
        .await
        .unwrap_or_else(|_| Err(malformed("the body took too long").rule("body_timeout")))
}

/// Parses JSON; an absent body reads as an empty object.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let field = error.path().to_string();
        let problem = malformed(&describe(error.inner()));
        if field == "." { problem } else { problem.field(field) }
    });
    let value = parsed?;
    deserializer.end().map_err(|_| malformed("something follows the JSON value"))?;
    Ok(value)
}

/// The parser's words without the values that it quotes: one of them may be a secret.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match error.classify() {
        serde_json::error::Category::Data if text.starts_with("missing field") => {
            text.split(" at line").next().unwrap_or_default().to_owned()
        }
        serde_json::error::Category::Data => "a value is not of the expected form".to_owned(),
        _ => format!("not JSON (line {}, column {})", error.line(), error.column()),
    }
}

pub(crate) fn check_content_type(
    request: &HttpRequest,
    body: &[u8],
    expected: &str,
) -> Result<(), Problem> {
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let essence = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if body.is_empty() || essence.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Problem::new(ProblemCode::UnsupportedMediaType, format!("send {expected}")))
}

pub(crate) fn malformed(detail: &str) -> Problem {
    Problem::new(ProblemCode::MalformedRequest, detail)
}

fn too_large(limit: usize) -> Problem {
    Problem::new(ProblemCode::BodyTooLarge, format!("a body has at most {limit} bytes"))
        .rule("max_body_bytes")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rap_proto::api::{NewLogin, NewResource};

    use super::*;

    #[test]
    fn a_broken_field_is_named_and_its_value_is_not_repeated() {
        let body =
            br#"{"name":"ssh","kind":"ssh","pool":"p","target":{"host":"h","port":"canary"}}"#;
        let problem = parse::<NewResource>(body).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("target.port"));
        assert!(!format!("{problem:?}").contains("canary"));
        let missing = parse::<NewLogin>(br#"{"name":"root"}"#).unwrap_err();
        assert_eq!(&*missing.detail, "missing field `password`");
        assert!(parse::<NewLogin>(br#"{"name":"a","password":"b"} x"#).is_err());
    }
}

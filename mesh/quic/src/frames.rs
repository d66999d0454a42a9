//! Frames on a flow, as `rap_proto::wire` declares them.

use std::time::Duration;

use futures_util::FutureExt as _;
use rap_proto::{codec::DecodeError, wire};
use serde::{Serialize, de::DeserializeOwned};

use crate::pipe::{Inlet, Outlet, Short, Unsent};

/// How long a peer may take to send the first frame of a connection or stream.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an egress waits for a resource to be dialled.
pub const TARGET_DIAL_TIMEOUT: Duration = Duration::from_secs(12);
/// How long the answer to a channel's open may take: path, checks and the target's answer. More
/// than an egress takes, so that its reason is what the client learns.
pub const CHANNEL_REPLY_TIMEOUT: Duration = Duration::from_secs(19);

/// How long whoever asks for a flow that goes on may take to take the answer.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFrameError {
    #[error("the stream ended: {0:?}")]
    Stream(Short),
    #[error("not the expected message: {0}")]
    Malformed(#[from] DecodeError),
    #[error("no message came in time")]
    TimedOut,
}

pub(crate) async fn read_frame<T: DeserializeOwned>(
    stream: &mut Inlet,
) -> Result<T, ReadFrameError> {
    Ok(wire::unframe(&read_body(stream).await?)?)
}

async fn read_body(stream: &mut Inlet) -> Result<Vec<u8>, ReadFrameError> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(ReadFrameError::Stream)?;
    let mut body = vec![0; wire::frame_length(head)?];
    stream.read_exact(&mut body).await.map_err(ReadFrameError::Stream)?;
    Ok(body)
}

/// One of two messages, neither of which can be taken for the other.
#[derive(Debug)]
pub(crate) enum Either<A, B> {
    One(A),
    Other(B),
}

/// Reads one of two messages within `limit`. The error is that of the first.
pub(crate) async fn read_either_within<A: DeserializeOwned, B: DeserializeOwned>(
    stream: &mut Inlet,
    limit: Duration,
) -> Result<Either<A, B>, ReadFrameError> {
    let body = tokio::time::timeout(limit, read_body(stream)).await;
    let body = body.unwrap_or(Err(ReadFrameError::TimedOut))?;
    match wire::unframe(&body) {
        Ok(one) => Ok(Either::One(one)),
        Err(error) => wire::unframe(&body).map(Either::Other).map_err(|_| error.into()),
    }
}

/// The same, within `limit`.
pub(crate) async fn read_frame_within<T: DeserializeOwned>(
    stream: &mut Inlet,
    limit: Duration,
) -> Result<T, ReadFrameError> {
    match tokio::time::timeout(limit, read_frame(stream)).await {
        Ok(read) => read,
        Err(_) => Err(ReadFrameError::TimedOut),
    }
}

pub(crate) async fn write_frame<T: Serialize>(
    stream: &mut Outlet,
    message: &T,
) -> Result<(), Unsent> {
    stream.write_all(&wire::frame(message)).await
}

/// Says the last word on a stream. Whoever does not take it within [`HELLO_TIMEOUT`] goes without it. Says
/// whether it was taken.
pub(crate) async fn say_last<T: Serialize>(stream: &mut Outlet, message: &T) -> bool {
    let saying = async {
        let said = write_frame(stream, message).await.is_ok();
        if said {
            stream.finish().await;
        }
        said
    };
    tokio::time::timeout(HELLO_TIMEOUT, saying).await.unwrap_or(false)
}

/// The same, to somebody who is not waited for at all.
pub(crate) fn say_last_at_once<T: Serialize>(stream: &mut Outlet, message: &T) {
    if matches!(write_frame(stream, message).now_or_never(), Some(Ok(()))) {
        let _ = stream.finish().now_or_never();
    }
}

/// A trace context that is passed on must look like one (W3C Trace Context, section 3.2).
pub(crate) fn traceparent(text: Option<String>) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte) || byte == b'-';
    text.filter(|text| text.len() == 55 && text.bytes().all(allowed))
}

#[cfg(test)]
mod tests {
    use super::traceparent;

    #[test]
    fn only_a_trace_context_is_passed_on() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
        assert_eq!(traceparent(Some(good.clone())), Some(good.clone()));
        for bad in [good.to_uppercase(), format!("{good}0"), String::new(), good.replace('7', "\n")]
        {
            assert_eq!(traceparent(Some(bad)), None);
        }
    }
}

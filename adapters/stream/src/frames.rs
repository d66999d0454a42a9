//! Frames of the contract on a Unix stream.

use std::io;

use rap_adapter_contract::frame;
use rap_proto::codec::DecodeError;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the connection was lost: {0}")]
    Io(#[from] io::Error),
    #[error("a frame is malformed: {0}")]
    Malformed(#[from] DecodeError),
}

/// The next frame; `None` when the stream ended between two frames.
pub(crate) async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, ReadError> {
    let mut head = [0; 4];
    if stream.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[1..]).await?;
    let mut body = vec![0; frame::body_length(head)?];
    stream.read_exact(&mut body).await?;
    Ok(Some(frame::decode(&body)?))
}

pub(crate) async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> io::Result<()> {
    stream.write_all(&frame::encode(message)).await
}

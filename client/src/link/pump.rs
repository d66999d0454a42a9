//! Bytes between a local stream and a channel, each direction ending on its own.

use std::{io, time::Duration};

use rap_mesh::client::{BEST_WRITE, Channel, ChannelReader, ChannelWriter};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// How much is read at once.
const BUFFER_BYTES: usize = BEST_WRITE;

/// Passes bytes both ways until both directions ended. A local connection whose channel was cut
/// is reset, so that its program does not take what it has for the whole.
pub(crate) async fn pump(mut local: TcpStream, channel: Channel) -> io::Result<()> {
    let (mut writer, mut reader) = channel.split();
    let result = {
        let (mut from_local, mut to_local) = local.split();
        tokio::try_join!(
            copy_to_channel(&mut from_local, &mut writer),
            copy_from_channel(&mut reader, &mut to_local),
        )
    };
    match result {
        Ok(_) => Ok(()),
        Err(error) => {
            writer.abort();
            // Without the reset, the close below would look like an orderly end.
            let _ = rustix::net::sockopt::set_socket_linger(&local, Some(Duration::ZERO));
            Err(error)
        }
    }
}

/// Copies until the end of `from`, then ends the channel's way up.
async fn copy_to_channel(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut ChannelWriter,
) -> io::Result<()> {
    copy(from, to).await
}

async fn copy_from_channel(
    from: &mut ChannelReader,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    copy(from, to).await
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
        // What is written can otherwise wait for what comes next.
        to.flush().await?;
    }
}

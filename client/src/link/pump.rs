//! Bytes between a local stream and a channel, each direction ending on its own.

use std::{io, time::Duration};

use bytes::BytesMut;
use rap_mesh::client::{BEST_WRITE, Channel, ChannelReader, ChannelWriter};
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

/// How much is read at once.
const BUFFER_BYTES: usize = BEST_WRITE;
/// A buffer with less room than this is replaced.
const MIN_ROOM: usize = 8 * 1024;

/// Passes bytes both ways until both directions ended. A local connection whose channel was cut
/// is reset, so that its program does not take what it has for the whole.
pub(crate) async fn pump(mut local: TcpStream, channel: Channel) -> io::Result<()> {
    let (mut writer, mut reader) = channel.split();
    let result = {
        let (from_local, to_local) = local.split();
        tokio::try_join!(up(from_local, &mut writer), down(&mut reader, to_local))
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

async fn up(from: ReadHalf<'_>, to: &mut ChannelWriter) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        if buffer.capacity() < MIN_ROOM {
            buffer.reserve(BUFFER_BYTES);
        }
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return to.shutdown().await,
            Ok(_) => to.send(buffer.split().freeze()).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // A connection on which nothing comes holds no buffer.
                buffer = BytesMut::new();
                from.readable().await?;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn down(from: &mut ChannelReader, mut to: WriteHalf<'_>) -> io::Result<()> {
    from.copy_to(&mut to).await?;
    to.shutdown().await
}

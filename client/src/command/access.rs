//! `rap ls` and `rap proxy`.

use std::{
    io::{self, Read as _, Write as _},
    thread,
};

use bytes::Bytes;
use rap_mesh::client::{ChannelReader, ChannelWriter, PIECES, end_reason};
use rap_proto::api::Reachable;
use tokio::{
    io::AsyncWriteExt as _,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::Context;
use crate::{
    args::Proxy,
    failure::{self, Failure},
    link,
    output::Row,
};

/// How much is read from standard input at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// How many buffers may wait between a blocking thread and the network.
const MAX_BUFFERS: usize = 8;

impl Row for Reachable {
    const COLUMNS: &'static [&'static str] = &["NAME", "KIND", "ORGANIZATION", "AVAILABILITY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            self.kind.to_string(),
            self.organization_name.to_string(),
            self.availability.map(|word| word.to_string()).unwrap_or_default(),
        ]
    }
}

pub(super) async fn ls(context: &Context) -> Result<(), Failure> {
    context.list(&reachable(context).await?)
}

/// What the caller may connect to; in the named organization, when one was named.
pub(super) async fn reachable(context: &Context) -> Result<Vec<Reachable>, Failure> {
    use rap_proto::api::Reference;
    let mut found: Vec<Reachable> = context.api()?.list("/resources", &[]).await?;
    match context.config.organization() {
        Some(Reference::Name(name)) => found.retain(|item| item.organization_name == name),
        Some(Reference::Id(id)) => found.retain(|item| item.organization.uuid() == id),
        None => {}
    }
    Ok(found)
}

/// Standard input and output are one channel. Ends when the resource does, or when the program
/// that started this one hangs up.
pub(super) async fn proxy(context: &Context, arguments: &Proxy) -> Result<(), Failure> {
    let link = context.link(&arguments.name.0).await?;
    let (writer, reader) = link.channel(arguments.lane).await?.split();
    let result = tokio::select! {
        result = exchange(writer, reader) => result,
        () = hung_up() => Ok(()),
    };
    let result = match result {
        // A cut channel often is the first sign of an ended session, which knows the reason.
        Err(error) if end_reason(&error).is_none() => match ended_now(&link).await {
            Some(failure) => Err(failure),
            None => Err(Failure::io("the connection failed", &error)),
        },
        Err(error) => Err(end_reason(&error)
            .map_or_else(|| Failure::io("the connection failed", &error), failure::of_end)),
        Ok(()) => Ok(()),
    };
    link.close().await;
    result
}

async fn exchange(mut writer: ChannelWriter, reader: ChannelReader) -> io::Result<()> {
    let up = async {
        let mut input = read_stdin();
        while let Some(bytes) = input.recv().await {
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                // The way down says why.
                break;
            }
        }
        let _ = writer.shutdown().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = write_stdout(reader) => result,
        () = up => Ok(()),
    }
}

/// Standard input in pieces, read by a thread: there is no other way to wait for a file, a
/// terminal and a pipe alike. The thread ends with the process.
fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(MAX_BUFFERS);
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(length @ 1..) = stdin.read(&mut buffer) {
            if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Copies the channel to standard output until its end, and waits until all of it is written.
async fn write_stdout(mut reader: ChannelReader) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(MAX_BUFFERS);
    let (written, done) = oneshot::channel();
    thread::spawn(move || {
        let mut stdout = io::stdout().lock();
        let mut result = Ok(());
        while let Some(bytes) = receiver.blocking_recv() {
            result = stdout.write_all(&bytes).and_then(|()| stdout.flush());
            if result.is_err() {
                break;
            }
        }
        drop(receiver);
        // Nobody listens when the command was given up.
        let _ = written.send(result);
    });
    let mut pieces: [Bytes; PIECES] = Default::default();
    let read = loop {
        match reader.pieces(&mut pieces).await {
            Ok(0) => break Ok(()),
            Ok(count) => {
                let bytes = pieces[..count].concat();
                // They would hold what they came with.
                pieces.fill(Bytes::new());
                if sender.send(bytes).await.is_err() {
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
    };
    drop(sender);
    let wrote = done.await.unwrap_or(Ok(()));
    read.and(wrote)
}

/// ssh hangs up its proxy command when it is done with it.
async fn hung_up() {
    let kinds = [SignalKind::hangup(), SignalKind::terminate(), SignalKind::interrupt()];
    let waits = kinds.into_iter().filter_map(|kind| signal(kind).ok()).map(|mut signal| {
        Box::pin(async move {
            signal.recv().await;
        })
    });
    futures_util::future::select_all(waits).await;
}

async fn ended_now(link: &link::Link) -> Option<Failure> {
    let patience = std::time::Duration::from_millis(200);
    let end = tokio::time::timeout(patience, link.ended()).await.ok()?;
    Some(link::of_end(end))
}

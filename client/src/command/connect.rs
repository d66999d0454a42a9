//! `rap connect`: a local port that leads to a resource.

use std::{future::Future, pin::pin, sync::Arc};

use rap_mesh::client::end_reason;
use rap_proto::observation::EndReason;
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
};
use tokio_util::task::TaskTracker;

use super::Context;
use crate::{
    args::Connect,
    failure::{self, Failure},
    link::{self, Link},
};

/// The most local connections at once; further ones wait in the listener's queue. Somewhat fewer
/// than the 256 channels of a session, because the entry lets go of a channel a little later.
const MAX_CONNECTIONS: usize = 240;

pub(super) async fn run(context: &Context, arguments: &Connect) -> Result<(), Failure> {
    let mut stopping = pin!(asked_to_stop()?);
    let link = tokio::select! {
        link = context.link(&arguments.name.0) => Arc::new(link?),
        () = &mut stopping => return Ok(()),
    };
    let listener = TcpListener::bind(arguments.listen).await.map_err(|error| {
        Failure::io(format!("cannot listen on {}", arguments.listen), &error)
            .hint("choose another port, or 0 for any free one")
    })?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::io("the listener has no address", &error))?;
    context.did(&format!("listening on {address}; Ctrl-C ends it"))?;
    let tasks = TaskTracker::new();
    let result = tokio::select! {
        result = accept(&listener, &link, arguments, &tasks) => result,
        () = &mut stopping => Ok(()),
    };
    drop(listener);
    link.close().await;
    result
}

async fn accept(
    listener: &TcpListener,
    link: &Arc<Link>,
    arguments: &Connect,
    tasks: &TaskTracker,
) -> Result<(), Failure> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let (stream, _) = listener
            .accept()
            .await
            .map_err(|error| Failure::io("no connection can be accepted", &error))?;
        let (link, lane) = (Arc::clone(link), arguments.lane);
        tasks.spawn(async move {
            if let Err(failure) = serve(&link, stream, lane).await {
                eprintln!("{failure}");
            }
            drop(place);
        });
    }
}

async fn serve(
    link: &Link,
    stream: TcpStream,
    lane: Option<rap_proto::Lane>,
) -> Result<(), Failure> {
    // Small messages must not wait for larger ones.
    let _ = stream.set_nodelay(true);
    let channel = link.channel(lane).await?;
    match link::pump(stream, channel).await {
        Ok(()) => Ok(()),
        Err(error) => match end_reason(&error) {
            // This command is ending, or the local program went away, which is its right.
            Some(EndReason::ClientClosed) | None => Ok(()),
            Some(reason) => Err(failure::of_end(reason)),
        },
    }
}

/// Resolves on Ctrl-C, or when the service manager asks to stop, from this call on.
fn asked_to_stop() -> Result<impl Future<Output = ()>, Failure> {
    let failed = |error: std::io::Error| Failure::io("signals cannot be awaited", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

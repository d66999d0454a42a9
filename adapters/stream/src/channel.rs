//! One channel: from its first frame to the end of its bytes.

use std::{sync::Arc, time::Duration};

use rap_adapter_contract::{Open, OpenReply, Request, limit};
use rap_proto::{RefusalCode, refusal::Refusal};
use tokio::{net::UnixStream, time::timeout};
use tracing::Instrument;

use crate::{frames, hand::Handed, splice, worker::Shared};

/// Reads the connection's first frame; answers and gives `None` when it is not in order.
pub(crate) async fn first_frame(stream: &mut UnixStream) -> Option<Request> {
    let patience = Duration::from_millis(limit::FIRST_FRAME_TIMEOUT_MS);
    let message = match timeout(patience, frames::read(stream)).await {
        Ok(Ok(Some(request))) => return Some(request),
        Ok(Ok(None)) => return None,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a connection did not start with a request");
            "the first frame is no request"
        }
        Err(_) => "the first frame did not come in time",
    };
    let refusal = Refusal::new(RefusalCode::Malformed, message);
    let _ = frames::write(stream, &OpenReply::Refused(refusal)).await;
    None
}

/// Dials the target and passes bytes, or lets the agent pass them, until both directions ended or the worker must stop.
pub(crate) async fn serve(shared: &Shared, stream: UnixStream, open: Open) {
    let trace = open.traceparent.as_deref().filter(|text| is_traceparent(text)).unwrap_or("");
    let span = tracing::info_span!("channel", number = open.channel, kind = %open.kind, trace);
    let body = async {
        tokio::select! {
            () = pass(shared, stream, &open) => {}
            () = shared.stop.now() => tracing::info!("the channel was ended by the stop"),
        }
    };
    body.instrument(span).await;
}

async fn pass(shared: &Shared, mut stream: UnixStream, open: &Open) {
    let admitted = async {
        if shared.stop.is_asked() {
            let message = "the adapter worker is stopping";
            return Err(Refusal::new(RefusalCode::WorkerUnavailable, message));
        }
        let permit = Arc::clone(&shared.channels).try_acquire_owned().map_err(|_| {
            let message = format!("the worker has {} channels open", shared.max_channels);
            Refusal::new(RefusalCode::LimitReached, message)
        })?;
        let target = shared.dialler.dial(&open.host, open.port, open.allow_local).await?;
        Ok((permit, target))
    };
    let (permit, target) = match admitted.await {
        Ok(opened) => opened,
        Err(refusal) => {
            tracing::info!(code = %refusal.code, "the channel was refused");
            let _ = frames::write(&mut stream, &OpenReply::Refused(refusal)).await;
            return;
        }
    };
    if open.takes_socket {
        hold(Handed::new(stream, target)).await;
        drop(permit);
        return;
    }
    if frames::write(&mut stream, &OpenReply::Opened).await.is_err() {
        return;
    }
    tracing::debug!("the channel is open");
    let ended = splice::splice(stream, target).await;
    drop(permit);
    tracing::info!(up = ended.up, down = ended.down, clean = ended.clean, "the channel ended");
}

/// Leaves the bytes to the agent for as long as it wants the channel. How many there were is its
/// to say.
async fn hold(mut handed: Handed) {
    if let Err(error) = handed.hand().await {
        tracing::info!(%error, "the socket was not handed over");
        return;
    }
    tracing::debug!("the channel is open, and its socket with the agent");
    handed.let_go().await;
    tracing::info!("the channel ended");
}

/// Whether `text` has the form of W3C Trace Context's `traceparent`, and so can be logged.
fn is_traceparent(text: &str) -> bool {
    text.len() == 55 && text.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-')
}

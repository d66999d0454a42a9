//! Coming back to a session whose connection was lost, before the entry gives it up.

use std::{sync::Arc, time::Duration};

use rap_mesh::client::SessionEnd;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Failed, Live, Request, State, attempt, connect, of_end};
use crate::failure::{Exit, Failure};

/// For so long the entry keeps what is open.
const COME_BACK_WITHIN: Duration = Duration::from_secs(60);
/// The pause before a further attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// Comes back by itself each time the connection is lost. What cannot be had again waits for
/// whoever next opens a channel.
pub(super) async fn attend(request: Arc<Request>, state: Arc<State>) {
    loop {
        let session = state.live.lock().await.session.clone();
        let end = tokio::select! {
            end = session.ended() => end,
            () = state.changed.notified() => continue,
        };
        // Only the state decides how long it lives.
        drop(session);
        if end == SessionEnd::EntryLost {
            let mut live = state.live.lock().await;
            // Whoever opened a channel meanwhile has been quicker.
            if live.end() != Some(SessionEnd::EntryLost) {
                continue;
            }
            match come_back(&request, &mut live).await {
                Ok(()) => continue,
                Err(failure) => eprintln!("{failure}"),
            }
        }
        state.changed.notified().await;
    }
}

/// Makes another connection to the session, or to a new one when that is over.
pub(super) async fn come_back(request: &Arc<Request>, live: &mut Live) -> Result<(), Failure> {
    eprintln!("the connection was lost, reconnecting…");
    let until = Instant::now() + COME_BACK_WITHIN;
    let next = match timeout_at(until, again(request, live)).await {
        Ok(Ok(next)) => next,
        Ok(Err(failure)) if failure.exit == Exit::Denied => return Err(failure),
        // The session is over.
        Ok(Err(_)) => connect(request).await?,
        Err(_) => return Err(of_end(SessionEnd::EntryLost)),
    };
    if next.id == live.id {
        next.session.succeed(&live.session);
    }
    *live = next;
    eprintln!("connected again");
    Ok(())
}

/// Tries until it is clear that the session goes on, or does not.
async fn again(request: &Arc<Request>, live: &Live) -> Result<Live, Failure> {
    loop {
        match attempt(request, &mut Some(live.id)).await {
            Ok(next) => return Ok(next),
            Err(Failed::Final(failure)) if failure.exit != Exit::Unavailable => {
                return Err(failure);
            }
            Err(Failed::Passing(_) | Failed::Final(_)) => sleep(PAUSE).await,
        }
    }
}

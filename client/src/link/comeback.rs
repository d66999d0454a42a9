//! Coming back to a session whose connection was lost, or whose entry leaves, before what is open is
//! given up.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rap_mesh::client::{ClientSession, SessionEnd};
use rap_proto::observation::EndReason;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Before, Failed, Live, Request, State, Then, attempt, connect, of_end};
use crate::{
    command,
    failure::{Exit, Failure},
};

/// For so long an entry, or an egress, keeps what is open.
const COME_BACK_WITHIN: Duration = Duration::from_secs(60);
/// What takes longer hangs on a connection of the network that was before.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(10);
/// The pause before a further attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// What the person is told of losses: each once, and that it is over.
#[derive(Default)]
pub(super) struct Told(AtomicBool);

impl Told {
    fn lost(&self) {
        if !self.0.swap(true, Ordering::Relaxed) {
            eprintln!("the connection was lost, reconnecting…");
        }
    }

    fn back(&self) {
        if self.0.swap(false, Ordering::Relaxed) {
            eprintln!("connected again");
        }
    }

    /// Whoever was told that it is for good hears of the next attempt as well.
    fn given_up(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_lost(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Comes back by itself each time the connection is lost. What cannot be had again waits for
/// whoever next opens a channel.
pub(super) async fn attend(request: Arc<Request>, state: Arc<State>) {
    loop {
        let session = state.live.lock().await.session.clone();
        let mut waiting = session.waiting_channels();
        let end = tokio::select! {
            biased;
            end = session.ended() => Some(end),
            () = state.changed.notified() => continue,
            // A channel can lose its connection long before the session's own is known to be gone.
            Ok(waiting) = waiting.wait_for(|waiting| (*waiting > 0) != state.told.is_lost()) => {
                if *waiting > 0 { state.told.lost() } else { state.told.back() }
                continue;
            }
            () = session.in_doubt(), if request.carrier.is_none() => None,
        };
        let Some(end) = end else {
            go_to_tcp(&request, &state, &session).await;
            continue;
        };
        // Only the state decides how long it lives.
        drop(session);
        if end.may_go_on() {
            let mut live = state.live.lock().await;
            // Whoever opened a channel meanwhile has been quicker.
            if !live.end().is_some_and(SessionEnd::may_go_on) {
                continue;
            }
            match come_back(&request, &state.told, &mut live).await {
                Ok(()) => continue,
                Err(failure) => eprintln!("{failure}"),
            }
        }
        state.changed.notified().await;
    }
}

/// Makes another connection to the session, or to a new one when that is over.
pub(super) async fn come_back(
    request: &Arc<Request>,
    told: &Told,
    live: &mut Live,
) -> Result<(), Failure> {
    told.lost();
    let next = successor(request, live).await.inspect_err(|_| {
        told.given_up();
        live.session.forsake();
    })?;
    if next.id == live.id {
        next.session.succeed(&live.session);
    }
    live.replace(next);
    Ok(())
}

/// Makes another connection to the session, at an entry that does not leave. What is open stays where
/// it is until its entry is gone.
pub(super) async fn go_over(request: &Arc<Request>, live: &mut Live) -> Result<(), Failure> {
    let at = live.session.entry();
    let before = Before { at, then: Then::Leaves };
    let next = match attempt(request, &mut Some(live.id), Some(before)).await {
        Ok(next) if canonical(next.session.entry()) != canonical(at) => {
            next.session.succeed(&live.session);
            next
        }
        Ok(_) | Err(_) => connect(request).await?,
    };
    let left = live.replace(next);
    live.left.push(left);
    Ok(())
}

/// Makes a connection on TCP to the session whose connection on QUIC is in doubt: a network can let UDP
/// through no more. Where something is heard first, or TCP reaches no further, all stays as it is.
async fn go_to_tcp(request: &Arc<Request>, state: &State, doubted: &ClientSession) {
    // An entry would record that it was shown a token that has expired, as after a sleep of this machine.
    if doubted.expires_at() <= command::now() {
        return;
    }
    let received = doubted.received();
    let next = tokio::select! {
        biased;
        () = doubted.heard(received) => return,
        next = timeout(ATTEMPT_WITHIN, doubted.again_on_tcp()) => next,
    };
    let Ok(Ok(next)) = next else { return };
    let mut live = state.live.lock().await;
    // Whoever opened a channel meanwhile may have been quicker, and so may the entry.
    if live.session.is_same(doubted) && doubted.received() == received {
        next.succeed(doubted);
        let next = Live::new(request, live.id, next, live.kind);
        live.replace(next);
        doubted.leave_behind().await;
    }
}

/// The same address for a socket of one family and of both.
fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

async fn successor(request: &Arc<Request>, live: &Live) -> Result<Live, Failure> {
    let until = Instant::now() + COME_BACK_WITHIN;
    match timeout_at(until, again(request, live)).await {
        Ok(Ok(next)) => Ok(next),
        Ok(Err(failure)) if failure.exit == Exit::Denied => Err(failure),
        // The session is over.
        Ok(Err(_)) => connect(request).await,
        Err(_) => Err(of_end(SessionEnd::EntryLost)),
    }
}

/// Tries until it is clear that the session goes on, or does not.
async fn again(request: &Arc<Request>, live: &Live) -> Result<Live, Failure> {
    let leaves = live.end() == Some(SessionEnd::Ended(EndReason::NodeLeft));
    let then = if leaves { Then::Leaves } else { Then::Stays };
    let (id, before) = (live.id, Before { at: live.session.entry(), then });
    loop {
        match timeout(ATTEMPT_WITHIN, attempt(request, &mut Some(id), Some(before))).await {
            Ok(Ok(next)) => return Ok(next),
            Ok(Err(Failed::Final(failure))) if failure.exit != Exit::Unavailable => {
                return Err(failure);
            }
            Ok(Err(Failed::Passing(_) | Failed::Final(_))) | Err(_) => sleep(PAUSE).await,
        }
    }
}

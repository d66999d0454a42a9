//! Passing bytes between the agent and a target, each direction ending on its own.

use std::{os::fd::AsFd, sync::atomic::AtomicU64, time::Duration};

use rap_splice::pass;
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::Shutdown,
    time::Timespec,
};
use tokio::{
    net::{TcpStream, UnixStream},
    time::interval,
};

/// How often a channel whose agent sends no more is checked for having been dropped wholly.
const HANG_UP_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct Ended {
    /// Bytes from the agent to the target.
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// Whether both directions ended by end of stream.
    pub(crate) clean: bool,
}

/// Passes bytes until both directions ended or one end is gone.
///
/// An end of stream is passed on as such. A target that stops reading ends only the way up, so
/// that what it still says arrives; a target that is lost, or an agent that is gone, ends both.
pub(crate) async fn splice(agent: UnixStream, target: TcpStream) -> Ended {
    let (up_bytes, down_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let clean = {
        let up = async {
            let result = pass(&agent, &target, &up_bytes).await;
            if result.is_err() {
                let _ = rustix::net::shutdown(&agent, Shutdown::Read);
            }
            result.is_ok()
        };
        let down = pass(&target, &agent, &down_bytes);
        tokio::pin!(up, down);
        let mut up_clean = None;
        let mut down_ended = false;
        let mut hang_up = interval(HANG_UP_INTERVAL);
        loop {
            tokio::select! {
                clean = &mut up, if up_clean.is_none() => up_clean = Some(clean),
                result = &mut down, if !down_ended => match result {
                    Ok(()) => down_ended = true,
                    Err(_) => break false,
                },
                _ = hang_up.tick(), if up_clean.is_some() => {
                    if is_hung_up(&agent) {
                        break false;
                    }
                }
            }
            if let (Some(clean), true) = (up_clean, down_ended) {
                break clean;
            }
        }
    };
    Ended { up: up_bytes.into_inner(), down: down_bytes.into_inner(), clean }
}

/// Whether the peer of a Unix socket closed it, and not only its sending half.
fn is_hung_up(descriptor: &impl AsFd) -> bool {
    let mut watched = [PollFd::new(descriptor, PollFlags::empty())];
    let found = poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    found.is_ok() && watched[0].revents().contains(PollFlags::HUP)
}

//! Channels of messages: one end of [`rap_mesh_core::channel`] on a byte stream.
//!
//! The same at both ends of a channel: on a client's channel, and at the egress on a pipe to the flow
//! that is served as every other one. What lies between passes bytes and reads none of them.

mod drive;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use rap_mesh_core::{
    channel::{Arrived, Broken, Counters, End, Message, NotTaken, Policy},
    refusals::refusal,
};
use rap_proto::{RefusalCode, observation::EndReason, refusal::Refusal};
use tokio::{
    io::{AsyncRead, AsyncWrite, duplex, split},
    sync::Notify,
};

use crate::{
    DialRequest, Dialed, Dialer,
    client::ChannelEnded,
    clock::Clock,
    mesh::locked,
    tally::{MessageCounts, Talking, Talks, Tally},
};

/// What the pipe between a flow and its service holds each way.
const PIPE_BYTES: usize = 16 * 1024;

/// Why nothing passes any more in a direction that was not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    #[error("{}", because(.0))]
    Ended(EndReason),
    /// The connection below is gone, or the other side left without a word.
    #[error("the connection below the channel is gone")]
    Lost,
    /// The other side does not keep to the channel's format or credit, or ended within it.
    #[error("the other side broke the channel: {0}")]
    Broken(Broken),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error("no channel of this kind takes so large a message")]
    TooLarge,
    /// This side said that it is done.
    #[error("this side has finished the channel")]
    Finished,
    #[error(transparent)]
    Cut(#[from] Cut),
}

/// A channel of messages. Both directions can be used at once, by any number of tasks.
///
/// Dropping it ends both. Of a side that was [finished](Self::finish) nothing is lost by that;
/// otherwise the other side learns that the channel was cut.
pub struct MessageChannel {
    shared: Arc<Shared>,
}

struct Shared {
    state: Arc<Mutex<State>>,
    clock: Clock,
    /// There may be something to write.
    work: Notify,
    /// Something was written.
    wrote: Notify,
    /// Something came.
    came: Notify,
    /// At a node.
    _counted: Option<Talking>,
}

/// INVARIANT: once a direction is cut it stays so, for the first reason.
struct State {
    end: End,
    /// Whatever `end` made was written and flushed.
    flushed: bool,
    send_cut: Option<Cut>,
    receive_cut: Option<Cut>,
    dropped: bool,
}

impl MessageChannel {
    /// An end of a channel on this byte stream, which is driven in the runtime of the caller.
    pub(crate) fn start<R, W>(policy: &Policy, reader: R, writer: W) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        Self::counted(policy, reader, writer, |_| None)
    }

    fn counted<R, W>(
        policy: &Policy,
        reader: R,
        writer: W,
        count: impl FnOnce(Arc<dyn Talks>) -> Option<Talking>,
    ) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let state = Arc::new(Mutex::new(State {
            end: End::new(policy),
            flushed: false,
            send_cut: None,
            receive_cut: None,
            dropped: false,
        }));
        let shared = Arc::new(Shared {
            state: state.clone(),
            clock: Clock::start(),
            work: Notify::new(),
            wrote: Notify::new(),
            came: Notify::new(),
            _counted: count(state),
        });
        tokio::spawn(drive::drive(shared.clone(), reader, writer));
        Self { shared }
    }

    /// Sends a message. On a reliable channel it waits while there is no room for it; on a droppable
    /// one it never waits, and what is dropped for it is counted. Giving up waiting sends nothing.
    pub async fn send(&self, mut message: Message) -> Result<(), SendError> {
        let Shared { state, clock, work, wrote, .. } = &*self.shared;
        loop {
            let mut room = std::pin::pin!(wrote.notified());
            room.as_mut().enable();
            let pushed = {
                let mut state = locked(state);
                if let Some(cut) = state.send_cut {
                    return Err(cut.into());
                }
                state.flushed = false;
                state.end.push(clock.moment(), message)
            };
            message = match pushed {
                Ok(()) => {
                    work.notify_one();
                    return Ok(());
                }
                Err(NotTaken::Full(message)) => message,
                Err(NotTaken::TooLarge) => return Err(SendError::TooLarge),
                Err(NotTaken::Finished) => return Err(SendError::Finished),
            };
            room.await;
        }
    }

    /// The next message. `None` once the other side has finished. Giving up waiting loses nothing.
    pub async fn receive(&self) -> Result<Option<Message>, Cut> {
        let Shared { state, clock, work, came, .. } = &*self.shared;
        loop {
            let mut more = std::pin::pin!(came.notified());
            more.as_mut().enable();
            {
                let mut state = locked(state);
                if let Some(message) = state.end.poll_message(clock.moment()) {
                    // There may be room again for the other side.
                    work.notify_one();
                    return Ok(Some(message));
                }
                if state.end.is_read() {
                    return Ok(None);
                }
                if let Some(cut) = state.receive_cut {
                    return Err(cut);
                }
            }
            // What was dropped here makes room as well.
            work.notify_one();
            more.await;
        }
    }

    /// Says that no more messages follow, and waits until those that wait were written: the reliable
    /// ones all.
    pub async fn finish(&self) -> Result<(), Cut> {
        let Shared { state, work, wrote, .. } = &*self.shared;
        locked(state).end.finish();
        work.notify_one();
        loop {
            let mut written = std::pin::pin!(wrote.notified());
            written.as_mut().enable();
            {
                let state = locked(state);
                if state.end.is_sent() && state.flushed {
                    return Ok(());
                }
                if let Some(cut) = state.send_cut {
                    return Err(cut);
                }
            }
            written.await;
        }
    }

    /// What became of the messages that were sent.
    pub fn counters(&self) -> Counters {
        locked(&self.shared.state).end.counters()
    }

    /// What became of the messages that came.
    pub fn arrived(&self) -> Arrived {
        locked(&self.shared.state).end.arrived()
    }
}

impl Talks for Mutex<State> {
    fn counts(&self) -> MessageCounts {
        let state = locked(self);
        MessageCounts { down: state.end.counters(), up: state.end.arrived() }
    }
}

impl Drop for MessageChannel {
    fn drop(&mut self) {
        locked(&self.shared.state).dropped = true;
        self.shared.work.notify_one();
    }
}

impl fmt::Debug for MessageChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageChannel").finish_non_exhaustive()
    }
}

const fn because(reason: &EndReason) -> ChannelEnded {
    ChannelEnded { reason: *reason }
}

/// Reaches what serves a channel of this kind: a byte stream's target, or a service for messages, to
/// which the flow is a byte stream as well.
pub(crate) async fn dial(
    dialer: &dyn Dialer,
    tally: &Tally,
    request: DialRequest,
) -> Result<Dialed, Refusal> {
    let Some(policy) = Policy::of(request.channel) else { return dialer.dial(request).await };
    let service = dialer.messages().ok_or_else(|| refusal(RefusalCode::ChannelNotServed))?;
    let (near, far) = duplex(PIPE_BYTES);
    let (reader, writer) = split(far);
    let kind = request.channel;
    let count = |channel| Some(tally.talk(kind, channel));
    let channel = MessageChannel::counted(policy, reader, writer, count);
    let worker_died = service.accept(request, channel).await?;
    Ok(Dialed { stream: Box::new(near), worker_died })
}

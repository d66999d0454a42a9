//! Sessions as an entry and an egress count them: limits, bytes, and the one exact reason of an
//! end.

mod words;

use std::{collections::BTreeMap, time::Duration};

use rap_proto::{
    ChannelKind, Moment, RefusalCode, SessionId, Timestamp,
    observation::{EndReason, Observation, Vantage},
};

use words::Words;

pub use words::Word;

/// The most sessions that one node serves.
pub const MAX_SESSIONS: usize = 16_384;
/// While an entry has so many starts and ends to tell, no session begins there; those that are there add
/// two each at most.
pub const MAX_UNTOLD: usize = 2 * MAX_SESSIONS;
/// The most client connections of one session at one entry, without those beside them.
pub const MAX_CONNECTIONS_PER_SESSION: u32 = 4;
/// The most connections of one session that are lost and whose channels wait for their client.
pub const MAX_ABSENT_PER_SESSION: u32 = 16;
/// A client that leaves this soon after its last flow ended left because of that end.
pub const LAST_FLOW_GRACE: Duration = Duration::from_secs(5);
/// How long an egress remembers that it reported a session as started: longer than any token.
pub const STARTED_MEMORY: Duration = Duration::from_secs(1_800);

/// How a client connection ended, before anything else is considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It said that it is done, or closed the connection.
    Clean,
    /// It timed out, was reset, or broke the protocol.
    Lost,
}

/// The end of a session at this entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub reason: EndReason,
    /// Says so.
    pub word: Word,
}

/// An entry's sessions. A session lives from its first client connection to its last, and for as
/// long as channels wait for their client to come back.
///
/// The words of their starts and ends wait here until they are told. A client that is back at once
/// begins another life of its session, and what it does is told behind the end of the life before.
#[derive(Debug, Clone, Default)]
pub struct EntrySessions {
    sessions: BTreeMap<SessionId, EntrySession>,
    words: Words,
}

#[derive(Debug, Clone, Default)]
struct EntrySession {
    connections: u32,
    /// Connections that are lost and whose channels wait.
    absent: u32,
    /// How the last connection ended while channels waited.
    departed: Option<Departure>,
    open: BTreeMap<ChannelKind, u32>,
    /// Says that it started.
    start: Option<Word>,
    bytes_up: u64,
    bytes_down: u64,
    last_flow: Option<(Moment, EndReason)>,
    decided: Option<EndReason>,
}

impl EntrySessions {
    /// A client connected.
    pub fn attach(&mut self, session: SessionId) -> Result<(), RefusalCode> {
        let full = self.sessions.len() >= MAX_SESSIONS || self.words.untold() >= MAX_UNTOLD;
        match self.sessions.get_mut(&session) {
            Some(known) if known.connections >= MAX_CONNECTIONS_PER_SESSION => {
                Err(RefusalCode::LimitReached)
            }
            Some(known) => {
                known.connections += 1;
                known.departed = None;
                Ok(())
            }
            None if full => Err(RefusalCode::LimitReached),
            None => {
                self.sessions
                    .insert(session, EntrySession { connections: 1, ..EntrySession::default() });
                Ok(())
            }
        }
    }

    /// A channel is about to open; `max_open` is what the token permits of its kind.
    pub fn open_channel(
        &mut self,
        session: SessionId,
        channel: ChannelKind,
        max_open: u32,
    ) -> Result<(), RefusalCode> {
        let known = self.sessions.get_mut(&session).ok_or(RefusalCode::SessionTerminated)?;
        take_place(&mut known.open, channel, max_open)
    }

    /// A channel that was opened here ended, also when it was refused further on.
    pub fn close_channel(&mut self, session: SessionId, channel: ChannelKind) {
        if let Some(known) = self.sessions.get_mut(&session) {
            give_place(&mut known.open, channel);
        }
    }

    /// A channel reached its resource: with the first, the session starts here. The word of that, while
    /// it is still to be told.
    pub fn flow_reached(&mut self, at: Timestamp, session: SessionId) -> Option<Word> {
        let known = self.sessions.get_mut(&session)?;
        let started = Observation::SessionStarted { session, from: Some(Vantage::Entry) };
        let start = *known.start.get_or_insert_with(|| self.words.put(at, started));
        (!self.words.is_told(start)).then_some(start)
    }

    /// The newest word, told or not.
    pub fn last_word(&self) -> Word {
        self.words.last()
    }

    pub const fn is_told(&self, word: Word) -> bool {
        self.words.is_told(word)
    }

    /// The next word to tell, unless it comes behind `last`. It counts as told.
    pub fn next_word(&mut self, last: Word) -> Option<(Timestamp, Observation)> {
        self.words.take(last)
    }

    /// A channel that had reached its resource ended, for this reason.
    pub fn flow_ended(
        &mut self,
        now: Moment,
        session: SessionId,
        reason: EndReason,
        bytes_up: u64,
        bytes_down: u64,
    ) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        known.last_flow = Some((now, reason));
        known.bytes_up = known.bytes_up.saturating_add(bytes_up);
        known.bytes_down = known.bytes_down.saturating_add(bytes_down);
    }

    /// Somebody with authority ends the session; the first decision stands.
    pub fn decide(&mut self, session: SessionId, reason: EndReason) {
        if let Some(known) = self.sessions.get_mut(&session) {
            known.decided.get_or_insert(reason);
        }
    }

    /// A client connection is gone. Returns the session's end when it was the last.
    pub fn detach(
        &mut self,
        now: (Moment, Timestamp),
        session: SessionId,
        departure: Departure,
    ) -> Option<Ended> {
        let known = self.sessions.get_mut(&session)?;
        known.connections = known.connections.saturating_sub(1);
        if known.connections == 0 {
            known.departed = Some(departure);
        }
        self.end_unused(now, session, departure)
    }

    /// A client connection is lost, and its channels wait for the client. False when too many do:
    /// then it is gone.
    pub fn wait(&mut self, session: SessionId) -> bool {
        let Some(known) = self.sessions.get_mut(&session) else { return false };
        let waits = known.connections > 0 && known.absent < MAX_ABSENT_PER_SESSION;
        if waits {
            known.connections -= 1;
            known.absent += 1;
        }
        waits
    }

    /// The last channel of a lost connection is over, wherever its client is. Returns the session's
    /// end when nobody is left.
    pub fn wait_no_more(&mut self, now: (Moment, Timestamp), session: SessionId) -> Option<Ended> {
        let known = self.sessions.get_mut(&session)?;
        known.absent = known.absent.saturating_sub(1);
        let departure = known.departed.unwrap_or(Departure::Lost);
        self.end_unused(now, session, departure)
    }

    fn end_unused(
        &mut self,
        (now, at): (Moment, Timestamp),
        session: SessionId,
        departure: Departure,
    ) -> Option<Ended> {
        let known = self.sessions.get(&session)?;
        if known.connections + known.absent > 0 {
            return None;
        }
        let known = self.sessions.remove(&session)?;
        let reason = known.reason(now, departure);
        let EntrySession { bytes_up, bytes_down, .. } = known;
        let ended = Observation::SessionEnded { session, reason, bytes_up, bytes_down };
        Some(Ended { reason, word: self.words.put(at, ended) })
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Sessions whose client is away, and whose channels wait for it.
    pub fn absent(&self) -> usize {
        self.sessions.values().filter(|known| known.connections == 0).count()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

impl EntrySession {
    fn reason(&self, now: Moment, departure: Departure) -> EndReason {
        if let Some(reason) = self.decided {
            return reason;
        }
        if departure == Departure::Lost {
            return EndReason::ClientLost;
        }
        match self.last_flow {
            Some((at, reason)) if now.since(at) <= LAST_FLOW_GRACE => reason,
            _ => EndReason::ClientClosed,
        }
    }
}

/// An egress' sessions. A session is reported as started once, with its first flow.
#[derive(Debug, Clone, Default)]
pub struct EgressSessions {
    sessions: BTreeMap<SessionId, EgressSession>,
}

#[derive(Debug, Clone, Default)]
struct EgressSession {
    open: BTreeMap<ChannelKind, u32>,
    started: bool,
    last_used: Moment,
}

impl EgressSessions {
    /// A flow is about to open.
    pub fn open_flow(
        &mut self,
        now: Moment,
        session: SessionId,
        channel: ChannelKind,
        max_open: u32,
    ) -> Result<(), RefusalCode> {
        if !self.sessions.contains_key(&session) && self.sessions.len() >= MAX_SESSIONS {
            self.forget(now);
            if self.sessions.len() >= MAX_SESSIONS {
                return Err(RefusalCode::LimitReached);
            }
        }
        let known = self.sessions.entry(session).or_default();
        known.last_used = now;
        take_place(&mut known.open, channel, max_open)
    }

    /// Whether a flow of the session has reached its resource.
    pub fn has_started(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|known| known.started)
    }

    /// A flow reached its resource. True for the first of its session.
    pub fn flow_reached(&mut self, session: SessionId) -> bool {
        self.sessions
            .get_mut(&session)
            .is_some_and(|known| !std::mem::replace(&mut known.started, true))
    }

    /// A flow ended, or never reached its resource.
    pub fn close_flow(&mut self, now: Moment, session: SessionId, channel: ChannelKind) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        give_place(&mut known.open, channel);
        known.last_used = now;
        if known.open.is_empty() && !known.started {
            self.sessions.remove(&session);
        }
    }

    /// Sessions with an open flow.
    pub fn active(&self) -> usize {
        self.sessions.values().filter(|known| !known.open.is_empty()).count()
    }

    /// Drops what is idle for longer than [`STARTED_MEMORY`]; if nothing is, the longest idle one.
    fn forget(&mut self, now: Moment) {
        let idle = |known: &EgressSession| known.open.is_empty();
        self.sessions
            .retain(|_, known| !idle(known) || now.since(known.last_used) < STARTED_MEMORY);
        if self.sessions.len() >= MAX_SESSIONS {
            let oldest = self
                .sessions
                .iter()
                .filter(|(_, known)| idle(known))
                .min_by_key(|(_, known)| known.last_used)
                .map(|(session, _)| *session);
            oldest.map(|session| self.sessions.remove(&session));
        }
    }
}

fn take_place(
    open: &mut BTreeMap<ChannelKind, u32>,
    channel: ChannelKind,
    max_open: u32,
) -> Result<(), RefusalCode> {
    let count = open.get(&channel).copied().unwrap_or(0);
    if count >= max_open {
        return Err(RefusalCode::LimitReached);
    }
    open.insert(channel, count + 1);
    Ok(())
}

fn give_place(open: &mut BTreeMap<ChannelKind, u32>, channel: ChannelKind) {
    if let Some(count) = open.get_mut(&channel) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            open.remove(&channel);
        }
    }
}

#[cfg(test)]
mod tests;

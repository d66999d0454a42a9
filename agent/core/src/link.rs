//! Which bus messages to believe, and what this node says on the bus.
//!
//! Inputs: the bus' state, raw messages, what to say. Effects: messages to sign and publish,
//! verified doorbells and confirmations, heartbeats that are due. The bus is untrusted: a message
//! counts when a control key signed it, for this node and cluster, within its life, once, and in no
//! authority epoch that is over.

use std::{collections::VecDeque, time::Duration};

use rap_proto::{
    ClusterId, Generation, IncarnationId, InquiryId, LeaseClass, Moment, NodeId, PublicKey,
    Timestamp, VpnConnectionId,
    beat::FIRST_AUTHORITY_EPOCH,
    bus::{ControlBody, ControlMessage, MESSAGE_TTL_MS, NodeBody, NodeMessage},
    signed::{self, Trusted},
    token::CLOCK_SKEW_MS,
};

use crate::{Machine, jitter::Jitter, replay::ReplayWindow};

/// How often a node says that it is there; spread by a fifth.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub enum Input {
    Connected,
    Disconnected,
    /// The keys that control signs with, at the start and after each change.
    ControlKeys(Vec<PublicKey>),
    /// The authority epoch of the snapshot that this node acts on, after each change.
    AuthorityEpoch(u64),
    Say {
        body: NodeBody,
        at: Timestamp,
    },
    Received {
        bytes: Vec<u8>,
        at: Timestamp,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A heartbeat is due: answer with [`Input::Say`].
    Beat,
    /// Sign and publish on the node's up subject.
    Publish(Box<NodeMessage>),
    Doorbell {
        version: u64,
    },
    Recorded {
        through: u64,
    },
    /// An authority beat is worth hearing.
    AuthorityBeat {
        sequence: u64,
    },
    LeaseOffered {
        connection: VpnConnectionId,
        generation: Generation,
        class: LeaseClass,
    },
    ReleaseAsked {
        connection: VpnConnectionId,
        generation: Generation,
    },
    /// Answer with [`Input::Say`].
    Explain {
        inquiry: InquiryId,
        node: NodeId,
    },
    Ignored(Ignored),
}

/// Why a message from the bus did not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    #[error("not signed by the control plane")]
    NotTrusted,
    #[error("for another cluster")]
    WrongCluster,
    #[error("for another node")]
    WrongAudience,
    /// Whoever signed it spoke for the cluster once, and does no more.
    #[error("of an authority epoch that is over")]
    EpochOver,
    #[error("outside its life")]
    Expired,
    #[error("seen before, or too far behind")]
    Replayed,
}

pub struct Link {
    cluster: ClusterId,
    node: NodeId,
    incarnation: IncarnationId,
    keys: Vec<PublicKey>,
    epoch: u64,
    sequence: u64,
    connected: bool,
    window: ReplayWindow,
    beat: Option<Moment>,
    jitter: Jitter,
    effects: VecDeque<Effect>,
}

impl Link {
    pub fn new(cluster: ClusterId, node: NodeId, incarnation: IncarnationId, seed: u64) -> Self {
        Self {
            cluster,
            node,
            incarnation,
            keys: Vec::new(),
            epoch: FIRST_AUTHORITY_EPOCH,
            sequence: 0,
            connected: false,
            window: ReplayWindow::default(),
            beat: None,
            jitter: Jitter::new(seed),
            effects: VecDeque::new(),
        }
    }

    pub fn connected(&self) -> bool {
        self.connected
    }

    fn say(&mut self, body: NodeBody, at: Timestamp) {
        if !self.connected {
            return;
        }
        self.sequence += 1;
        self.effects.push_back(Effect::Publish(Box::new(NodeMessage {
            cluster: self.cluster,
            authority_epoch: self.epoch,
            sender: self.node,
            incarnation: self.incarnation,
            sequence: self.sequence,
            issued_at: at,
            expires_at: at + Duration::from_millis(MESSAGE_TTL_MS),
            body,
        })));
    }

    fn receive(&mut self, bytes: &[u8], at: Timestamp) -> Result<ControlBody, Ignored> {
        let trusted = Trusted::new(self.keys.iter().copied(), 1);
        let message = signed::open::<ControlMessage>(bytes, &trusted)
            .map_err(|_| Ignored::NotTrusted)?
            .into_inner();
        if message.cluster != self.cluster {
            return Err(Ignored::WrongCluster);
        }
        if message.audience != self.node {
            return Err(Ignored::WrongAudience);
        }
        // One that began since is heard: it rings, and what it rings for says the epoch itself.
        if message.authority_epoch < self.epoch {
            return Err(Ignored::EpochOver);
        }
        let skew = Duration::from_millis(CLOCK_SKEW_MS);
        let greatest = message.issued_at + Duration::from_millis(MESSAGE_TTL_MS);
        let alive = message.issued_at <= at + skew
            && at <= message.expires_at + skew
            && message.expires_at <= greatest;
        if !alive {
            return Err(Ignored::Expired);
        }
        // Remembered for as long as the clock may still find it alive.
        let until = message.expires_at + skew;
        self.window
            .accept(message.incarnation, message.sequence, until, at)
            .map_err(|_| Ignored::Replayed)?;
        Ok(message.body)
    }
}

impl Machine for Link {
    type Input = Input;
    type Effect = Effect;

    fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Connected => {
                self.connected = true;
                self.beat = Some(now);
            }
            Input::Disconnected => {
                self.connected = false;
                self.beat = None;
            }
            Input::ControlKeys(keys) => self.keys = keys,
            Input::AuthorityEpoch(epoch) => self.epoch = epoch,
            Input::Say { body, at } => self.say(body, at),
            Input::Received { bytes, at } => {
                let effect = match self.receive(&bytes, at) {
                    Ok(ControlBody::SnapshotAvailable { version }) => Effect::Doorbell { version },
                    Ok(ControlBody::ObservationsRecorded { through }) => {
                        Effect::Recorded { through }
                    }
                    Ok(ControlBody::BeatAvailable { sequence }) => {
                        Effect::AuthorityBeat { sequence }
                    }
                    Ok(ControlBody::LeaseOffered { connection, generation, class }) => {
                        Effect::LeaseOffered { connection, generation, class }
                    }
                    Ok(ControlBody::ReleaseAsked { connection, generation }) => {
                        Effect::ReleaseAsked { connection, generation }
                    }
                    Ok(ControlBody::Explain { inquiry, node }) => Effect::Explain { inquiry, node },
                    Err(ignored) => Effect::Ignored(ignored),
                };
                self.effects.push_back(effect);
            }
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        if self.beat.is_some_and(|at| now >= at) {
            self.beat = Some(now + self.jitter.around(HEARTBEAT, 20));
            self.effects.push_back(Effect::Beat);
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        self.beat
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rap_proto::{Signer, key::LocalKey};

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_000_000);
    const START: Moment = Moment::from_micros(0);

    fn key(byte: u8) -> LocalKey {
        LocalKey::from_random(&[byte; 32]).unwrap()
    }

    fn link() -> Link {
        let mut link = Link::new(
            ClusterId::from_u128(1),
            NodeId::from_u128(2),
            IncarnationId::from_u128(3),
            4,
        );
        link.handle_input(START, Input::ControlKeys(vec![key(1).public_key()]));
        link.handle_input(START, Input::Connected);
        link
    }

    fn message(sequence: u64) -> ControlMessage {
        ControlMessage {
            cluster: ClusterId::from_u128(1),
            authority_epoch: 1,
            audience: NodeId::from_u128(2),
            incarnation: IncarnationId::from_u128(9),
            sequence,
            issued_at: NOW,
            expires_at: NOW + Duration::from_millis(MESSAGE_TTL_MS),
            body: ControlBody::SnapshotAvailable { version: 7 },
        }
    }

    fn receives(link: &mut Link, bytes: Vec<u8>) -> Effect {
        link.handle_input(START, Input::Received { bytes, at: NOW });
        link.poll_effect().unwrap()
    }

    #[test]
    fn control_is_believed_once() {
        let mut link = link();
        let bytes = signed::seal(&message(1), &[&key(1)]);
        assert_eq!(receives(&mut link, bytes.clone()), Effect::Doorbell { version: 7 });
        assert_eq!(receives(&mut link, bytes), Effect::Ignored(Ignored::Replayed));
        let recorded =
            ControlMessage { body: ControlBody::ObservationsRecorded { through: 5 }, ..message(2) };
        let bytes = signed::seal(&recorded, &[&key(1)]);
        assert_eq!(receives(&mut link, bytes), Effect::Recorded { through: 5 });
    }

    #[test]
    fn anything_else_is_ignored_with_its_reason() {
        let check = |change: fn(&mut ControlMessage), signer: u8, expected: Ignored| {
            let mut wrong = message(1);
            change(&mut wrong);
            let bytes = signed::seal(&wrong, &[&key(signer)]);
            assert_eq!(receives(&mut link(), bytes), Effect::Ignored(expected));
        };
        check(|_| {}, 2, Ignored::NotTrusted);
        check(|m| m.cluster = ClusterId::from_u128(5), 1, Ignored::WrongCluster);
        check(|m| m.audience = NodeId::from_u128(5), 1, Ignored::WrongAudience);
        check(
            |m| {
                m.issued_at = NOW - Duration::from_secs(60);
                m.expires_at = NOW - Duration::from_secs(30);
            },
            1,
            Ignored::Expired,
        );
        check(|m| m.issued_at = NOW + Duration::from_secs(6), 1, Ignored::Expired);
        check(|m| m.expires_at = NOW + Duration::from_secs(3_600), 1, Ignored::Expired);
        let garbage = receives(&mut link(), b"hello".to_vec());
        assert_eq!(garbage, Effect::Ignored(Ignored::NotTrusted));
    }

    #[test]
    fn an_epoch_that_is_over_is_ignored_and_one_that_began_is_heard() {
        let mut link = link();
        link.handle_input(START, Input::AuthorityEpoch(3));
        for (sequence, epoch) in [(1, 2), (2, 3), (3, 4)] {
            let message = ControlMessage { authority_epoch: epoch, ..message(sequence) };
            let heard = receives(&mut link, signed::seal(&message, &[&key(1)]));
            let expected = match epoch {
                2 => Effect::Ignored(Ignored::EpochOver),
                _ => Effect::Doorbell { version: 7 },
            };
            assert_eq!(heard, expected, "{epoch}");
        }
        let body = NodeBody::Observations(Vec::new());
        link.handle_input(START, Input::Say { body, at: NOW });
        let Some(Effect::Publish(message)) = link.poll_effect() else { panic!("not said") };
        assert_eq!(message.authority_epoch, 3);
    }

    #[test]
    fn it_beats_while_connected_and_numbers_what_it_says() {
        let mut link = link();
        let mut now = START;
        for expected in 1..=5 {
            now = link.poll_timeout().unwrap();
            link.handle_timeout(now);
            assert_eq!(link.poll_effect(), Some(Effect::Beat));
            let gap = link.poll_timeout().unwrap().since(now);
            assert!((8..=12).contains(&gap.as_secs()), "{gap:?}");
            let body = NodeBody::Observations(Vec::new());
            link.handle_input(now, Input::Say { body, at: NOW });
            let Some(Effect::Publish(message)) = link.poll_effect() else { panic!("not said") };
            assert_eq!((message.sequence, message.sender), (expected, NodeId::from_u128(2)));
        }
        link.handle_input(now, Input::Disconnected);
        assert_eq!(link.poll_timeout(), None);
        link.handle_input(now, Input::Say { body: NodeBody::Observations(vec![]), at: NOW });
        assert_eq!(link.poll_effect(), None, "nothing is queued for a bus that is away");
    }
}

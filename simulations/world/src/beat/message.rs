//! What the parties say to each other.

use std::sync::Arc;

use rap_control_core::beat::Charter;
use rap_events::beat::{Ballot, Proposal};
use rap_proto::{
    Digest, KeyId,
    wire::node_api::{BeatReply, BeatRequest},
};

use crate::kit;

use super::world::World;

/// One party's turn.
pub type Turn<'a> = kit::Turn<'a, World, Out>;

/// What leaves a party.
#[derive(Debug, Clone)]
pub enum Out {
    Ask {
        replica: usize,
        ask: Ask,
    },
    Down {
        node: usize,
        down: Down,
    },
    /// To every node.
    Ring {
        sequence: u64,
    },
    Op {
        call: Call,
        op: Op,
    },
}

/// From a node to a replica.
#[derive(Debug, Clone)]
pub struct Ask {
    pub incarnation: u32,
    pub request: BeatRequest,
}

/// From a replica to a node.
#[derive(Debug, Clone)]
pub enum Down {
    Answer {
        incarnation: u32,
        reply: BeatReply,
    },
    /// Nobody listens there.
    Refused {
        incarnation: u32,
    },
    Rung {
        sequence: u64,
    },
}

/// Which question of which run of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub boot: u32,
    pub number: u64,
}

/// From a replica to the primary.
#[derive(Debug, Clone)]
pub enum Op {
    Read,
    Propose(Proposal),
    Vote {
        replica: KeyId,
        sequence: u64,
        payload: Digest,
    },
    Sign {
        replica: KeyId,
        sequence: u64,
        payload: Digest,
        signature: [u8; 64],
    },
    /// Everything behind this position.
    Tail {
        after: u64,
    },
}

/// From the primary to a replica.
#[derive(Debug, Clone)]
pub enum Reply {
    Ballot(Box<Ballot>),
    Proposed(bool),
    Voted(bool),
    Signed(bool),
    /// What stands behind `after`, up to the head.
    Tail {
        after: u64,
        head: u64,
        entries: Vec<(u64, Entry)>,
    },
}

/// One event of the log, as far as it concerns the beat.
#[derive(Debug, Clone)]
pub enum Entry {
    Other,
    Denial,
    Stated(Arc<Charter>),
}

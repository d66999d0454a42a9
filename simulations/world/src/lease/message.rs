//! What the parties say to each other. Connections go by their index.

use std::{sync::Arc, time::Duration};

use rap_agent_core::lease::{Answer, RequestId};
use rap_control_core::lease::{ReadId, Readiness, Table};
use rap_proto::{
    Generation, LeaseClass,
    wire::node_api::{TreeReply, TreeRequest},
};

use crate::kit;

use super::{driver, world::World};

/// One party's turn.
pub type Turn<'a> = kit::Turn<'a, World, Out>;

/// What leaves a party.
#[derive(Debug, Clone)]
pub enum Out {
    Up {
        replica: usize,
        up: Up,
    },
    Down {
        node: usize,
        down: Down,
    },
    Op(Op),
    /// The driver will have done something.
    Driver {
        connection: usize,
        incarnation: u32,
        done: driver::Done,
        after: Duration,
    },
}

/// From a node to a replica.
#[derive(Debug, Clone)]
pub enum Up {
    Renew { connection: usize, generation: Generation, asked: Asked },
    Release { connection: usize, generation: Generation },
    Report(Arc<[Readiness]>),
    Tree { watch: u32, request: TreeRequest },
}

/// Which question of which run of an agent: answers come over a connection, which dies with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub request: RequestId,
    pub incarnation: u32,
}

/// From a replica to a node.
#[derive(Debug, Clone)]
pub enum Down {
    Answer { connection: usize, asked: Asked, answer: Answer },
    Released { connection: usize, generation: Generation },
    Offer { connection: usize, generation: Generation, class: LeaseClass },
    AskRelease { connection: usize, generation: Generation },
    Tree { watch: u32, reply: TreeReply },
}

/// From a replica to the database.
#[derive(Debug, Clone)]
pub enum Op {
    Renew { node: usize, connection: usize, generation: Generation, asked: Asked },
    Release { node: usize, connection: usize, generation: Generation },
    Read { read: ReadId, boot: u32 },
    Grant(Grant),
    Fence { connection: usize, generation: Generation, revision: u64 },
    Tree { node: usize, watch: u32, request: TreeRequest },
}

#[derive(Debug, Clone, Copy)]
pub struct Grant {
    pub connection: usize,
    pub node: usize,
    pub generation: Generation,
    pub class: LeaseClass,
    pub revision: Option<u64>,
    pub timeline: u64,
}

/// From the database to a replica.
#[derive(Debug, Clone)]
pub enum Reply {
    Renewed { node: usize, connection: usize, asked: Asked, answer: Answer },
    Released { node: usize, connection: usize, generation: Generation },
    Read { read: ReadId, boot: u32, table: Box<Table> },
    Done { connection: usize },
    Tree { node: usize, watch: u32, reply: TreeReply },
}

//! What the parties of the world say to each other.

use std::net::SocketAddr;

use rap_proto::{
    Digest, Lane, Name, NodeId, OrganizationId, PublicKey, RefusalCode, ResourceId, SessionId,
    UserId,
    observation::EndReason,
    snapshot::Bundle,
    token::Proof,
    wire::node_api::{
        BeatReply, BeatRequest, Credentials, LeasesReply, LeasesRequest, SnapshotRequest,
        TreeReply, TreeRequest,
    },
};

/// A message under way. What TLS proves in the real world (who asks, over which connection) is
/// part of the message here: `Caller`s are filled in by the world and not by the sender.
#[derive(Debug, Clone)]
pub enum Message {
    Enroll(Box<Enroll>),
    Enrolled(EnrollAnswer),
    AskSnapshot {
        node: NodeId,
        ask: u64,
        request: SnapshotRequest,
    },
    Snapshot {
        ask: u64,
        answer: SnapshotAnswer,
    },
    /// A node renews its leases, or gives them back.
    AskLeases {
        node: NodeId,
        call: u64,
        request: LeasesRequest,
    },
    /// None when control cannot say.
    Leases {
        call: u64,
        reply: Option<LeasesReply>,
    },
    /// A node asks for the newest beat.
    AskBeat {
        node: NodeId,
        call: u64,
        request: BeatRequest,
    },
    Beat {
        call: u64,
        reply: BeatReply,
    },
    /// A node presents the log that it saw.
    AskTree {
        node: NodeId,
        call: u64,
        request: TreeRequest,
    },
    Tree {
        call: u64,
        reply: TreeReply,
    },
    /// A sealed `NodeMessage` on the bus.
    Up(Vec<u8>),
    /// A sealed `ControlMessage` on the bus.
    Down(Vec<u8>),
    AskAccess(Box<AskAccess>),
    Access {
        request: u64,
        outcome: Result<Granted, RefusalCode>,
    },
    Hello(Box<Hello>),
    /// The entry's answer to a client.
    Welcome {
        request: u64,
        outcome: Result<(), RefusalCode>,
    },
    OpenFlow(Box<OpenFlow>),
    /// The egress' answer to an entry.
    FlowOpened {
        request: u64,
        outcome: Result<(), RefusalCode>,
    },
    /// The client is done.
    Close {
        session: SessionId,
    },
    /// The entry tells the egress that the session's flow is over.
    CloseFlow {
        session: SessionId,
    },
    /// The egress tells the entry.
    FlowEnded {
        session: SessionId,
        reason: EndReason,
    },
}

#[derive(Debug, Clone)]
pub struct Enroll {
    /// The host's place in the world: where the answer goes.
    pub host: usize,
    pub name: Name,
    pub key: PublicKey,
    /// The digest of the join secret that the host was given.
    pub secret: Digest,
    pub address: SocketAddr,
}

#[derive(Debug, Clone)]
pub enum EnrollAnswer {
    Pending,
    Enrolled(Box<Credentials>),
    Refused,
}

#[derive(Debug, Clone)]
pub enum SnapshotAnswer {
    Newer(Bundle),
    NotModified,
    Revoked,
    /// Control answers something that is no snapshot.
    Unavailable,
}

#[derive(Debug, Clone)]
pub struct AskAccess {
    pub request: u64,
    pub organization: OrganizationId,
    pub user: UserId,
    pub resource: ResourceId,
    pub client_key: PublicKey,
}

/// An access token, and where to go with it.
#[derive(Debug, Clone)]
pub struct Granted {
    pub session: SessionId,
    pub token: Vec<u8>,
    pub entries: Vec<NodeId>,
}

#[derive(Debug, Clone)]
pub struct Hello {
    pub request: u64,
    pub token: Vec<u8>,
    pub proof: Proof,
    /// What this connection exports at both ends.
    pub exported: [u8; 32],
}

#[derive(Debug, Clone)]
pub struct OpenFlow {
    pub request: u64,
    /// The entry that asks, as its certificate proves.
    pub caller: NodeId,
    pub caller_key: Digest,
    pub token: Vec<u8>,
    pub proof: Proof,
    pub lane: Lane,
}

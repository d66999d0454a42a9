//! The programs of the hosts: a node, and a client that counts.

use std::{cell::Cell, net::Ipv4Addr, rc::Rc, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_mesh::{
    Carrier, DialRequest, Dialed, Dialer, MeshEndpoint, MeshEvent, MeshLimits, MeshOptions,
    MessageChannel, MessageService, NoLeases,
    client::{self, Channel, ClientSession, ConnectOptions, EntryAddress, OpenChannel},
};
use rap_pki::node_server_name;
use rap_proto::{ChannelKind, Lane, NodeId, refusal::Refusal};
use rap_simulations::kit::Chance;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Handle,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    cluster::{Cluster, ENTRY, PORT, client_key},
    messages::{Side, talk},
    network::SimNetwork,
    record::Record,
};

/// How often a node is asked how its lanes are.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often the client says a number.
const SAY_EVERY: Duration = Duration::from_millis(100);
/// When the nodes are there.
pub(super) const CLIENT_WAITS: Duration = Duration::from_millis(100);
/// What the resource takes in before it answers.
const RESOURCE_ROOM: usize = 4_096;

/// What a host's program is started with, each time.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) cluster: Rc<Cluster>,
    pub(super) record: Record,
    pub(super) chance: Rc<Cell<Option<Chance>>>,
    pub(super) loss_permille: u64,
}

impl Parts {
    /// The network of one start, with chance of its own.
    pub(super) fn network(&self) -> SimNetwork {
        let mut chance = self.chance.take().expect("put back each time");
        let own = Chance::new(chance.number(), 0);
        self.chance.set(Some(chance));
        SimNetwork::new(own, self.loss_permille, self.record.clone())
    }
}

pub(super) async fn node(parts: Parts, node: NodeId) -> turmoil::Result {
    parts.record.note(format_args!("{node} starts"));
    let options = MeshOptions {
        listen: (Ipv4Addr::UNSPECIFIED, PORT).into(),
        identity: parts.cluster.identity(node),
        dialer: Arc::new(Resource(parts.record.clone())),
        leases: Arc::new(NoLeases::default()),
        marks: Vec::new(),
        limits: MeshLimits::default(),
        bulk: Handle::current(),
        carrier: Some(Carrier::Quic),
    };
    let (network, view) = (Arc::new(parts.network()), parts.cluster.view(node));
    let (endpoint, mut events) = MeshEndpoint::bind_on(network, options, view)?;
    loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => if let MeshEvent::Observed { observation, .. } = event {
                parts.record.note(format_args!("{node} tells of {observation:?}"));
            },
            () = sleep(LOOK_EVERY) => if node == ENTRY {
                parts.record.showed(&endpoint.status().lanes);
            },
        }
    }
}

/// Sends each number back that it gets.
struct Resource(Record);

impl Dialer for Resource {
    fn dial(&self, _: DialRequest) -> BoxFuture<'_, Result<Dialed, Refusal>> {
        let record = self.0.clone();
        record.dialled();
        let (near, mut far) = tokio::io::duplex(RESOURCE_ROOM);
        tokio::spawn(async move {
            while let Ok(number) = far.read_u64().await {
                record.arrived(number);
                if far.write_u64(number).await.is_err() {
                    return;
                }
            }
        });
        std::future::ready(Ok(Dialed::without_worker(near))).boxed()
    }

    fn messages(&self) -> Option<&dyn MessageService> {
        Some(self)
    }
}

impl MessageService for Resource {
    fn accept(
        &self,
        request: DialRequest,
        channel: MessageChannel,
    ) -> BoxFuture<'_, Result<BoxFuture<'static, ()>, Refusal>> {
        tokio::spawn(talk((request.channel, Side::Service), channel, self.0.clone()));
        std::future::ready(Ok(std::future::pending().boxed())).boxed()
    }
}

/// What the run asks of the client's host, and what that says of itself.
#[derive(Default)]
pub(super) struct Orders {
    /// Let the client have another address.
    pub(super) moves: Cell<bool>,
    /// Let all but the client's session lose their connections.
    pub(super) loses_lanes: Cell<bool>,
    /// The client lost its connection.
    pub(super) is_lost: Cell<bool>,
    /// Say no more.
    pub(super) ends: Cell<bool>,
    /// What it said so far.
    pub(super) said: Cell<u64>,
}

/// A session of this token at the entry.
pub(super) async fn connected(
    parts: &Parts,
    network: &SimNetwork,
    token: Vec<u8>,
) -> turmoil::Result<ClientSession> {
    let options = ConnectOptions {
        entries: vec![EntryAddress {
            server_name: node_server_name(ENTRY),
            addresses: vec![parts.cluster.address(ENTRY)],
        }],
        authorities: vec![parts.cluster.authority()],
        token,
        key: Arc::new(client_key()),
        carrier: Some(Carrier::Quic),
        through: false,
    };
    let session = client::connect_over(network, options).await?;
    parts.record.note(format_args!("the client is connected"));
    Ok(session)
}

pub(super) async fn counting(parts: Parts, orders: Rc<Orders>) -> turmoil::Result {
    sleep(CLIENT_WAITS).await;
    let network = parts.network();
    let session = connected(&parts, &network, parts.cluster.token()).await?;
    // One that ends with its lane's connection: nothing but the lane's path may change.
    let channel = session.open(asked_for()).await?;
    count(channel, &parts, &network, &orders).await
}

/// What numbers are said on.
pub(super) fn asked_for() -> OpenChannel {
    let (channel, lane) = (ChannelKind::Stream, Lane::Interactive);
    OpenChannel { channel, lane, traceparent: None, resume: None }
}

/// Says numbers until it has to say no more, or the channel ends, and hears what comes back. The channel
/// stays open.
pub(super) async fn count(
    channel: Channel,
    parts: &Parts,
    network: &SimNetwork,
    orders: &Orders,
) -> turmoil::Result {
    let (mut writer, mut reader) = channel.split();
    let record = parts.record.clone();
    tokio::task::spawn_local(async move {
        loop {
            match reader.read_u64().await {
                Ok(number) => record.answered(number),
                Err(error) => return record.ended(&error),
            }
        }
    });
    let mut ticks = interval(SAY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !orders.ends.get() {
        ticks.tick().await;
        if orders.moves.take() {
            parts.record.note(format_args!("the client's address changes"));
            network.change_ports();
        }
        if orders.loses_lanes.take() {
            let swallowed = network.swallow_connections();
            parts.record.note(format_args!("{swallowed} of the client's lanes are lost"));
        }
        let number = orders.said.get();
        if writer.write_u64(number).await.is_err() || writer.flush().await.is_err() {
            break;
        }
        orders.said.set(number + 1);
    }
    std::future::pending().await
}

//! How long a channel takes to open, from the client through an entry to an egress.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_mesh::{
    DialRequest, Dialed, Dialer, MeshEndpoint, MeshLimits, MeshOptions, NoLeases,
    client::{self, ConnectOptions, EntryAddress, OpenChannel},
};
use rap_mesh_core::refusals::refusal;
use rap_pki::node_server_name;
use rap_proto::{ChannelKind, Lane, RefusalCode, refusal::Refusal};

use crate::{
    Outcome,
    cluster::{Cluster, EGRESS, ENTRY, Target, client_key},
};

const OPENINGS: usize = 400;

pub(crate) struct Opened {
    /// The first channel: the lane's connection is dialled for it.
    pub(crate) cold: Duration,
    pub(crate) warm_p50: Duration,
    pub(crate) warm_p99: Duration,
}

pub(crate) async fn measure(cluster: &Cluster, egress: SocketAddr) -> Outcome<Opened> {
    let options = MeshOptions {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        identity: cluster.identity(ENTRY),
        dialer: Arc::new(Nothing),
        leases: Arc::new(NoLeases::default()),
        marks: Vec::new(),
        limits: MeshLimits::default(),
        bulk: tokio::runtime::Handle::current(),
        carrier: None,
    };
    let addresses = BTreeMap::from([(EGRESS, egress)]);
    let (entry, _events) = MeshEndpoint::bind(options, cluster.view(ENTRY, &addresses))?;
    let options = ConnectOptions {
        entries: vec![EntryAddress {
            server_name: node_server_name(ENTRY),
            addresses: vec![entry.local_addr()?],
        }],
        authorities: vec![cluster.authority()],
        token: cluster.token(Target::Counts, 2),
        key: Arc::new(client_key()),
        carrier: None,
        through: false,
    };
    let session = client::connect(options).await?;
    let mut times = Vec::with_capacity(OPENINGS);
    let mut cold = None;
    for _ in 0..=OPENINGS {
        let request = OpenChannel {
            channel: ChannelKind::Stream,
            lane: Lane::Interactive,
            traceparent: None,
            resume: None,
        };
        let start = Instant::now();
        let channel = session.open(request).await?;
        let elapsed = start.elapsed();
        drop(channel);
        match cold {
            None => cold = Some(elapsed),
            Some(_) => times.push(elapsed),
        }
        // Places come back as fast as the fabric closes what was dropped.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    session.close().await;
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    Ok(Opened { cold: cold.unwrap_or_default(), warm_p50: at(50), warm_p99: at(99) })
}

/// An entry reaches no resources itself.
struct Nothing;

impl Dialer for Nothing {
    fn dial(&self, _: DialRequest) -> BoxFuture<'_, Result<Dialed, Refusal>> {
        async { Err(refusal(RefusalCode::RoleNotAssigned)) }.boxed()
    }
}

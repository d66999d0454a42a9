//! From the request that changes a policy to the last signed snapshot of ten thousand nodes.
//!
//! The request is the owner's, over HTTPS. Control appends, folds, and rings for every node; each
//! node asks as soon as it hears its bell, over TLS with its certificate, for the sections that it
//! lacks. Until then it polls, as an agent does, which keeps its connection; one that control closed
//! is made anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rap_agent_core::{fetch::POLL, jitter::Jitter};
use rap_events::{
    pool::{Pool, PoolCommand},
    resource::{Resource, ResourceCommand},
};
use rap_log_postgres::private::PrivatePostgres;
use rap_proto::{
    Digest, NodeId, NodeRole, PoolId, PublicKey, ResourceKind, Signer as _,
    bus::{ControlBody, ControlMessage},
    codec,
    key::LocalKey,
    signed::{self, Trusted, Unverified},
    snapshot::{Bundle, Manifest, Target},
    wire::node_api::SnapshotRequest,
};
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{
    Fleet, PATIENCE,
    bus::Told,
    milliseconds,
    node::{Line, Node},
    now, stream as new_stream,
};
use crate::{Outcome, figure, raise_file_limit};

const EGRESSES: u32 = 10_000;
const ENTRIES: u32 = 20;
const RESOURCES: u128 = 50;
const POOL: PoolId = PoolId::from_u128(3);
/// How many ask at the same time for their first snapshot.
const CONNECTING: usize = 64;
/// How long all only poll before the policy is changed.
const REST: Duration = Duration::from_secs(5);
/// Larger than any bundle here.
const MAX_BUNDLE_BYTES: usize = 1024 * 1024;

pub(crate) async fn measure(server: &PrivatePostgres) -> Outcome<()> {
    if let Err(allowed) = raise_file_limit(EGRESSES as usize) {
        println!("snapshots_last\tskipped\tonly {allowed} open files are allowed");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let (mut fleet, told) = Fleet::start(server, dir.path(), "telling").await?;
    let outcome = tell(&mut fleet, told).await;
    fleet.stop().await;
    outcome
}

async fn tell(fleet: &mut Fleet, told: mpsc::UnboundedReceiver<Told>) -> Outcome<()> {
    let nodes = populate(fleet).await?;
    let control = LocalKey::from_pem(&std::fs::read_to_string(
        fleet.control.state_dir().join("control.key"),
    )?)?;
    let Polling { mut asking, bells, before } = first_snapshots(fleet, nodes).await?;
    sleep(REST).await;
    let used = fleet.cpu_seconds()?;
    let ringing = tokio::spawn(ring(told, bells, before));
    let begun = Instant::now();
    let path = format!("/organizations/{}/policies", fleet.organization);
    let policy =
        json!({"name": "all", "rules": {"roles": ["organization_user"], "kinds": ["tcp"]}});
    fleet.control.post(&path, &policy).await?;
    let answered = begun.elapsed();
    let (mut last, mut connections, mut bundles) = (begun, 0, Vec::new());
    while let Some(asked) = timeout(PATIENCE, asking.join_next()).await? {
        let Asked { at, body, connected } = asked??;
        last = last.max(at);
        connections += connected;
        bundles.push(body);
    }
    let used = fleet.cpu_seconds()? - used;
    let offered = timeout(PATIENCE, ringing).await???;
    check(&bundles, control.public_key(), before)?;
    figure("snapshots_answered", milliseconds(answered), "ms");
    figure("snapshots_offered", milliseconds(offered - begun), "ms");
    figure("snapshots_last", milliseconds(last - begun), "ms");
    figure("snapshots_cpu", used, "CPU-s");
    figure("snapshots_connections", f64::from(connections), "made anew");
    Ok(())
}

/// One organization whose resources every one of its nodes serves. Returns the egresses.
async fn populate(fleet: &mut Fleet) -> Outcome<Vec<Node>> {
    let organization = fleet.organization;
    let pool = PoolCommand::Create { organization, name: "office".parse()? };
    let mut streams = vec![new_stream::<Pool>(POOL.uuid(), [pool])?];
    for number in 1..=RESOURCES {
        let resource = ResourceCommand::Create {
            organization,
            name: format!("r{number}").parse()?,
            kind: ResourceKind::Tcp,
            target: Target { host: format!("10.0.0.{number}"), port: 22, allow_local: false },
            pool: POOL,
        };
        streams.push(new_stream::<Resource>(Uuid::from_u128(number | 6 << 64), [resource])?);
    }
    for number in 0..ENTRIES {
        let node = Node::new(number);
        streams.push(fleet.enrolled(&node, number, NodeRole::EntryNode, BTreeSet::new())?);
    }
    let mut egresses = Vec::new();
    for number in ENTRIES..ENTRIES + EGRESSES {
        let node = Node::new(number);
        streams.push(fleet.enrolled(&node, number, NodeRole::StreamWorker, [POOL].into())?);
        egresses.push(node);
    }
    fleet.store(streams, BTreeMap::new()).await?;
    Ok(egresses)
}

/// A node with the snapshot that it has.
struct Holder {
    id: NodeId,
    seed: u64,
    line: Line,
    version: u64,
    sections: BTreeSet<Digest>,
}

/// What one node got.
struct Asked {
    at: Instant,
    body: Vec<u8>,
    /// How many connections it needed for that.
    connected: u32,
}

/// Nodes that have their first snapshot and wait for another one.
struct Polling {
    asking: JoinSet<Outcome<Asked>>,
    /// Wakes each of them.
    bells: BTreeMap<NodeId, oneshot::Sender<()>>,
    /// The newest snapshot that any of them has.
    before: u64,
}

/// Each polls from its first snapshot on, as control closes a connection on which nothing is asked.
async fn first_snapshots(fleet: &Fleet, nodes: Vec<Node>) -> Outcome<Polling> {
    let (authority, port) = (Arc::new(fleet.authority.clone()), fleet.control.port());
    let first = |node: Node| {
        let authority = Arc::clone(&authority);
        async move {
            let line = node.line(&authority, now(), port)?;
            let (id, seed) = (node.id, node.seed);
            let mut holder = Holder { id, seed, line, version: 0, sections: BTreeSet::new() };
            let body = holder.ask().await?;
            let (version, sections) = (version(&body)?, sections(&body)?);
            Outcome::Ok(Holder { version, sections, ..holder })
        }
    };
    let mut holders = stream::iter(nodes).map(first).buffer_unordered(CONNECTING);
    let (mut asking, mut bells, mut before) = (JoinSet::new(), BTreeMap::new(), 0);
    while let Some(holder) = holders.try_next().await? {
        before = before.max(holder.version);
        let (bell, rung) = oneshot::channel();
        bells.insert(holder.id, bell);
        asking.spawn(holder.ask_when(rung));
    }
    Ok(Polling { asking, bells, before })
}

impl Holder {
    async fn ask(&mut self) -> Outcome<Vec<u8>> {
        Ok(self.poll().await?.ok_or("there is nothing newer")?)
    }

    async fn poll(&mut self) -> Outcome<Option<Vec<u8>>> {
        let request = SnapshotRequest { have: self.version, sections: self.sections.clone() };
        self.line.call("/node/v1/snapshot", &request).await
    }

    /// Asks when its bell rings, and polls until then.
    async fn ask_when(mut self, mut rung: oneshot::Receiver<()>) -> Outcome<Asked> {
        let mut jitter = Jitter::new(self.seed);
        let before = self.line.connections;
        let body = loop {
            match timeout(jitter.around(POLL, 33), &mut rung).await {
                Ok(rung) => {
                    rung?;
                    break self.ask().await?;
                }
                // A poll may be faster than the bell.
                Err(_) => {
                    if let Some(body) = self.poll().await? {
                        break body;
                    }
                }
            }
        };
        Ok(Asked { at: Instant::now(), body, connected: self.line.connections - before })
    }
}

/// Wakes each node when it is told of a snapshot behind `before`; returns when the last one was.
async fn ring(
    mut told: mpsc::UnboundedReceiver<Told>,
    mut bells: BTreeMap<NodeId, oneshot::Sender<()>>,
    before: u64,
) -> Outcome<Instant> {
    let mut last = Instant::now();
    while !bells.is_empty() {
        let told = told.recv().await.ok_or("nobody is told of a snapshot any more")?;
        let message = Unverified::<ControlMessage>::parse(&told.payload)?.peek()?;
        let newer = matches!(
            message.body,
            ControlBody::SnapshotAvailable { version } if version > before
        );
        if newer && let Some(bell) = bells.remove(&told.node) {
            last = told.at;
            let _ = bell.send(());
        }
    }
    Ok(last)
}

/// Every one is signed by control, newer than what was there, and of a node of its own.
fn check(bundles: &[Vec<u8>], control: PublicKey, before: u64) -> Outcome<()> {
    let (trusted, mut nodes) = (Trusted::one(control), BTreeSet::new());
    for body in bundles {
        let bundle: Bundle = codec::decode(body, MAX_BUNDLE_BYTES)?;
        let manifest = signed::open::<Manifest>(&bundle.manifest, &trusted)?.into_inner();
        if manifest.version <= before {
            return Err("a snapshot is no newer than the one before".into());
        }
        nodes.insert(manifest.node);
    }
    if nodes.len() != EGRESSES as usize {
        return Err(format!("only {} nodes have a new snapshot", nodes.len()).into());
    }
    Ok(())
}

fn version(body: &[u8]) -> Outcome<u64> {
    let bundle: Bundle = codec::decode(body, MAX_BUNDLE_BYTES)?;
    Ok(Unverified::<Manifest>::parse(&bundle.manifest)?.peek()?.version)
}

fn sections(body: &[u8]) -> Outcome<BTreeSet<Digest>> {
    let bundle: Bundle = codec::decode(body, MAX_BUNDLE_BYTES)?;
    Ok(bundle.sections.iter().map(|section| Digest::of(section)).collect())
}

//! How long a key takes to come back: over one blind hop beside a direct lane, and while bulk takes
//! every core.
//!
//! The input is a few bytes each few milliseconds, as a hand that moves a mouse sends them, to an
//! echo. Bulk beside it runs on threads of its own, as it would in another program.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rap_mesh::client::{self, Channel};
use rap_proto::{Lane, Timestamp};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    runtime::{Builder, Runtime},
    time::{interval, sleep},
};

use crate::{
    Outcome, Process,
    cluster::{Cluster, EGRESS, ENTRY, RELAY, Target},
    figure, millis,
    sender::{self, Way},
    session,
};

const INPUT: usize = 16;
const PAUSE: Duration = Duration::from_millis(5);
/// How often the ways without a load are asked in turn, and how often each time.
const TURNS: usize = 4;
const INPUTS_A_TURN: usize = 100;
/// How long a load runs before anything is measured beside it.
const SETTLES: Duration = Duration::from_secs(1);
/// The threads of the load, one for each core that this is meant for.
const LOAD_THREADS: usize = 2;

pub(crate) async fn measure(made_at: Timestamp, time: Duration) -> Outcome<()> {
    let cluster = Cluster::new(made_at);
    let egress = Process::node(made_at, EGRESS, None, &[])?;
    let relay = Process::node(made_at, RELAY, None, &[(EGRESS, egress.address)])?;
    // It knows no address of the egress, so that the relay is its only way.
    let entry = Process::node(made_at, ENTRY, None, &[(RELAY, relay.address)])?;
    one_hop(&cluster, egress.address, relay.address).await?;
    beside_bulk(&cluster, entry.address, time).await
}

async fn one_hop(cluster: &Cluster, egress: SocketAddr, relay: SocketAddr) -> Outcome<()> {
    let (mut direct, mut hop) = (Vec::new(), Vec::new());
    let open = |way| sender::open(cluster, way, Lane::Interactive, Target::Echoes);
    let mut directly = open(Way::Direct(egress)).await?;
    let mut relayed = open(Way::OneHop(relay)).await?;
    for _ in 0..TURNS {
        for (flow, times) in [(&mut directly, &mut direct), (&mut relayed, &mut hop)] {
            let mut stream = tokio::io::join(&mut flow.recv, &mut flow.send);
            for _ in 0..INPUTS_A_TURN {
                times.push(echo(&mut stream).await?);
                sleep(PAUSE).await;
            }
        }
    }
    let (direct, hop) = (middle(direct), middle(hop));
    figure("input_direct_p50", millis(direct) * 1e3, "µs");
    figure("input_hop_p50", millis(hop) * 1e3, "µs");
    figure("input_hop_added", (millis(hop) - millis(direct)) * 1e3, "µs");
    Ok(())
}

/// From a client through an entry and a relay.
async fn beside_bulk(cluster: &Cluster, entry: SocketAddr, time: Duration) -> Outcome<()> {
    let typing = client::connect(session(cluster, ENTRY, entry, Target::Echoes, 1)).await?;
    let mut input = typing.open_lasting(channel(Lane::Interactive)).await?;
    let idle = middle(inputs(&mut input, time).await?);
    figure("input_idle_p50", millis(idle), "ms");
    for flows in [8, 32] {
        let load = Load::start(cluster, entry, flows)?;
        sleep(SETTLES).await;
        let alone = load.rate(time).await;
        let (beside, times) = tokio::join!(load.rate(time), inputs(&mut input, time));
        load.stop();
        let times = times?;
        if flows == 8 {
            figure("input_8_bulk_p50", millis(middle(times)), "ms");
            figure("bulk_8_alone", alone, "Mbit/s");
            figure("bulk_8_beside_input", beside, "Mbit/s");
        } else {
            let worst = times.into_iter().max().unwrap_or_default();
            figure("input_32_bulk_worst", millis(worst), "ms");
        }
    }
    typing.close().await;
    Ok(())
}

/// Bulk flows that never pause.
struct Load {
    runtime: Runtime,
    bytes: Arc<AtomicU64>,
}

impl Load {
    fn start(cluster: &Cluster, entry: SocketAddr, flows: u32) -> Outcome<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(LOAD_THREADS)
            .thread_name("load")
            .enable_all()
            .build()?;
        let bytes = Arc::new(AtomicU64::new(0));
        let options = session(cluster, ENTRY, entry, Target::Counts, flows);
        let written = bytes.clone();
        runtime.spawn(async move {
            let session = client::connect(options).await.expect("the entry answered before");
            for _ in 0..flows {
                let channel = session.open_lasting(channel(Lane::Bulk)).await;
                tokio::spawn(fill(channel.expect("the relay has room"), written.clone()));
            }
            session.ended().await;
        });
        Ok(Self { runtime, bytes })
    }

    /// Mbit/s over a time.
    async fn rate(&self, time: Duration) -> f64 {
        let (before, begun) = (self.bytes.load(Ordering::Relaxed), Instant::now());
        sleep(time).await;
        let bytes = self.bytes.load(Ordering::Relaxed) - before;
        #[expect(clippy::cast_precision_loss, reason = "a rate is rounded in any case")]
        let megabits = bytes as f64 * 8.0 / 1e6;
        megabits / begun.elapsed().as_secs_f64()
    }

    fn stop(self) {
        self.runtime.shutdown_background();
    }
}

async fn fill(mut channel: Channel, written: Arc<AtomicU64>) {
    let piece = vec![0x5a; client::BEST_WRITE];
    while channel.write_all(&piece).await.is_ok() {
        written.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
}

/// One after the other for a time.
async fn inputs(channel: &mut Channel, time: Duration) -> Outcome<Vec<Duration>> {
    let (mut times, mut next, begun) = (Vec::new(), interval(PAUSE), Instant::now());
    while begun.elapsed() < time {
        next.tick().await;
        times.push(echo(channel).await?);
    }
    Ok(times)
}

pub(crate) async fn echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Outcome<Duration> {
    let begun = Instant::now();
    stream.write_all(&[0x5a; INPUT]).await?;
    stream.flush().await?;
    stream.read_exact(&mut [0; INPUT]).await?;
    Ok(begun.elapsed())
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

pub(crate) fn channel(lane: Lane) -> client::OpenChannel {
    let channel = rap_proto::ChannelKind::Stream;
    client::OpenChannel { channel, lane, traceparent: None, resume: None }
}

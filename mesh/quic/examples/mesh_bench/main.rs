//! Measures lanes: throughput on both carriers against what is below them, the cost of blind hops,
//! how long a channel takes to open, how long input takes beside bulk, and what channels cost in
//! memory.
//!
//! ```text
//! cargo run --release -p rap-mesh --example mesh_bench -- [SECONDS_PER_RUN] [RUNS] [FAMILY]...
//! ```
//!
//! The families are throughput, opening, latency and memory; without a word, all of them. Every
//! node and every receiver is a process of its own; this process sends. Runs of the kinds are
//! interleaved, and the medians are printed as name, tab, value, tab, unit.

mod cluster;
mod latency;
mod memory;
mod opening;
mod receiver;
mod sender;
mod target;
mod tcp;
mod throughput;
mod usage;

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use cluster::{Cluster, EGRESS, Target, client_key};
use mimalloc::MiMalloc;
use rap_mesh::{
    Carrier,
    client::{ConnectOptions, EntryAddress},
};
use rap_pki::node_server_name;
use rap_proto::{NodeId, Timestamp};

/// As in the programs that carry lanes: what they cost and keep is what is asked.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    match arguments.first().map(String::as_str) {
        Some("receive") => runtime.block_on(receiver::run(&arguments[1..])),
        _ => {
            let number = |place: usize, otherwise| {
                arguments.get(place).map_or(Ok(otherwise), |text| text.parse::<u32>())
            };
            let (seconds, runs) = (number(0, 3)?, number(1, 1)?);
            let families = arguments.get(2..).unwrap_or_default();
            runtime.block_on(measure(Duration::from_secs(seconds.into()), runs, families))
        }
    }
}

async fn measure(time: Duration, runs: u32, families: &[String]) -> Outcome<()> {
    let wanted = |name: &str| families.is_empty() || families.iter().any(|it| it == name);
    let made_at = cluster::now();
    if wanted("throughput") {
        throughput::measure(made_at, time, runs).await?;
    }
    if wanted("opening") {
        let egress = Process::node(made_at, EGRESS, None, &[])?;
        let opened = opening::measure(&Cluster::new(made_at), egress.address).await?;
        figure("mesh_open_cold", millis(opened.cold), "ms");
        figure("mesh_open_warm_p50", millis(opened.warm_p50), "ms");
        figure("mesh_open_warm_p99", millis(opened.warm_p99), "ms");
    }
    if wanted("latency") {
        latency::measure(made_at, time).await?;
    }
    if wanted("memory") {
        memory::measure(made_at).await?;
    }
    Ok(())
}

/// A child process of this program, stopped when dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// A node that knows these others, and uses this carrier alone, or both.
    fn node(
        made_at: Timestamp,
        node: NodeId,
        carrier: Option<Carrier>,
        others: &[(NodeId, SocketAddr)],
    ) -> Outcome<Self> {
        let number = |node: NodeId| node.uuid().as_u128().to_string();
        let carrier = carrier.map_or("both", Carrier::as_str);
        let mut words = vec![number(node), carrier.to_owned()];
        words.extend(others.iter().map(|(node, address)| format!("{}={address}", number(*node))));
        Self::start("node", made_at, &words)
    }

    fn start(kind: &str, made_at: Timestamp, words: &[String]) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["receive", kind, &made_at.unix_millis().to_string()]).args(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("the child has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        Ok(Self { child, address: line.trim().parse()? })
    }

    fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A child that has ended already needs no stopping.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client's session of this number at an entry.
fn session(
    cluster: &Cluster,
    entry: NodeId,
    address: SocketAddr,
    target: Target,
    number: u32,
) -> ConnectOptions {
    ConnectOptions {
        entries: vec![EntryAddress {
            server_name: node_server_name(entry),
            addresses: vec![address],
        }],
        authorities: vec![cluster.authority()],
        token: cluster.token(target, number),
        key: Arc::new(client_key()),
        carrier: None,
        through: false,
    }
}

/// What was sent and taken.
struct Sent {
    bytes: u64,
    elapsed: Duration,
}

impl Sent {
    /// Fails when the receiver counted other bytes than were sent.
    fn counted(bytes: u64, count: [u8; 8], elapsed: Duration) -> Outcome<Self> {
        let counted = u64::from_be_bytes(count);
        if counted != bytes {
            return Err(format!("{bytes} bytes were sent, and {counted} came").into());
        }
        Ok(Self { bytes, elapsed })
    }

    fn gigabytes(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate is rounded in any case")]
        let bytes = self.bytes as f64;
        bytes / 1e9
    }

    /// Mbit/s.
    fn rate(&self) -> f64 {
        self.gigabytes() * 8e3 / self.elapsed.as_secs_f64()
    }
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("{name}\t{value:.3}\t{unit}");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

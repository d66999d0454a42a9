//! Measures lanes: throughput against stock quinn, the cost of one blind hop and of two, and how
//! long a channel takes to open.
//!
//! ```text
//! cargo run --release -p rap-mesh --example mesh_bench -- [SECONDS_PER_RUN] [RUNS]
//! ```
//!
//! Every receiver is a process of its own, as is each relay; this process sends. Runs of the
//! kinds are interleaved, and the medians are printed as name, tab, value, tab, unit.

mod cluster;
mod opening;
mod receiver;
mod sender;

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use cluster::Cluster;
use rap_proto::Timestamp;

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
            runtime.block_on(measure(number(0, 3)?, number(1, 1)?))
        }
    }
}

async fn measure(seconds: u32, runs: u32) -> Outcome<()> {
    let made_at = cluster::now();
    let cluster = Cluster::new(made_at);
    let stock = Process::start("stock", made_at, None)?;
    let egress = Process::start("egress", made_at, None)?;
    let relay = Process::start("relay", made_at, Some(egress.address))?;
    let second = Process::start("second", made_at, Some(egress.address))?;
    let first = Process::start("first", made_at, Some(second.address))?;
    let time = Duration::from_secs(u64::from(seconds));
    let (mut stock_rates, mut direct_rates) = (Vec::new(), Vec::new());
    let (mut hop_rates, mut two_rates) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        stock_rates.push(sender::stock(&cluster, stock.address, time).await?);
        direct_rates.push(sender::direct(&cluster, egress.address, time).await?);
        hop_rates.push(sender::one_hop(&cluster, relay.address, time).await?);
        two_rates.push(sender::two_hops(&cluster, first.address, time).await?);
    }
    figure("mesh_stock_quinn", median(stock_rates), "Mbit/s");
    figure("mesh_direct", median(direct_rates), "Mbit/s");
    figure("mesh_one_hop", median(hop_rates), "Mbit/s");
    figure("mesh_two_hops", median(two_rates), "Mbit/s");
    let opened = opening::measure(&cluster, egress.address).await?;
    figure("mesh_open_cold", millis(opened.cold), "ms");
    figure("mesh_open_warm_p50", millis(opened.warm_p50), "ms");
    figure("mesh_open_warm_p99", millis(opened.warm_p99), "ms");
    Ok(())
}

/// A child process of this program, stopped when dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(kind: &str, made_at: Timestamp, target: Option<SocketAddr>) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["receive", kind, &made_at.unix_millis().to_string()]);
        command.args(target.map(|target| target.to_string()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("the child has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        Ok(Self { child, address: line.trim().parse()? })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A child that has ended already needs no stopping.
        let _ = self.child.kill();
        let _ = self.child.wait();
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

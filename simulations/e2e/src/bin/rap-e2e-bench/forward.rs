//! The fabric's programs against OpenSSH over the same network. Packets of both sides take the same
//! way, client–entry–relay–egress–office:
//!
//! | Figure | Fabric | Figure | OpenSSH |
//! |---|---|---|---|
//! | `forward_one_node` | the egress is the client's entry, too | `forward_ssh_l` | `ssh -L` on the egress |
//! | `forward_direct` | entry to egress, the relay's kernel routes | `forward_ssh_l` | the same |
//! | `forward_one_hop` | entry to egress through the relay's agent | `forward_ssh_j` | `ssh -J relay -L` on the egress |
//! | `forward_one_hop_quic` | the same, all on the carrier `quic` | `forward_ssh_j` | the same |
//! | `open_session` | `rap proxy`, to the target's first byte | `open_ssh_j` | `ssh -J relay -W`, to the same |
//!
//! `loopback_ssh_l` and `loopback_ssh_j` are OpenSSH with everything on the loopback of one of those
//! machines: the peers of what is measured between processes on the loopback.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    time::Instant,
};

use rap_e2e::{Fabric, Lab, Person, Process, Space, start_sshd, until};

use crate::{PATIENCE, bound, connect, figure, share};

pub(crate) const FIGURES: &[&str] = &[
    "forward_one_node",
    "forward_direct",
    "forward_ssh_l",
    "forward_one_hop",
    "forward_one_hop_quic",
    "forward_ssh_j",
    "open_session",
    "open_ssh_j",
    "loopback_ssh_l",
    "loopback_ssh_j",
];

/// The port of the office on which whoever connects gets [`TRANSFER_BYTES`].
const SOURCE_PORT: u16 = 7001;
const TRANSFER_BYTES: usize = 256 << 20;
/// Where `ssh -L` listens.
const FORWARD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7002);
/// Where another one does beside it.
const OTHER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7012);
/// How often each figure is measured in one run, ours and theirs in turn; the best transfer and the median
/// opening count.
const TRANSFERS: usize = 3;
const OPENINGS: usize = 7;

/// `direct`: the relay's kernel lets entry and egress reach each other.
pub(crate) async fn measure(fabric: &Fabric, direct: bool) {
    let lab = fabric.lab();
    let _source = lab.inside(Space::Office, || serve(&bound(SOURCE_PORT)));
    let _servers = [Space::Relay, Space::Egress]
        .map(|space| start_sshd(lab, space, fabric.office().dir(), &fabric.logs()));
    let (egress, relay) = (Space::Egress.address(), Space::Relay.address());
    let target = format!("{}:{SOURCE_PORT}", Space::Office.address());

    share(fabric, "source", &target).await;
    let (mut through, ours) = connect(fabric, &fabric.alice, "connect", &["source"]).await;
    let jump: &[String] = if direct { &[] } else { &[format!("-J{relay}")] };
    let words =
        [jump, &[forward_to(FORWARD, &target), "-N".to_owned(), egress.to_string()]].concat();
    let _ssh = ssh(fabric, &words);
    let [ours, theirs] = best_rates(lab, Space::Client, [ours, FORWARD]).await;
    through.stop(PATIENCE).await;
    let names = if direct {
        ["forward_direct", "forward_ssh_l"]
    } else {
        ["forward_one_hop", "forward_ssh_j"]
    };
    figure(names[0], ours, "MB/s");
    figure(names[1], theirs, "MB/s");

    if direct {
        on_the_loopback(fabric).await;
        // The client is to have one choice only.
        fabric.owner.rap(&["node", "roles", "entry", "--none"]).await.ok();
        let both = ["node", "roles", "egress", "entry-node@acme", "stream-worker@acme"];
        fabric.ada.rap(&both).await.ok();
        fabric.settle().await;
        let rate = forwarded_rate(fabric, &fabric.alice, "connect-one-node").await;
        figure("forward_one_node", rate, "MB/s");
    } else {
        let mut proxy = fabric.alice.command("rap");
        proxy.args(["proxy", "demo-ssh"]);
        figure("open_session", median_opening(proxy), "ms");
        let mut through = ssh_command(fabric);
        through.args([format!("-J{relay}"), format!("-W{}:22", Space::Office.address())]);
        through.arg(egress.to_string());
        figure("open_ssh_j", median_opening(through), "ms");
        for neighbour in [Space::Entry, Space::Egress] {
            lab.block(Space::Relay, neighbour, "tcp").expect("the relay's filter is ours");
        }
        let alice = fabric.alice.with("RAP_CARRIER", "quic");
        let rate = forwarded_rate(fabric, &alice, "connect-quic").await;
        figure("forward_one_hop_quic", rate, "MB/s");
        lab.unblock(Space::Relay).expect("it was blocked");
    }
}

/// OpenSSH where no packet leaves the machine.
async fn on_the_loopback(fabric: &Fabric) {
    let (lab, here) = (fabric.lab(), Space::Egress);
    let _source = lab.inside(here, || serve(&bound(SOURCE_PORT)));
    let target = format!("{}:{SOURCE_PORT}", Ipv4Addr::LOCALHOST);
    let host = Ipv4Addr::LOCALHOST.to_string();
    // By another of its names: ssh takes a jump over the host itself for a loop.
    let jump = Some(format!("-J{}", here.address()));
    for (name, jump, at) in [("loopback_ssh_l", None, FORWARD), ("loopback_ssh_j", jump, OTHER)] {
        let mut command = with_keys(fabric, lab.command(here, "ssh"));
        command.args(jump).args([&forward_to(at, &target), "-N", &host]);
        let _ssh = Process::start(name, command, &fabric.logs());
        let [rate] = best_rates(lab, here, [at]).await;
        figure(name, rate, "MB/s");
    }
}

/// The best rate through a local port that leads to the source. `name` is the log's.
async fn forwarded_rate(fabric: &Fabric, person: &Person, name: &str) -> f64 {
    let (mut through, address) = connect(fabric, person, name, &["source"]).await;
    let [rate] = best_rates(fabric.lab(), Space::Client, [address]).await;
    through.stop(PATIENCE).await;
    rate
}

/// What `ssh -L` is told.
fn forward_to(at: SocketAddr, target: &str) -> String {
    format!("-L{at}:{target}")
}

/// An `ssh` with the keys of the office's account.
fn ssh_command(fabric: &Fabric) -> Command {
    with_keys(fabric, fabric.alice.command("ssh"))
}

fn with_keys(fabric: &Fabric, mut command: Command) -> Command {
    // A jump host is reached by another ssh, which knows only what a file says.
    let config = fabric.scratch().join("bench_config");
    let text = format!(
        "Host *\n  User root\n  IdentityFile {}\n  StrictHostKeyChecking no\n  \
         UserKnownHostsFile /dev/null\n  LogLevel ERROR\n",
        fabric.office().user_key().display()
    );
    std::fs::write(&config, text).expect("our folder");
    command.arg("-F").arg(config);
    command
}

pub(crate) fn ssh(fabric: &Fabric, words: &[String]) -> Process {
    let mut command = ssh_command(fabric);
    command.args(words);
    Process::start("ssh", command, &fabric.logs())
}

/// The best of some transfers, in MB/s, through each of some ports, which take turns.
async fn best_rates<const N: usize>(
    lab: &Lab,
    space: Space,
    addresses: [SocketAddr; N],
) -> [f64; N] {
    for address in addresses {
        until("the forwarded port answers", PATIENCE, async || {
            transfer(lab, space, address).ok().filter(|rate| *rate > 0.0)
        })
        .await;
    }
    let mut best = [0.0; N];
    for _ in 0..TRANSFERS {
        for (best, address) in best.iter_mut().zip(addresses) {
            *best = transfer(lab, space, address).expect("it answered before").max(*best);
        }
    }
    best
}

fn transfer(lab: &Lab, space: Space, address: SocketAddr) -> io::Result<f64> {
    let receive = lab.inside(space, move || {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        let mut buffer = vec![0; 1 << 20];
        let mut received = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                count => received += count,
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        let complete = received == TRANSFER_BYTES;
        Ok(if complete { TRANSFER_BYTES as f64 / seconds / 1e6 } else { 0.0 })
    });
    receive.join().expect("reading does not panic")
}

/// Sends everybody who connects the same bytes, until the process ends.
fn serve(listener: &TcpListener) {
    let block = vec![0; 1 << 20];
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        for _ in 0..TRANSFER_BYTES / block.len() {
            if stream.write_all(&block).is_err() {
                break;
            }
        }
    }
}

/// The median time, in ms, from starting a command to the first byte that it prints.
fn median_opening(mut command: Command) -> f64 {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut times: Vec<f64> = (0..OPENINGS)
        .map(|_| {
            let begun = Instant::now();
            let mut child = command.spawn().expect("the program was started before");
            let mut stdout = child.stdout.take().expect("it is a pipe");
            stdout.read_exact(&mut [0]).expect("the target speaks first");
            let time = begun.elapsed().as_secs_f64() * 1e3;
            let _ = child.kill();
            let _ = child.wait();
            time
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[OPENINGS / 2]
}

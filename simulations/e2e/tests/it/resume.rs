//! Copies on TCP, and an echo on QUIC, that lose what carries them, and go on.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rap_e2e::{Fabric, Person, Process, Space, until};
use rustix::process::Signal;
use tokio::time::{Instant, sleep_until};

use super::{
    echo,
    everyday::{forward, ssh_config},
    step,
};

const PATIENCE: Duration = Duration::from_secs(60);
const FILE_MIB: u64 = 192;
/// Kilobits a second, by `scp`: a copy goes on while nodes tell of it, which they do once a second.
const RATE: &str = "200000";
/// How far a copy is when it loses its way.
const MIDDLE: u64 = 32 * 1024 * 1024;
/// What a person takes for no time.
const AT_ONCE: Duration = Duration::from_secs(5);
/// After this, what an entry carried is given up.
const GIVEN_UP: Duration = Duration::from_secs(120);
const RELAYS: [Space; 2] = [Space::Relay, Space::Spare];
/// For so long the client has no network: longer than a connection on QUIC outlives, and near the minute for
/// which a session is kept.
const OUTAGE: Duration = Duration::from_secs(50);

#[tokio::test]
async fn what_runs_on_tcp_outlives_its_relay_and_the_clients_network_and_not_its_entry() {
    let test =
        "resume::what_runs_on_tcp_outlives_its_relay_and_the_clients_network_and_not_its_entry";
    let Some(mut fabric) = super::fabric(test).await else { return };
    let config = ssh_config(&fabric).await;
    let sent = fabric.scratch().join("sent");
    let (target, count) = (format!("of={}", sent.display()), format!("count={FILE_MIB}"));
    let words = ["if=/dev/urandom", "bs=1M", "status=none", &target, &count];
    fabric.alice.run("dd", &words).await.ok();
    the_client_loses_its_network(&fabric, &config, &sent).await;
    fabric.add_relay().await;
    for relay in RELAYS {
        fabric.lab().block(Space::Entry, relay, "udp").unwrap();
    }
    for (host, flows) in [("demo-ssh.rap", "tcpFlows"), ("demo-ssh.bulk.rap", "throughFlows")] {
        a_relay_dies(&mut fabric, (host, flows), &config, &sent).await;
    }
    the_only_entry_dies(&fabric).await;
}

/// The client's cables are cut; when they are whole again it has another address.
async fn the_client_loses_its_network(fabric: &Fabric, config: &str, sent: &Path) {
    step(
        "the client loses its network for 50 s in the middle of a copy on tcp and an echo on quic",
    );
    let mut talk = echo(fabric).await;
    let alice = fabric.alice.with("RAP_CARRIER", "tcp");
    let (mut copy, there) = begin(fabric, &alice, ("moved", "demo-ssh.rap"), config, sent).await;
    for neighbour in [Space::Entry, Space::Control] {
        for protocol in ["udp", "tcp"] {
            fabric.lab().block(Space::Client, neighbour, protocol).unwrap();
        }
    }
    let over = Instant::now() + OUTAGE;
    talk.type_line("while nobody hears it").await;
    let says = |line: &str| line.contains("reconnecting").then_some(());
    copy.says("that it reconnects", PATIENCE, says).await;
    until("the entry misses both sessions", OUTAGE, async || {
        let status = fabric.agent_status(Space::Entry).await?;
        (status["mesh"]["absentSessions"] == 2).then_some(())
    })
    .await;
    sleep_until(over).await;
    fabric.lab().readdress(Space::Client, Space::Entry).unwrap();
    fabric.lab().unblock(Space::Client).unwrap();
    let says = |line: &str| line.contains("connected again").then_some(());
    copy.says("that it is connected again", PATIENCE, says).await;
    assert_eq!(talk.line(PATIENCE).await.as_deref(), Some("heard while nobody hears it"));
    println!("  the echo is heard {:?} after the network is back", over.elapsed());
    talk.type_line("again").await;
    assert_eq!(talk.line(PATIENCE).await.as_deref(), Some("heard again"));
    talk.finish(PATIENCE).await.ok();
    arrived(fabric, copy, sent, &there).await;
    let sessions = |event: &&serde_json::Value| event["type"] == "session.requested";
    assert_eq!(fabric.audit().await.iter().filter(sessions).count(), 2, "one each");
}

/// The relay that carries a copy is killed beside another, and comes back. Which kind of flow it is says
/// what the entry counts it among.
async fn a_relay_dies(fabric: &mut Fabric, (host, flows): (&str, &str), config: &str, sent: &Path) {
    step(&format!("a relay is killed in the middle of a copy to {host}"));
    until("nothing is relayed", PATIENCE, async || (relayed(fabric).await == [0, 0]).then_some(()))
        .await;
    let (copy, there) = begin(fabric, &fabric.alice, (flows, host), config, sent).await;
    // Each node tells of itself once in a second.
    until("the entry counts it", PATIENCE, async || {
        let status = fabric.agent_status(Space::Entry).await?;
        (status["mesh"][flows] == 1).then_some(())
    })
    .await;
    let carries = until("one relay carries it", PATIENCE, async || {
        match relayed(fabric).await.map(|flows| flows > 0) {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    })
    .await;
    fabric.signal_agent(RELAYS[carries], Signal::KILL);
    let other = RELAYS[1 - carries];
    until("the other relay carries it", PATIENCE, async || {
        (relayed_by(fabric, other).await > 0).then_some(())
    })
    .await;
    arrived(fabric, copy, sent, &there).await;
    fabric.start_agent(RELAYS[carries]);
    fabric.settle().await;
}

/// Nothing can go on, which `rap` says at once, and again when it gives up.
async fn the_only_entry_dies(fabric: &Fabric) {
    step("the only entry dies for good");
    let (mut connect, url) = forward(fabric, "demo-web").await;
    let mut events = fabric.alice.talk("curl", &["-sSN", &format!("{url}/events")]);
    assert_eq!(events.line(PATIENCE).await.as_deref(), Some("data: tick 1"));
    fabric.signal_agent(Space::Entry, Signal::KILL);
    let says = |line: &str| line.contains("reconnecting").then_some(());
    connect.says("that it reconnects", AT_ONCE, says).await;
    while events.line(GIVEN_UP).await.is_some() {}
    let says = |line: &str| line.contains("connection to the entry was lost").then_some(());
    connect.says("that it gave up", GIVEN_UP, says).await;
}

async fn relayed(fabric: &Fabric) -> [u64; 2] {
    [relayed_by(fabric, RELAYS[0]).await, relayed_by(fabric, RELAYS[1]).await]
}

async fn relayed_by(fabric: &Fabric, relay: Space) -> u64 {
    let status = fabric.agent_status(relay).await.expect("the relay lives");
    status["mesh"]["relayedFlows"].as_u64().expect("a relay counts them")
}

/// A copy that is in its middle, and what it writes.
async fn begin(
    fabric: &Fabric,
    person: &Person,
    (name, host): (&str, &str),
    config: &str,
    sent: &Path,
) -> (Process, PathBuf) {
    let there = fabric.office().files().join(name);
    let remote = format!("{host}:{}", there.display());
    let words = ["-q", "-l", RATE, "-F", config, &sent.to_string_lossy(), &remote];
    let copy = person.start(name, "scp", &words, &fabric.logs());
    let size = || fs::metadata(&there).map_or(0, |found| found.len());
    until("the copy is in its middle", PATIENCE, async || (size() >= MIDDLE).then_some(())).await;
    assert!(size() < FILE_MIB * 1024 * 1024, "the copy was over too soon");
    (copy, there)
}

async fn arrived(fabric: &Fabric, mut copy: Process, sent: &Path, there: &Path) {
    let outcome = until("the copy is over", PATIENCE, async || copy.ended()).await;
    assert!(outcome.success(), "{outcome}: {}", copy.output());
    let hashes = fabric.alice.run("sha256sum", &[sent, there]).await.ok();
    let hashes: Vec<_> = hashes.lines().map(|line| &line[..64]).collect();
    assert!(hashes.len() == 2 && hashes[0] == hashes[1], "{hashes:?}");
}

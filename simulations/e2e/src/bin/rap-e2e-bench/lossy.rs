//! Bulk and input over a link of 100 Mbit/s between entry and relay that loses packets both ways, each by
//! chance. Bulk runs on either carrier, then on the one that the entry chooses for having measured
//! both, and through `ssh -J relay -L` over the same link.
//!
//! The link has no length: without netem nothing here makes a packet late. So a loss is seen within a
//! millisecond, which flatters whoever halves for it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use rap_e2e::{Fabric, Lab, Process, Space, start_sshd, until};
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    PATIENCE, connect, figure,
    forward::ssh,
    link::{Download, echo, flood, inputs, quantile, serve},
    share, skipped,
};

pub(crate) const FIGURES: &[&str] = &[
    "lossy_1_tcp",
    "lossy_1_quic",
    "lossy_1_chosen",
    "lossy_1_ssh",
    "lossy_1_input_p99",
    "lossy_3_tcp",
    "lossy_3_quic",
    "lossy_3_chosen",
    "lossy_3_ssh",
    "lossy_3_input_p99",
];

/// The most of 100 packets that are lost.
const LOSSES: [u32; 2] = [1, 3];
const RATE_MBIT: u32 = 100;
const FLOOD_PORT: u16 = 7005;
const ECHO_PORT: u16 = 7006;
/// The client's port that `ssh -L` listens on.
const FORWARD_PORT: u16 = 7007;
/// How long bulk runs before it counts, and then.
const SETTLES: Duration = Duration::from_secs(3);
const SPAN: Duration = Duration::from_secs(8);

pub(crate) async fn measure(fabric: &Fabric) {
    let lab = fabric.lab();
    let slowed = [(Space::Entry, Space::Relay), (Space::Relay, Space::Entry)]
        .into_iter()
        .try_for_each(|(from, to)| lab.slow_down(from, to, RATE_MBIT));
    let lost = slowed.and_then(|()| lab.lose(Space::Entry, Space::Relay, LOSSES[0]));
    if let Err(reason) = lost {
        return skipped(FIGURES, &reason);
    }
    lab.inside(Space::Office, || serve(FLOOD_PORT, flood));
    lab.inside(Space::Office, || serve(ECHO_PORT, echo));
    for (name, port) in [("lossy-flood", FLOOD_PORT), ("lossy-echo", ECHO_PORT)] {
        share(fabric, name, &format!("{}:{port}", Space::Office.address())).await;
    }
    let _servers = [Space::Relay, Space::Egress]
        .map(|space| start_sshd(lab, space, fabric.office().dir(), &fabric.logs()));
    let _ssh = forward_over_ssh(fabric);
    let words = ["lossy-echo", "--lane", "interactive"];
    let (_typing, typing_at) = connect(fabric, &fabric.alice, "connect-lossy-echo", &words).await;
    for percent in LOSSES {
        lab.lose(Space::Entry, Space::Relay, percent).expect("it did before");
        for (carrier, rule) in [("tcp", "tcp-only"), ("quic", "quic-only")] {
            fabric.ada.rap(&["carriers", "set", "--lane", "bulk", rule]).await.ok();
            fabric.settle().await;
            let name = format!("lossy_{percent}_{carrier}");
            let (_bulk, at) = bulk(fabric, &name).await;
            figure(&name, rate(lab, at).await, "MB/s");
        }
        fabric.ada.rap(&["carriers", "rm", "--lane", "bulk"]).await.ok();
        fabric.settle().await;
        let name = format!("lossy_{percent}_chosen");
        let (_bulk, at) = bulk(fabric, &name).await;
        figure(&name, rate(lab, at).await, "MB/s");
        let download = Download::start(lab, at);
        sleep(SETTLES).await;
        let beside = inputs(lab, typing_at, SPAN).expect("the echo answers");
        download.stop();
        figure(&format!("lossy_{percent}_input_p99"), quantile(&beside, 99), "ms");
        eprintln!("{percent} % lost, chosen: {}", chosen(fabric).await);
        let over_ssh = SocketAddr::from((Ipv4Addr::LOCALHOST, FORWARD_PORT));
        figure(&format!("lossy_{percent}_ssh"), rate(lab, over_ssh).await, "MB/s");
    }
}

/// A flow that is opened now. `name` is the log's.
async fn bulk(fabric: &Fabric, name: &str) -> (Process, SocketAddr) {
    connect(fabric, &fabric.alice, name, &["lossy-flood", "--lane", "bulk"]).await
}

fn forward_over_ssh(fabric: &Fabric) -> Process {
    let target = format!("{}:{FLOOD_PORT}", Space::Office.address());
    let words = [
        format!("-J{}", Space::Relay.address()),
        format!("-L127.0.0.1:{FORWARD_PORT}:{target}"),
        "-N".to_owned(),
        Space::Egress.address().to_string(),
    ];
    ssh(fabric, &words)
}

/// How much of a download passes in a second, in MB, once it has found out how fast the link is.
async fn rate(lab: &Lab, at: SocketAddr) -> f64 {
    let download = until("bulk flows", PATIENCE, async || {
        let download = Download::start(lab, at);
        sleep(SETTLES).await;
        (download.bytes() > 0).then_some(download)
    })
    .await;
    let (before, begun) = (download.bytes(), Instant::now());
    sleep(SPAN).await;
    let megabytes = (download.bytes() - before) as f64 / 1e6;
    let rate = megabytes / begun.elapsed().as_secs_f64();
    download.stop();
    rate
}

/// What the entry says of the carriers of bulk.
async fn chosen(fabric: &Fabric) -> Value {
    let status = fabric.agent_status(Space::Entry).await.unwrap_or_default();
    let carriers = status["mesh"]["carriers"].as_array().cloned().unwrap_or_default();
    carriers.into_iter().find(|report| report["lane"] == "bulk").unwrap_or_default()
}

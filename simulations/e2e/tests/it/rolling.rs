//! Nodes are stopped in order, one after the other, and what runs through them goes on.

use std::{fs, time::Duration};

use rap_e2e::{Fabric, Space, until};
use rustix::process::Signal;

use super::{everyday::forward, step};

const PATIENCE: Duration = Duration::from_secs(60);
const FILE_MIB: u64 = 256;
/// Slow enough to outlast an agent that drains.
const RATE: &str = "8M";
/// How far the download is when its entry is stopped.
const BEGUN: u64 = 16 * 1024 * 1024;

#[tokio::test]
async fn a_download_outlives_an_entry_that_is_stopped_and_the_log_says_where_it_went() {
    let test =
        "rolling::a_download_outlives_an_entry_that_is_stopped_and_the_log_says_where_it_went";
    if super::rootless::is_for_a_child(test) {
        return;
    }
    let mut fabric = match Fabric::start_on(|lab| lab.let_client_pass()).await {
        Ok(fabric) => fabric,
        Err(reason) => return super::skip(test, &reason),
    };
    step("a second entry joins");
    fabric.add_relay().await;
    fabric.owner.rap(&["node", "roles", "spare", "entry-node"]).await.ok();
    fabric.settle().await;
    let page = fabric.office().dir().join("pages/large");
    let (target, count) = (format!("of={}", page.display()), format!("count={FILE_MIB}"));
    let words = ["if=/dev/urandom", "bs=1M", "status=none", &target, &count];
    fabric.alice.run("dd", &words).await.ok();

    step("the entry of a download is stopped");
    let (_connect, url) = forward(&fabric, "demo-web").await;
    let (there, url) = (fabric.scratch().join("large"), format!("{url}/large"));
    let words = ["-sSf", "--limit-rate", RATE, "-o", &there.to_string_lossy(), &url];
    let mut download = fabric.alice.start("download", "curl", &words, &fabric.logs());
    let size = || fs::metadata(&there).map_or(0, |found| found.len());
    until("the download has begun", PATIENCE, async || (size() >= BEGUN).then_some(())).await;
    let (carries, other) = until("one entry alone carries it", PATIENCE, async || {
        match (through(&fabric, Space::Entry).await, through(&fabric, Space::Spare).await) {
            (1.., 0) => Some((Space::Entry, Space::Spare)),
            (0, 1..) => Some((Space::Spare, Space::Entry)),
            _ => None,
        }
    })
    .await;
    fabric.signal_agent(carries, Signal::TERM);
    until("the other entry carries it", PATIENCE, async || {
        (through(&fabric, other).await > 0).then_some(())
    })
    .await;
    assert!(size() < FILE_MIB * 1024 * 1024, "the download was over too soon");
    let outcome = until("the download is over", PATIENCE, async || download.ended()).await;
    assert!(outcome.success(), "{outcome}: {}", download.output());
    let hashes = fabric.alice.run("sha256sum", &[&page, &there]).await.ok();
    let hashes: Vec<_> = hashes.lines().map(|line| &line[..64]).collect();
    assert!(hashes.len() == 2 && hashes[0] == hashes[1], "{hashes:?}");
    recorded(&fabric).await;
}

/// One session: it ended where the entry left, and was started and refreshed elsewhere.
async fn recorded(fabric: &Fabric) {
    let is_left =
        |event: &serde_json::Value| event["payload"]["reason"].as_str() == Some("node_left");
    let left = fabric.event("the entry told that it left", is_left).await;
    let node = &left["payload"]["seen"]["node"];
    let elsewhere = |event: &serde_json::Value| {
        event["type"] == "session.started"
            && event["payload"]["from"] == "entry"
            && event["payload"]["seen"]["node"] != *node
    };
    let went = fabric.event("the other told that it started there", elsewhere).await;
    assert_eq!((&left["type"], &left["stream"]), (&"session.ended".into(), &went["stream"]));
    let log = fabric.audit().await;
    let of = |kind: &str| log.iter().filter(|event| event["type"] == *kind).count();
    assert_eq!((of("session.requested"), of("session.ended")), (1, 1), "{log:#?}");
    assert!(of("session.refreshed") > 0);
}

async fn through(fabric: &Fabric, entry: Space) -> u64 {
    let Some(status) = fabric.agent_status(entry).await else { return 0 };
    status["mesh"]["throughFlows"].as_u64().unwrap_or(0)
}

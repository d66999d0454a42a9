//! `rap bandwidth`, in the middle of a download and of an ssh session.

use std::{fs, time::Duration};

use rap_e2e::Fabric;
use tokio::time::timeout;

use super::{everyday::forward, ssh, step};

const SLOW: &str = "1600kbit";
/// Six seconds at the cap, less its bursts.
const PROBE_BYTES: usize = 1_200_000;
const PROBE_SECONDS: f64 = 4.0;
/// More than three minutes at the cap.
const LARGE_BYTES: usize = 40_000_000;
/// Longer than a snapshot takes, and a few probes.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_cap_slows_a_download_that_runs_and_ssh_goes_on_beside_it() {
    let test = "bandwidth::a_cap_slows_a_download_that_runs_and_ssh_goes_on_beside_it";
    let Some(fabric) = super::fabric(test).await else { return };
    let pages = fabric.office().dir().join("pages");
    fs::write(pages.join("probe"), vec![b'p'; PROBE_BYTES]).unwrap();
    fs::write(pages.join("large"), vec![b'l'; LARGE_BYTES]).unwrap();
    let (_forward, url) = forward(&fabric, "demo-web").await;

    step("a cap slows what passes");
    fabric.ada.rap(&["bandwidth", "set", "--kind", "web", "--cap", SLOW]).await.ok();
    let listed = fabric.ada.rap(&["bandwidth", "ls"]).await.ok();
    assert!(listed.contains("kind web") && listed.contains(SLOW), "{listed}");
    let slowed = async { while probe(&fabric, &url).await < PROBE_SECONDS {} };
    timeout(PATIENCE, slowed).await.expect("the cap reaches the nodes");

    step("a download under the cap, and ssh beside it");
    let large = format!("{url}/large");
    let words = ["-sS", "--max-time", "120", "-o", "/dev/null", "-w", "%{size_download}", &large];
    let download = fabric.alice.run("curl", &words);
    tokio::pin!(download);
    tokio::select! {
        _ = &mut download => panic!("the download takes minutes under the cap"),
        answer = ssh(&fabric, &fabric.alice, "echo alive") => assert_eq!(answer.ok(), "alive\n"),
    }

    step("the cap goes, and the same download ends");
    tokio::select! {
        _ = &mut download => panic!("the download takes minutes under the cap"),
        run = fabric.ada.rap(&["bandwidth", "rm", "--kind", "web"]) => drop(run.ok()),
    }
    assert_eq!(download.await.ok(), LARGE_BYTES.to_string());

    step("who set what is on record");
    let ruled = |event: &serde_json::Value| event["type"] == "organization.bandwidth_ruled";
    fabric.event("the organization ruled its bandwidth", ruled).await;
}

/// How long a small download takes, in seconds.
async fn probe(fabric: &Fabric, url: &str) -> f64 {
    let probe = format!("{url}/probe");
    let words = ["-sS", "--max-time", "60", "-o", "/dev/null", "-w", "%{time_total}", &probe];
    fabric.alice.run("curl", &words).await.ok().parse().unwrap()
}

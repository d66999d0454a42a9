//! A relay is killed under running sessions.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rap_e2e::{Fabric, Space, until};
use rustix::process::Signal;

use super::{echo, step};

const PATIENCE: Duration = Duration::from_secs(60);
/// What is copied; [`super::everyday`] made it and has its copy.
const FILE: &str = "sent";
/// How far the copy is when the relay dies.
const MIDDLE: u64 = 32 * 1024 * 1024;
/// The longest silence of an interactive session when its relay dies beside a warm one. The entry hears
/// nothing for 300 ms, which it notices up to 100 ms late, the path in use has 200 ms to answer, and what was
/// lost is sent again: 0.8 s at most of twelve on a busy machine, where the aim is a second. What a machine
/// that stands still for a moment adds is no fault of the mesh.
const MOST_GAP: Duration = Duration::from_secs(2);

/// A copy and an echo go on when the relay that carries both is killed.
pub(crate) async fn a_relay_dies(fabric: &mut Fabric, config: &str) {
    step("a second relay joins and is kept warm");
    fabric.add_relay().await;
    let mut talk = echo(fabric).await;
    until("the second relay is warm", PATIENCE, async || {
        (flows(fabric, Space::Spare).await >= 1).then_some(())
    })
    .await;

    step("the first is killed in the middle of a copy and an echo");
    let sent = fabric.scratch().join(FILE);
    let there = fabric.office().files().join("carried");
    let remote = format!("demo-ssh.rap:{}", there.display());
    let copy_words = ["-q", "-F", config, &*sent.to_string_lossy(), &remote].map(str::to_owned);
    let copy_words: Vec<&str> = copy_words.iter().map(String::as_str).collect();
    let mut copy = fabric.alice.start("copy", "scp", &copy_words, &fabric.logs());
    let (mut number, mut killed, mut longest) = (0_u32, false, Duration::ZERO);
    let copied = loop {
        let begun = Instant::now();
        talk.type_line(&number.to_string()).await;
        assert_eq!(talk.line(PATIENCE).await, Some(format!("heard {number}")));
        longest = longest.max(begun.elapsed());
        number += 1;
        if !killed && size(&there) >= MIDDLE {
            assert!(size(&there) < size(&sent), "the copy was over too soon");
            fabric.signal_agent(Space::Relay, Signal::KILL);
            killed = true;
        }
        if let Some(outcome) = copy.ended() {
            break outcome;
        }
    };
    assert!(killed && copied.success(), "{copied}: {}", copy.output());
    println!("  longest silence of the echo: {longest:?}");
    assert!(longest < MOST_GAP, "{longest:?}");
    talk.finish(PATIENCE).await.ok();
    let hashes = fabric.alice.run("sha256sum", &[&sent, &there]).await.ok();
    let hashes: Vec<_> = hashes.lines().map(|line| &line[..64]).collect();
    assert!(hashes.len() == 2 && hashes[0] == hashes[1], "{hashes:?}");
    // A lane that carries nothing notices later.
    until("every lane has switched", PATIENCE, async || {
        let status = fabric.agent_status(Space::Entry).await?;
        let lanes = status["mesh"]["lanes"].as_array()?;
        let switched = |lane: &serde_json::Value| lane["switches"].as_u64() >= Some(1);
        (!lanes.is_empty() && lanes.iter().all(switched)).then_some(())
    })
    .await;
}

async fn flows(fabric: &Fabric, at: Space) -> u64 {
    let status = fabric.agent_status(at).await.unwrap_or_default();
    status["mesh"]["relayedFlows"].as_u64().unwrap_or(0)
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |found| found.len())
}

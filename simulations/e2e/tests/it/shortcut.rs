//! The direct path between entry and egress comes and goes under load.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use rap_e2e::{Fabric, Space, Talk, until};
use serde_json::Value;

use super::{echo, ssh_words, step};

const PATIENCE: Duration = Duration::from_secs(60);
/// The longest silence of an echo while its lane changes the path.
const MOST_GAP: Duration = Duration::from_secs(2);
/// How many numbers the load prints at once.
const BLOCK: u32 = 20_000;

#[tokio::test]
async fn a_lane_takes_the_direct_path_when_there_is_one_and_goes_back_when_it_ends_under_load() {
    let test = "shortcut::a_lane_takes_the_direct_path_when_there_is_one_and_goes_back_when_it_ends_under_load";
    let Some(fabric) = super::fabric(test).await else { return };
    let audited = ["paths", "set", "--platform", "--direct", "allowed", "--audit"];
    fabric.owner.rap(&audited).await.ok();
    fabric.settle().await;
    step("an echo and a load run over the relay");
    let stop = fabric.office().files().join("enough");
    let (load, came) = begin_load(&fabric, &stop.display().to_string());
    let mut talk = echo(&fabric).await;
    until_lane(&fabric, &mut talk, "is relayed", |lane| !lane["relay"].is_null()).await;

    step("the direct path opens");
    fabric.lab().open_relay().unwrap();
    let gap = until_lane(&fabric, &mut talk, "is direct", |lane| lane["relay"].is_null()).await;
    println!("  longest silence of the echo: {gap:?}");
    assert!(gap < MOST_GAP, "{gap:?}");
    // The old path stays for as long as the new one has not proven itself.
    until("the relay is left", PATIENCE, async || (relayed(&fabric).await == 0).then_some(()))
        .await;
    let (before, size) = (switches(&fabric).await, fs::metadata(&came).unwrap().len());

    step("the direct path closes");
    fabric.lab().close_relay().unwrap();
    let gap = until_lane(&fabric, &mut talk, "is relayed", |lane| !lane["relay"].is_null()).await;
    println!("  longest silence of the echo: {gap:?}");
    assert!(gap < MOST_GAP, "{gap:?}");
    assert_eq!(switches(&fabric).await, before + 1, "it moved once");

    step("the log says when it was taken and left");
    for (from, to) in [("relayed", "direct"), ("direct", "relayed")] {
        let recorded = |event: &Value| {
            let change = &event["payload"]["change"];
            event["type"] == "node_report.path_changed"
                && change["from"] == from
                && change["to"] == to
        };
        let event = fabric.event("the change is in the log", recorded).await;
        assert_eq!(event["payload"]["change"]["lane"], "interactive", "{event}");
    }

    step("nothing of the load was lost or came twice");
    until("the load goes on", PATIENCE, async || {
        (fs::metadata(&came).unwrap().len() > size + 1_000_000).then_some(())
    })
    .await;
    fs::write(&stop, "").unwrap();
    load.finish(PATIENCE).await.ok();
    talk.finish(PATIENCE).await.ok();
    let text = fs::read_to_string(&came).unwrap();
    let wrong = (1_u32..).zip(text.lines()).find(|(number, line)| *line != number.to_string());
    assert_eq!(wrong, None, "the first line that is not the next number");
    let lines = text.lines().count();
    assert!(lines > 0 && lines % BLOCK as usize == 0, "{lines} lines are no whole blocks");
}

/// Numbers, block by block, until a file is there; they go on the echo's lane. Also where they
/// arrive.
fn begin_load(fabric: &Fabric, stop: &str) -> (Talk, PathBuf) {
    let came = fabric.scratch().join("numbers");
    let remote = format!(
        "n=0; until [ -e {stop} ]; do seq $((n*{BLOCK}+1)) $(((n+1)*{BLOCK})); n=$((n+1)); \
         sleep 0.02; done"
    );
    let mut words = ssh_words(fabric);
    words.push(remote);
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let local = format!("exec rap {} > {}", quoted.join(" "), came.display());
    (fabric.alice.talk("sh", &["-c".to_owned(), local]), came)
}

/// Types until the one lane is as wanted, and then for a while. The longest time that an answer
/// took.
async fn until_lane(
    fabric: &Fabric,
    talk: &mut Talk,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Duration {
    let (begun, mut longest, mut is_so) = (Instant::now(), Duration::ZERO, 0);
    while is_so < 3 {
        assert!(begun.elapsed() < PATIENCE, "the lane never {what}");
        for number in 0..20 {
            let typed = Instant::now();
            talk.type_line(&number.to_string()).await;
            assert_eq!(talk.line(PATIENCE).await, Some(format!("heard {number}")));
            longest = longest.max(typed.elapsed());
        }
        is_so = if lane(fabric).await.is_some_and(|lane| wanted(&lane)) { is_so + 1 } else { 0 };
    }
    longest
}

async fn lane(fabric: &Fabric) -> Option<Value> {
    let status = fabric.agent_status(Space::Entry).await?;
    status["mesh"]["lanes"].get(0).cloned()
}

async fn switches(fabric: &Fabric) -> u64 {
    let lane = lane(fabric).await.expect("the echo runs on it");
    lane["switches"].as_u64().expect("it is counted")
}

async fn relayed(fabric: &Fabric) -> u64 {
    let status = fabric.agent_status(Space::Relay).await.expect("the relay lives");
    status["mesh"]["relayedFlows"].as_u64().expect("a relay counts them")
}

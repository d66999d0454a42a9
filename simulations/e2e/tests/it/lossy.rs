//! A link that loses packets between entry and relay: copies arrive whole on either carrier, and an
//! echo beside them comes back soon. That is what is judged; the rates are printed.

use std::time::{Duration, Instant};

use rap_e2e::{Fabric, Space, Talk, until};
use serde_json::Value;
use tokio::time::sleep;

use super::{echo, everyday::ssh_config, step};

const PATIENCE: Duration = Duration::from_secs(60);
const RATE_MBIT: u32 = 40;
/// Long enough for either carrier to be measured.
const FILE_MIB: u32 = 36;
/// The most of 100 packets that are lost, each way.
const LOSSES: [u32; 2] = [1, 3];
/// The longest silence of the echo: some losses one after the other, each found after twice the time of
/// the one before.
const MOST_GAP: Duration = Duration::from_secs(1);
/// The pace of somebody who types fast.
const PAUSE: Duration = Duration::from_millis(20);
/// Bulk on each carrier, and then on what the entry chooses.
const RULES: [Option<&str>; 3] = [Some("tcp-only"), Some("quic-only"), None];

#[tokio::test]
async fn copies_and_echoes_go_through_a_link_that_loses_packets() {
    let test = "lossy::copies_and_echoes_go_through_a_link_that_loses_packets";
    let Some(fabric) = super::fabric(test).await else { return };
    for (from, to) in [(Space::Entry, Space::Relay), (Space::Relay, Space::Entry)] {
        fabric.lab().slow_down(from, to, RATE_MBIT).unwrap();
    }
    let config = ssh_config(&fabric).await;
    let sent = fabric.scratch().join("sent");
    let (target, count) = (format!("of={}", sent.display()), format!("count={FILE_MIB}"));
    let words = ["if=/dev/urandom", "bs=1M", "status=none", &target, &count];
    fabric.alice.run("dd", &words).await.ok();
    let mut talk = echo(&fabric).await;
    for percent in LOSSES {
        fabric.lab().lose(Space::Entry, Space::Relay, percent).unwrap();
        for rule in RULES {
            step(&format!("{percent} % are lost; bulk on {}", rule.unwrap_or("what is chosen")));
            say(&fabric, rule).await;
            copy(&fabric, &mut talk, &config).await;
        }
        let chosen = bulk(&fabric).await.expect("bulk ran");
        println!("  bulk takes {} ({}): {chosen}", chosen["carrier"], chosen["reason"]);
        assert_ne!(chosen["reason"], "policy", "{chosen}");
        // What was measured counts for ten minutes, so this says that both carriers were measured in the
        // first round, and in the second nothing more. Which one is chosen, and whether it is the faster
        // one, is printed: the tests of the core judge it, with rates that are given.
        for carrier in ["quic", "tcp"] {
            let measured = &chosen[carrier]["upBitsPerSecond"];
            assert!(measured.is_number(), "{carrier} was measured: {chosen}");
        }
    }
    talk.finish(PATIENCE).await.ok();
}

/// Has the organization say what bulk runs on.
async fn say(fabric: &Fabric, rule: Option<&str>) {
    let words = match rule {
        Some(rule) => vec!["carriers", "set", "--lane", "bulk", rule],
        None => vec!["carriers", "rm", "--lane", "bulk"],
    };
    fabric.ada.rap(&words).await.ok();
    fabric.settle().await;
}

/// Copies the file while somebody types, and compares it.
async fn copy(fabric: &Fabric, talk: &mut Talk, config: &str) {
    let (sent, there) = (fabric.scratch().join("sent"), fabric.office().files().join("came"));
    let proxy = "ProxyCommand=rap proxy --lane bulk demo-ssh";
    let (from, to) = (sent.to_string_lossy(), format!("demo-ssh.rap:{}", there.display()));
    let words = ["-q", "-F", config, "-o", proxy, &*from, &to];
    let begun = Instant::now();
    let mut copy = fabric.alice.start("copy", "scp", &words, &fabric.logs());
    let (mut longest, mut number) = (Duration::ZERO, 0_u32);
    let outcome = loop {
        let typed = Instant::now();
        talk.type_line(&number.to_string()).await;
        assert_eq!(talk.line(PATIENCE).await, Some(format!("heard {number}")));
        longest = longest.max(typed.elapsed());
        number += 1;
        if let Some(outcome) = copy.ended() {
            break outcome;
        }
        assert!(begun.elapsed() < PATIENCE, "the copy goes on");
        sleep(PAUSE).await;
    };
    assert!(outcome.success(), "{outcome}: {}", copy.output());
    let rate = f64::from(FILE_MIB << 23) / 1e6 / begun.elapsed().as_secs_f64();
    println!("  {rate:.1} Mbit/s; longest silence of the echo: {longest:?} of {number}");
    let hashes = fabric.alice.run("sha256sum", &[&sent, &there]).await.ok();
    let hashes: Vec<_> = hashes.lines().map(|line| &line[..64]).collect();
    assert!(hashes.len() == 2 && hashes[0] == hashes[1], "{hashes:?}");
    assert!(longest < MOST_GAP, "{longest:?}");
}

/// What the entry knows of the carriers of bulk.
async fn bulk(fabric: &Fabric) -> Option<Value> {
    until("the entry answers", PATIENCE, async || {
        let status = fabric.agent_status(Space::Entry).await?;
        let carriers = status["mesh"]["carriers"].as_array()?.clone();
        Some(carriers.into_iter().find(|report| report["lane"] == "bulk"))
    })
    .await
}

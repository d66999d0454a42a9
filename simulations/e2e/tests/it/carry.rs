//! Relays are killed under running sessions.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rap_e2e::{Fabric, Killed, Talk};

use super::{echo, step};

const PATIENCE: Duration = Duration::from_secs(60);
/// What is copied; [`super::everyday`] made it and has its copy.
const FILE: &str = "sent";
/// How far the copy is when the relay dies.
const MIDDLE: u64 = 32 * 1024 * 1024;
const KILLS: usize = 2;
/// The longest that a lane stays on a relay that died beside a warm one. The entry hears nothing for 300 ms,
/// which it notices up to 100 ms late, and the path in use has 200 ms to answer. What a machine that stands
/// still for a moment adds is no fault of the mesh, so this is for the best of the kills.
const LEFT_BY: Duration = Duration::from_secs(1);
/// The longest silence of an interactive session then: what was lost is sent again.
const MOST_GAP: Duration = Duration::from_secs(2);

/// Copies and an echo go on when the relay that carries them is killed, whichever it is.
pub(crate) async fn a_relay_dies(fabric: &mut Fabric, config: &str) {
    step("a second relay joins and is kept warm");
    fabric.add_relay().await;
    let mut talk = echo(fabric).await;
    let mut leavings = Vec::new();
    for kill in 1..=KILLS {
        step("the one in use is killed in the middle of a copy and an echo");
        let (killed, gap) = under_a_copy(fabric, config, &mut talk).await;
        fabric.lanes_leave(&killed).await;
        // It may have left a moment before.
        let left = fabric.left_after(&killed).unwrap_or_default();
        let resent = gap.saturating_sub(left);
        println!(
            "  {:?}: longest silence of the echo {gap:?}, of which {left:?} until the lane left it and \
             {resent:?} until what was lost came again",
            killed.relay
        );
        assert!(gap < MOST_GAP, "{gap:?}");
        leavings.push(left);
        if kill < KILLS {
            fabric.start_agent(killed.relay);
            fabric.settle().await;
        }
    }
    assert!(leavings.iter().min() < Some(&LEFT_BY), "{leavings:?}");
    talk.finish(PATIENCE).await.ok();
}

/// Types while a file is copied. The longest time that an answer took.
async fn under_a_copy(fabric: &Fabric, config: &str, talk: &mut Talk) -> (Killed, Duration) {
    let sent = fabric.scratch().join(FILE);
    let there = fabric.office().files().join("carried");
    let _ = fs::remove_file(&there);
    let remote = format!("demo-ssh.rap:{}", there.display());
    let copy_words = ["-q", "-F", config, &*sent.to_string_lossy(), &remote].map(str::to_owned);
    let copy_words: Vec<&str> = copy_words.iter().map(String::as_str).collect();
    // Looked for while nothing else is under way: a relay that was killed comes back slowly.
    fabric.used_relay().await;
    let mut copy = fabric.alice.start("copy", "scp", &copy_words, &fabric.logs());
    let (mut number, mut killed, mut longest) = (0_u32, None, Duration::ZERO);
    let copied = loop {
        let begun = Instant::now();
        talk.type_line(&number.to_string()).await;
        assert_eq!(talk.line(PATIENCE).await, Some(format!("heard {number}")));
        longest = longest.max(begun.elapsed());
        number += 1;
        if killed.is_none() && size(&there) >= MIDDLE {
            let used = fabric.used_relay().await;
            assert!(size(&there) < size(&sent), "the copy was over too soon");
            killed = Some(fabric.kill_relay(used));
        }
        if let Some(outcome) = copy.ended() {
            break outcome;
        }
    };
    assert!(copied.success(), "{copied}: {}", copy.output());
    let hashes = fabric.alice.run("sha256sum", &[&sent, &there]).await.ok();
    let hashes: Vec<_> = hashes.lines().map(|line| &line[..64]).collect();
    assert!(hashes.len() == 2 && hashes[0] == hashes[1], "{hashes:?}");
    (killed.expect("the copy was in its middle once"), longest)
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |found| found.len())
}

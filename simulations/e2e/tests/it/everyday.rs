//! What people do all day: ssh, scp, rsync, git, a web page, a stream of events.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use rap_e2e::{Fabric, PAGE, Person, Process, Space, until};
use serde_json::Value;

use super::{ssh, step};

const PATIENCE: Duration = Duration::from_secs(20);
const LARGE_FILE_MIB: &str = "256";
const PARALLEL_REQUESTS: usize = 20;

#[tokio::test]
async fn everyday_programs_work_through_the_fabric() {
    let test = "everyday::everyday_programs_work_through_the_fabric";
    let Some(mut fabric) = super::fabric(test).await else { return };
    step("rap ls, rap ssh");
    let listed = fabric.alice.rap(&["ls"]).await.ok();
    assert!(listed.contains("demo-ssh") && listed.contains("demo-web"), "{listed}");
    let kernel = fabric.alice.run("uname", &["-a"]).await.ok();
    assert_eq!(ssh(&fabric, &fabric.alice, "uname -a").await.ok(), kernel);
    ssh(&fabric, &fabric.alice, "exit 7").await.fails(7);

    let config = ssh_config(&fabric).await;
    copy_a_large_file(&fabric, &config).await;
    synchronise_a_folder(&fabric, &config).await;
    clone_a_repository(&fabric, &config).await;
    browse(&fabric).await;
    whatever_gets_through(&fabric).await;
    super::carry::a_relay_dies(&mut fabric, &config).await;

    step("sessions and their ends are on record");
    let ended = fabric.event("a session has ended", |event| event["type"] == "session.ended").await;
    assert_eq!(ended["actor"]["kind"], "node", "{ended}");
    let replay = fabric.owner.rap(&["audit", "replay", "-o", "json"]).await.json();
    assert_eq!(replay["equal"], true, "{replay}");
    step("each node's snapshot is the one that the log gives, by the node's own word");
    for node in [Space::Entry, Space::Egress].map(Space::name) {
        let replay = until("the node has said what it applied", PATIENCE, async || {
            let words = ["audit", "replay", "--node", node, "-o", "json"];
            let replay: Value =
                serde_json::from_str(&fabric.owner.rap(&words).await.stdout).unwrap();
            replay["snapshot"]["appliedDigest"].is_string().then_some(replay)
        });
        let replay = replay.await;
        assert_eq!(replay["equal"], true, "{replay}");
    }
    step("the log is audited by programs that are not ours");
    super::proof::a_real_log_is_audited(&fabric).await;
}

/// The file that `rap ssh-config` makes, with whom to log in as.
pub(crate) async fn ssh_config(fabric: &Fabric) -> String {
    let block = fabric.alice.rap(&["ssh-config"]).await.ok();
    let key = fabric.office().user_key();
    let own = format!(
        "Host *\n  User root\n  IdentityFile {}\n  UserKnownHostsFile {}\n  \
         StrictHostKeyChecking accept-new\n\n",
        key.display(),
        fabric.scratch().join("known_hosts").display()
    );
    let path = fabric.scratch().join("ssh_config");
    fs::write(&path, own + &block).unwrap();
    path.to_string_lossy().into_owned()
}

async fn copy_a_large_file(fabric: &Fabric, config: &str) {
    step("scp, both ways");
    let (sent, back) = (fabric.scratch().join("sent"), fabric.scratch().join("back"));
    let there = fabric.office().files().join("large");
    let alice = &fabric.alice;
    let (target, count) = (format!("of={}", sent.display()), format!("count={LARGE_FILE_MIB}"));
    let words = ["if=/dev/urandom", "bs=1M", "status=none", &target, &count];
    alice.run("dd", &words).await.ok();
    let remote = format!("demo-ssh.rap:{}", there.display());
    alice.run("scp", &["-q", "-F", config, &sent.to_string_lossy(), &remote]).await.ok();
    alice.run("scp", &["-q", "-F", config, &remote, &back.to_string_lossy()]).await.ok();
    let hashes = alice.run("sha256sum", &[&sent, &there, &back]).await.ok();
    let hashes: Vec<_> = hashes.lines().map(|line| &line[..64]).collect();
    assert!(hashes.len() == 3 && hashes[0] == hashes[1] && hashes[1] == hashes[2], "{hashes:?}");
}

async fn synchronise_a_folder(fabric: &Fabric, config: &str) {
    step("rsync");
    let (here, there) = (fabric.scratch().join("site"), fabric.office().files().join("site"));
    for number in 0..50 {
        let folder = here.join(format!("part-{}", number % 5));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("page-{number}")), "text ".repeat(number * 10)).unwrap();
    }
    let remote = format!("demo-ssh.rap:{}/", there.display());
    let shell = format!("ssh -F {config}");
    let words = ["-a", "-e", &shell, &format!("{}/", here.display()), &remote];
    fabric.alice.run("rsync", &words).await.ok();
    same_folder(&fabric.alice, &here, &there).await;
}

async fn clone_a_repository(fabric: &Fabric, config: &str) {
    step("git clone");
    let (origin, clone) =
        (fabric.office().files().join("project.git"), fabric.scratch().join("clone"));
    let alice = fabric.alice.with("GIT_SSH_COMMAND", format!("ssh -F {config}"));
    let origin_path = origin.to_string_lossy();
    alice.run("git", &["init", "-q", "-b", "main", &origin_path]).await.ok();
    fs::write(origin.join("file"), "content\n").unwrap();
    alice.run("git", &["-C", &origin_path, "add", "file"]).await.ok();
    let who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "one"];
    alice.run("git", &[&["-C", &origin_path], who.as_slice()].concat()).await.ok();
    let remote = format!("demo-ssh.rap:{origin_path}");
    alice.run("git", &["clone", "-q", &remote, &clone.to_string_lossy()]).await.ok();
    assert_eq!(fs::read_to_string(clone.join("file")).unwrap(), "content\n");
}

async fn browse(fabric: &Fabric) {
    step("parallel requests to a web page");
    let (_forward, url) = forward(fabric, "demo-web").await;
    let page = ["-sS", "--max-time", "20", &format!("{url}/")];
    let requests = (0..PARALLEL_REQUESTS).map(|_| fabric.alice.run("curl", &page));
    for answer in join_all(requests).await {
        assert_eq!(answer.ok(), PAGE);
    }

    step("server-sent events, as they happen");
    let mut events = fabric.alice.talk("curl", &["-sSN", &format!("{url}/events")]);
    for number in 1..=5 {
        assert_eq!(events.line(PATIENCE).await, Some(format!("data: tick {number}")));
        assert_eq!(events.line(PATIENCE).await.as_deref(), Some(""));
    }
}

/// Each network lets something else through, and everything works as before.
async fn whatever_gets_through(fabric: &Fabric) {
    step("nothing but TCP to port 443 between client and entry");
    fabric.lab().let_only_the_web_pass(Space::Client, Space::Entry).unwrap();
    everything_works(fabric).await;
    fabric.lab().unblock(Space::Client).unwrap();
    let cases = [
        (Space::Client, Space::Entry, "udp"),
        (Space::Client, Space::Entry, "tcp"),
        (Space::Entry, Space::Relay, "udp"),
        (Space::Entry, Space::Relay, "tcp"),
    ];
    for (from, to, protocol) in cases {
        step(&format!("no {protocol} between {} and {}", from.name(), to.name()));
        fabric.lab().block(from, to, protocol).unwrap();
        everything_works(fabric).await;
        fabric.lab().unblock(from).unwrap();
    }
}

async fn everything_works(fabric: &Fabric) {
    let (_forward, url) = forward(fabric, "demo-web").await;
    let page = ["-sS", "--max-time", "20", &format!("{url}/")];
    assert_eq!(fabric.alice.run("curl", &page).await.ok(), PAGE);
    assert_eq!(ssh(fabric, &fabric.alice, "echo through").await.ok(), "through\n");
}

/// Starts `rap connect` to a resource; returns where it listens.
pub(crate) async fn forward(fabric: &Fabric, resource: &str) -> (Process, String) {
    let words = ["connect", resource, "--listen", "127.0.0.1:0"];
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    // What the one before said is not what this one says.
    let name = format!("connect-{resource}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut forward = fabric.alice.start(&name, "rap", &words, &fabric.logs());
    let address = forward
        .says("where it listens", PATIENCE, |line| {
            let start = line.find("127.0.0.1:")?;
            let end = line[start..].find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ':')));
            Some(line[start..].get(..end.unwrap_or(line.len() - start))?.to_owned())
        })
        .await;
    (forward, format!("http://{address}"))
}

async fn same_folder(person: &Person, one: &Path, other: &Path) {
    let (one, other) = (one.to_string_lossy(), other.to_string_lossy());
    assert_eq!(person.run("diff", &["-r", &*one, &*other]).await.ok(), "");
}

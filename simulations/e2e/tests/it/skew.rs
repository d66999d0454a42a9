//! A fabric is updated from the release before to this one, program by program, and goes on.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rap_e2e::{FIRST, Fabric, NODES, PAGE, Person, Space, items, programs};
use serde_json::Value;

use super::{everyday::forward, ssh, step};

/// Where `cargo xtask skew` puts the programs of the release before.
const OLDER_PROGRAMS: &str = "RAP_OLDER_BIN_DIR";
const SECOND: u16 = 1;
const WITH_SPARE: [Space; 4] = [Space::Entry, Space::Relay, Space::Egress, Space::Spare];
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the programs are.
struct Releases {
    older: PathBuf,
    newer: PathBuf,
}

#[tokio::test]
async fn a_fabric_goes_on_while_its_programs_are_replaced_one_by_one() {
    let test = "skew::a_fabric_goes_on_while_its_programs_are_replaced_one_by_one";
    let Some(older) = env::var_os(OLDER_PROGRAMS).map(PathBuf::from) else {
        return super::skip(test, "no programs of the release before; cargo xtask skew makes them");
    };
    if super::rootless::is_for_a_child(test) {
        return;
    }
    let releases = Releases { older: older.clone(), newer: programs() };
    step("everything is of the release before");
    let mut fabric = match Fabric::start_from(older, |lab| lab.let_client_pass()).await {
        Ok(fabric) => fabric,
        Err(reason) => return super::skip(test, &reason),
    };
    are_of(&fabric, &releases.older, &NODES);
    works(&mut fabric, &releases).await;

    step("a newer control server joins an older one");
    fabric.start_next_from(releases.newer.clone());
    fabric.migrate().await.ok();
    fabric.add_replica(SECOND).await;
    each_reads_what_the_other_appended(&fabric).await;
    works(&mut fabric, &releases).await;

    step("newer control servers have older nodes");
    fabric.stop_replica(FIRST).await;
    fabric.start_replica(FIRST).await;
    an_older_entry_joins(&mut fabric, &releases).await;
    let words = ["mesh", "set", "--platform", "--class", "bulk", "bandwidth=40"];
    fabric.owner.with_programs(&releases.newer).rap(&words).await.ok();
    fabric.settle().await;
    are_of(&fabric, &releases.older, &WITH_SPARE);
    works(&mut fabric, &releases).await;

    nodes_are_replaced(&mut fabric, &releases).await;
    step("everything is of this release");
    are_of(&fabric, &releases.newer, &WITH_SPARE);
    works(&mut fabric, &releases).await;
    the_log_is_whole(&fabric, &releases).await;
}

/// The agents that run on these hosts were started from this folder.
fn are_of(fabric: &Fabric, programs: &Path, spaces: &[Space]) {
    let programs = fs::canonicalize(programs).unwrap();
    for space in spaces {
        let running = format!("/proc/{}/exe", fabric.agent_process(*space));
        let program = fs::read_link(running).unwrap();
        assert_eq!(program.parent(), Some(&*programs), "{space:?}");
    }
}

/// A shell and a page, which take other lanes, for whoever has either release's `rap`.
async fn works(fabric: &mut Fabric, releases: &Releases) {
    for programs in [&releases.older, &releases.newer] {
        fabric.alice = fabric.alice.with_programs(programs);
        assert_eq!(ssh(fabric, &fabric.alice, "echo through").await.ok(), "through\n");
        let (_forward, url) = forward(fabric, "demo-web").await;
        let page = ["-sS", "--max-time", "20", &format!("{url}/")];
        assert_eq!(fabric.alice.run("curl", &page).await.ok(), PAGE);
    }
}

async fn each_reads_what_the_other_appended(fabric: &Fabric) {
    let words = ["token", "api", "create", "skew", "--scope", "read", "-o", "json"];
    let created = fabric.owner.rap(&words).await.json();
    let bearer = format!("authorization: Bearer {}", created["secret"].as_str().unwrap());
    let second = fabric.owner_at(SECOND).await;
    let both = [(&fabric.owner, "of-first", SECOND), (&second, "of-second", FIRST)];
    for (owner, name, other) in both {
        owner.rap(&["org", "create", name, "--owner", "bob"]).await.ok();
        let position = position_of(owner, name).await;
        let url = fabric.replica_url(other);
        let url = format!("{url}/api/v1/organizations?min_position={position}");
        let read = owner.run("curl", &["-sSfk", "-H", &bearer, &url]).await.json();
        assert!(items(&read).iter().any(|found| found["name"] == name), "{name}: {read}");
    }
    assert!(fabric.is_ready(FIRST).await && fabric.is_ready(SECOND).await);
}

/// Where the log has the creation of an organization.
async fn position_of(owner: &Person, organization: &str) -> u64 {
    let log = items(&owner.rap(&["audit", "log", "-o", "json"]).await.json());
    let is_it = |event: &&Value| {
        event["type"] == "organization.created" && event["payload"]["name"] == organization
    };
    let created = log.iter().find(is_it).unwrap_or_else(|| panic!("{log:#?}"));
    created["position"].as_u64().unwrap()
}

/// Its certificate is issued by the newer control.
async fn an_older_entry_joins(fabric: &mut Fabric, releases: &Releases) {
    fabric.start_next_from(releases.older.clone());
    fabric.add_relay().await;
    fabric.owner.rap(&["node", "roles", "spare", "entry-node"]).await.ok();
    fabric.settle().await;
}

/// Between them, each of entry, relay and egress is the newer one of a path, and the older one.
async fn nodes_are_replaced(fabric: &mut Fabric, releases: &Releases) {
    step("the relay is newer");
    fabric.start_next_from(releases.newer.clone());
    fabric.replace_agent(Space::Relay).await;
    works(fabric, releases).await;

    step("the entry is newer, the egress older");
    fabric.replace_agent(Space::Entry).await;
    fabric.agent(Space::Spare).stop(PATIENCE).await;
    are_of(fabric, &releases.newer, &[Space::Entry]);
    are_of(fabric, &releases.older, &[Space::Egress]);
    works(fabric, releases).await;

    step("the entry is older, the egress newer");
    fabric.start_next_from(releases.older.clone());
    fabric.start_agent(Space::Spare);
    fabric.start_next_from(releases.newer.clone());
    fabric.replace_agent(Space::Egress).await;
    fabric.agent(Space::Entry).stop(PATIENCE).await;
    are_of(fabric, &releases.older, &[Space::Spare]);
    are_of(fabric, &releases.newer, &[Space::Egress]);
    works(fabric, releases).await;

    fabric.start_agent(Space::Entry);
    fabric.replace_agent(Space::Spare).await;
}

/// What either `rap` finds in an export, and in a replay by the newer control.
async fn the_log_is_whole(fabric: &Fabric, releases: &Releases) {
    let export = fabric.scratch().join("export").to_string_lossy().into_owned();
    let newer = fabric.owner.with_programs(&releases.newer);
    newer.rap(&["audit", "export", &export]).await.ok();
    let mut found = Vec::new();
    for programs in [&releases.older, &releases.newer] {
        let owner = fabric.owner.with_programs(programs);
        let replay = owner.rap(&["audit", "replay", "-o", "json"]).await.json();
        assert_eq!(replay["equal"], true, "{replay}");
        let verified = owner.rap(&["audit", "verify", &export, "-o", "json"]).await.json();
        found.push(["log", "size", "root", "payloads"].map(|field| verified[field].clone()));
    }
    assert_eq!(found[0], found[1]);
    assert!(found[0].iter().all(|said| !said.is_null()), "{found:?}");
}

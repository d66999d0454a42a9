//! What people may do, and what is left of somebody who was erased, as `rap` says it.

use std::path::Path;

use serde_json::{Value, json};

use super::Fabric;
use crate::program::{Person, Run};

const CALLED: &str = "Carol Quick";

impl Fabric {
    /// What `rap can` answers; it exits with 4 where that is no.
    #[track_caller]
    fn can(&self, words: &[&str], code: i32) -> Value {
        let run = self.admin(&[&["can"], words, &["-o", "json"]].concat());
        assert_eq!(run.code, code, "{run:?}");
        serde_json::from_str(&run.stdout).unwrap()
    }
}

/// Whether alice reaches the demo is answered by the policy that says so, now and as of before it.
pub(super) fn reach(fabric: &Fabric) {
    let said = fabric.admin(&["can", "alice", "reach", "demo-web"]).ok();
    assert!(said.contains("permit") && said.contains("alice-demo"), "{said}");
    let now = fabric.can(&["alice", "reach", "demo-web"], 0);
    assert_eq!(
        (&now["verdict"], &now["rules"][0]["policy"]),
        (&json!("permit"), &json!("alice-demo"))
    );

    let made = position(fabric, "policy.created");
    let then = |position: u64, code| {
        let position = position.to_string();
        fabric.can(&["alice", "reach", "demo-web", "--as-of", &position], code)
    };
    let (before, since) = (then(made - 1, 4), then(made, 0));
    assert_eq!((&before["verdict"], &before["rules"]), (&json!("forbid"), &json!([])));
    assert_eq!((&since["rules"], &since["position"]), (&now["rules"], &json!(made)));
    assert_ne!(before["policyHash"], since["policyHash"]);
    let said = fabric.admin(&["can", "nobody", "reach", "demo-web"]).fails(5);
    assert!(!said.contains("alice-demo"), "{said}");
}

/// What carol may do changes with her role, and stays what it was as of before.
pub(super) fn act(fabric: &Fabric) {
    fabric.admin(&["user", "create", "carol", "--display-name", CALLED]).ok();
    fabric.admin(&["org", "set-member", "demo", "carol", "organization_user"]).ok();
    let before = fabric.can(&["carol", "do", "resource.create"], 4);
    assert_eq!((&before["verdict"], &before["rules"]), (&json!("forbid"), &json!([])));
    fabric.admin(&["org", "set-member", "demo", "carol", "organization_admin"]).ok();
    let now = fabric.can(&["carol", "do", "resource.create"], 0);
    assert_eq!(now["rules"], json!([{"rule": "builtin/organization_admin"}]));
    fabric.can(&["carol", "do", "resource.change", "--on", "demo-web"], 0);
    let position = before["position"].to_string();
    let then = fabric.can(&["carol", "do", "resource.create", "--as-of", &position], 4);
    assert_eq!(then, before);
    fabric.admin(&["can", "carol", "do", "no.such_action"]).fails(5);
}

/// Carol is erased: nothing shows her name, and what was exported before and after verifies.
pub(super) fn forget(fabric: &Fabric) {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = ["before", "after"].map(|name| folder.path().join(name));
    let shown = fabric.admin(&["user", "get", "carol"]).ok();
    assert!(shown.contains(CALLED), "{shown}");
    let secrets = withheld(fabric, &before, &[]);

    // Nobody is asked where there is no terminal, and nothing is erased then.
    let refused = fabric.admin(&["user", "erase", "carol"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(fabric.admin(&["user", "get", "carol"]).ok().contains(CALLED));
    fabric.alice().rap(&["user", "erase", "carol", "--yes"]).fails(5);
    fabric.admin(&["user", "erase", "carol", "--yes"]).ok();

    let said = [&["user", "get", "carol"][..], &["user", "ls"], &["audit", "log", "--since", "1h"]]
        .map(|words| fabric.admin(words).ok());
    assert!(said[0].contains("erased"), "{}", said[0]);
    assert!(said.iter().all(|text| !text.contains(CALLED)), "{said:?}");
    let known = ["--known", before.to_str().unwrap()];
    assert!(withheld(fabric, &after, &known) > secrets, "what says her name is given to nobody");
    offline(&before, &[]).ok();
}

/// The position of the first event of a type.
fn position(fabric: &Fabric, event_type: &str) -> u64 {
    let log = fabric.admin(&["audit", "log", "--since", "1h", "-o", "json"]).ok();
    let log: Value = serde_json::from_str(&log).unwrap();
    let mut events = log.as_array().unwrap().iter();
    let found = events.find(|event| event["type"] == event_type).unwrap();
    found["position"].as_u64().unwrap()
}

/// Exports the log and verifies that; returns how many payloads are withheld.
fn withheld(fabric: &Fabric, folder: &Path, words: &[&str]) -> u64 {
    fabric.admin(&["audit", "export", folder.to_str().unwrap()]).ok();
    let found: Value = serde_json::from_str(&offline(folder, words).ok()).unwrap();
    let [size, payloads] = ["size", "payloads"].map(|name| found[name].as_u64().unwrap());
    size - payloads
}

fn offline(folder: &Path, words: &[&str]) -> Run {
    let verify = ["audit", "verify", folder.to_str().unwrap(), "-o", "json"];
    Person::new().rap(&[&verify[..], words].concat())
}

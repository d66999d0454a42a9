//! Tiers: a core crate is pure and its manifest proves it; crates depend one way.

use crate::{
    Violation,
    workspace::{Crate, Workspace},
};

/// What a core crate may depend on besides core crates: values, encodings and cryptography that
/// neither wait, nor read a clock, nor draw random numbers, nor open anything.
const PURE: &[&str] = &[
    "base64",
    "bytes",
    "cedar-policy", // built without its extensions: no network addresses, no calendar
    "ed25519-dalek",
    "futures-util", // the log's port returns boxed futures; only their types are used
    "miette",       // only its trait, which tells where in a text an error is
    "p256",
    "rmp-serde",
    "serde",
    "serde_bytes",
    "serde_json",
    "sha2",
    "signed_note",
    "subtle",
    "thiserror",
    "tlog_tiles",
    "time", // built without its clock
    "utoipa",
    "uuid", // built without its random source
    "zeroize",
];

/// Which crates of ours a crate may use. Programs and tests may use any.
const EDGES: &[(&str, &[&str])] = &[
    ("rap-proto", &[]),
    ("rap-pki", &["rap-proto"]),
    ("rap-bus", &["rap-proto"]),
    ("rap-tlog", &["rap-proto"]),
    ("rap-events", &["rap-proto", "rap-tlog"]),
    ("rap-log-postgres", &["rap-proto", "rap-pki", "rap-tlog", "rap-events"]),
    ("rap-control-core", &["rap-proto", "rap-tlog", "rap-events"]),
    (
        "rap-control",
        &[
            "rap-proto",
            "rap-tlog",
            "rap-pki",
            "rap-bus",
            "rap-events",
            "rap-log-postgres",
            "rap-control-core",
        ],
    ),
    ("rap-mesh-core", &["rap-proto"]),
    ("rap-splice", &[]),
    ("rap-watch", &[]),
    ("rap-mesh", &["rap-proto", "rap-pki", "rap-splice", "rap-watch", "rap-mesh-core"]),
    ("rap-agent-core", &["rap-proto", "rap-tlog"]),
    (
        "rap-node-agent",
        &[
            "rap-proto",
            "rap-tlog",
            "rap-pki",
            "rap-bus",
            "rap-watch",
            "rap-mesh-core",
            "rap-mesh",
            "rap-agent-core",
            "rap-adapter-contract",
        ],
    ),
    ("rap-adapter-contract", &["rap-proto"]),
    ("rap-stream-worker", &["rap-proto", "rap-splice", "rap-adapter-contract"]),
];

const TIERS: &[&str] = &["core", "shell", "program", "test"];

pub fn check(workspace: &Workspace) -> Vec<Violation> {
    workspace.crates.iter().flat_map(check_crate).collect()
}

fn check_crate(this: &Crate) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report = |rule: String| found.push(Violation::new(&this.folder, rule));
    if !TIERS.contains(&this.tier.as_str()) {
        report(format!("tier {:?} is none of {}", this.tier, TIERS.join(", ")));
    }
    if !this.inherits_lints {
        report("the manifest does not inherit the workspace's lints".into());
    }
    if this.test_binaries > 1 {
        report(format!("{} test binaries; each costs a link, use one", this.test_binaries));
    }
    let edges = EDGES.iter().find(|(name, _)| *name == this.name).map(|(_, edges)| *edges);
    let bounded = matches!(this.tier.as_str(), "core" | "shell");
    if bounded && edges.is_none() {
        report("the crate is not in the table of edges".into());
    }
    for dependency in &this.dependencies {
        let ours = dependency.starts_with("rap-");
        if ours && bounded && !edges.unwrap_or_default().contains(&dependency.as_str()) {
            report(format!("may not depend on {dependency}"));
        }
        if !ours && this.tier == "core" && !PURE.contains(&dependency.as_str()) {
            report(format!("is core and may not depend on {dependency}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted(name: &str, tier: &str, dependencies: &[&str]) -> Crate {
        Crate {
            name: name.into(),
            folder: "planted".into(),
            tier: tier.into(),
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
            inherits_lints: true,
            test_binaries: 1,
        }
    }

    fn rules(this: &Crate) -> Vec<String> {
        check_crate(this).into_iter().map(|found| found.rule).collect()
    }

    #[test]
    fn a_core_crate_with_a_runtime_is_found() {
        let this = planted("rap-mesh-core", "core", &["rap-proto", "tokio"]);
        assert_eq!(rules(&this), ["is core and may not depend on tokio"]);
    }

    #[test]
    fn an_upward_edge_is_found() {
        let this = planted("rap-node-agent", "shell", &["rap-events"]);
        assert_eq!(rules(&this), ["may not depend on rap-events"]);
    }

    #[test]
    fn a_crate_without_tier_lints_or_edges_is_found() {
        let mut this = planted("rap-new", "shell", &[]);
        this.inherits_lints = false;
        this.test_binaries = 2;
        assert_eq!(rules(&this).len(), 3);
        this.tier = "layer".into();
        assert_eq!(rules(&this).len(), 3);
    }
}

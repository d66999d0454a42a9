//! Words: what never stands in the code, each with its reason.

use crate::{
    Violation,
    workspace::{Crate, Workspace},
};

/// Banned everywhere but in this crate.
const BANNED: &[(&str, &str)] = &[
    (".do_send(", "do_send ignores the mailbox's bound: use try_send or send"),
    ("ctx.wait(", "ctx.wait stalls the mailbox: use spawn"),
    ("thread::sleep", "sleeping is no synchronisation: wait for the event"),
    ("#[ignore", "an ignored test proves nothing"),
    ("SystemService", "registries break when several agents share a process: pass Addrs"),
    ("ArbiterService", "registries break when several agents share a process: pass Addrs"),
    ("todo!(", "unfinished work is left out, not left in"),
    ("unimplemented!(", "unfinished work is left out, not left in"),
    ("TODO", "unfinished work goes into an issue"),
    ("FIXME", "unfinished work goes into an issue"),
    ("unsafe {", "unsafe code is forbidden"),
];

/// Banned in core crates, outside their tests.
const IMPURE: &[(&str, &str)] = &[
    ("Instant::now", "core code takes `now` as an argument"),
    ("SystemTime", "core code takes `now` as an argument"),
    ("std::fs", "core code opens no file"),
    ("std::net::Tcp", "core code opens no socket"),
    ("std::net::Udp", "core code opens no socket"),
    ("std::env", "core code reads no environment"),
    ("std::thread", "core code starts no thread"),
    ("HashMap", "iteration order leaks: use BTreeMap"),
    ("HashSet", "iteration order leaks: use BTreeSet"),
];

/// What level 2 of the simulation runs: whatever chance decides in it makes one seed more than one history.
const REPEATED: &[&str] = &["mesh/quic/src/", "agent/daemon/src/", "simulations/world/"];

/// Not used there.
const WATCH: &str = "sync::watch: tokio wakes those who watch by chance: use rap_watch";
const UNBIASED: &str = "select!: tokio asks first whom chance says: begin with `biased;`";

/// Parts of type and file names that say nothing.
const EMPTY_NAMES: &[&str] = &["Manager", "Helper", "Util", "Common", "Misc"];

/// Files with a name that says nothing.
const EMPTY_FILES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "manager"];

pub fn check(workspace: &Workspace) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in &workspace.sources {
        if path.starts_with("simulations/tidy/") {
            continue;
        }
        let core = workspace
            .crates
            .iter()
            .filter(|this| path.starts_with(&format!("{}/src/", this.folder)))
            .any(|this: &Crate| this.tier == "core");
        found.extend(check_file(path, text, core));
    }
    found
}

fn check_file(path: &str, text: &str, core: bool) -> Vec<Violation> {
    let mut found = Vec::new();
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    if EMPTY_FILES.contains(&stem) {
        found.push(Violation::new(path, format!("the file name {stem:?} says nothing")));
    }
    let is_repeated = REPEATED.iter().any(|folder| path.starts_with(folder));
    let mut in_tests = path.contains("/tests/") || path.ends_with("tests.rs");
    for (number, line) in text.lines().enumerate() {
        in_tests |= line == "mod tests {";
        let place = || format!("{path}:{}", number + 1);
        let impure = if core && !in_tests { IMPURE } else { &[] };
        for (word, reason) in BANNED.iter().chain(impure) {
            if line.contains(word) {
                found.push(Violation::new(place(), format!("{word}: {reason}")));
            }
        }
        if is_repeated && takes_watch(line) {
            found.push(Violation::new(place(), WATCH.to_owned()));
        }
        if is_repeated && line.contains("select! {") && !is_biased(text, number) {
            found.push(Violation::new(place(), UNBIASED.to_owned()));
        }
        if let Some(name) = defined_type(line)
            && EMPTY_NAMES.iter().any(|part| name.contains(part))
        {
            found.push(Violation::new(place(), format!("the name {name} says nothing")));
        }
    }
    found
}

/// Whether a line names tokio's watch, alone or with others.
fn takes_watch(line: &str) -> bool {
    let listed = line.split_once("sync::{").map_or("", |(_, listed)| listed);
    line.contains("sync::watch") || listed.split(['{', '}', ',', ' ']).any(|name| name == "watch")
}

/// Whether a `select!` that begins in this line asks in the order of its branches.
fn is_biased(text: &str, number: usize) -> bool {
    let mut lines = text.lines().skip(number + 1).map(str::trim);
    lines.find(|line| !line.starts_with("//")) == Some("biased;")
}

/// The name of the type that a line defines.
fn defined_type(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = ["pub(crate) ", "pub(super) ", "pub "]
        .iter()
        .find_map(|visibility| line.strip_prefix(visibility))
        .unwrap_or(line);
    let rest =
        ["struct ", "enum ", "trait ", "type "].iter().find_map(|kind| line.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str, core: bool) -> usize {
        check_file(path, text, core).len()
    }

    #[test]
    fn every_banned_word_is_found() {
        for (word, _) in BANNED {
            assert_eq!(rules("a/src/b.rs", word, false), 1, "{word}");
        }
    }

    #[test]
    fn impurity_is_found_in_core_outside_its_tests() {
        for (word, _) in IMPURE {
            assert_eq!(rules("a/src/b.rs", word, true), 1, "{word}");
            assert_eq!(rules("a/src/b.rs", word, false), 0, "{word}");
            assert_eq!(rules("a/src/b.rs", &format!("mod tests {{\n{word}"), true), 0, "{word}");
        }
    }

    #[test]
    fn what_chance_decides_is_found_where_seeds_repeat() {
        let random = "    tokio::select! {\n        () = one() => {}";
        let ordered = "    tokio::select! {\n        // The first one first.\n        biased;";
        for folder in REPEATED {
            let path = format!("{folder}b.rs");
            for line in ["use tokio::sync::watch;", "    sync::{mpsc, watch},", "sync::{watch}"] {
                assert_eq!(rules(&path, line, false), 1, "{line}");
                assert_eq!(rules("client/src/b.rs", line, false), 0, "{line}");
            }
            assert_eq!(rules(&path, "use tokio::{sync::{mpsc, watcher}};", false), 0);
            assert_eq!((rules(&path, random, false), rules(&path, ordered, false)), (1, 0));
        }
        assert_eq!(rules("client/src/b.rs", random, false), 0);
    }

    #[test]
    fn empty_names_are_found() {
        assert_eq!(rules("a/src/b.rs", "pub struct SessionManager {", false), 1);
        assert_eq!(rules("a/src/utils.rs", "", false), 1);
        assert_eq!(rules("a/src/b.rs", "pub struct Session {", false), 0);
    }
}

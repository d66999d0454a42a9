//! Logs audited by `rap` and by programs that are not ours ([`others`]), as `rap audit export` wrote
//! them: one of 100,000 events ([`stored`]), and one of a fabric, which was archived as well.

mod others;
mod stored;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rap_e2e::{Fabric, programs};
use rap_events::export::next_width;
use rap_tlog::{
    TileId, VerifierKey,
    tile::{Content, WIDTH, bundle_from_bytes, bundle_to_bytes},
};

use self::{
    others::{Others, check_with_openssl},
    stored::Exports,
};

/// More than 100,000 events, by what control itself appends.
const LEAST: u64 = 100_000;

/// The keys that a folder has: of P-256 and of Ed25519.
fn keys_of(folder: &Path) -> [VerifierKey; 2] {
    let keys = fs::read_to_string(folder.join("keys")).unwrap();
    let keys: Vec<VerifierKey> = keys.lines().map(|line| line.parse().unwrap()).collect();
    keys.try_into().unwrap()
}

/// `rap audit verify`: what it printed, and whether it was content.
fn verify(folder: &Path, known: Option<&Path>) -> (bool, String) {
    let mut command = Command::new(programs().join("rap"));
    command.args(["audit", "verify", "-o", "json"]).arg(folder).env("RAP_HOME", folder);
    let keys = keys_of(folder);
    command.args(keys.iter().flat_map(|key| ["--key".to_owned(), key.to_string()]));
    if let Some(known) = known {
        command.arg("--known").arg(known);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), text)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// How many events a folder has by its checkpoint.
fn size_of(folder: &Path) -> u64 {
    let note = fs::read_to_string(folder.join("checkpoint")).unwrap();
    note.lines().nth(1).unwrap().parse().unwrap()
}

/// The bundle of entries that holds `position`, and its place therein.
fn bundle_of(folder: &Path, position: u64) -> (PathBuf, usize) {
    let index = (position - 1) / u64::from(WIDTH);
    let width = next_width(index * u64::from(WIDTH), size_of(folder));
    let tile = TileId { content: Content::Entries, index, width };
    (folder.join(tile.path()), usize::try_from((position - 1) % u64::from(WIDTH)).unwrap())
}

fn change_entries(folder: &Path, position: u64, change: impl FnOnce(&mut Vec<Vec<u8>>, usize)) {
    let (path, at) = bundle_of(folder, position);
    let bytes = fs::read(&path).unwrap();
    let mut entries: Vec<Vec<u8>> =
        bundle_from_bytes(&bytes).unwrap().into_iter().map(<[u8]>::to_vec).collect();
    change(&mut entries, at);
    fs::write(path, bundle_to_bytes(entries.iter().map(Vec::as_slice)).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_log_is_audited_by_programs_that_are_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    let exports = Exports::make(&dir).await;
    let (whole, size) = (&exports.whole, size_of(&exports.whole));
    assert!(size >= LEAST, "{size} events");
    super::step("it is accepted as it is");
    let (intact, said) = verify(whole, Some(&exports.earlier));
    assert!(intact && said.contains(&format!("\"size\": {size}")), "{said}");
    check_with_openssl(whole);
    let other = Others::find("proof::an_exported_log_is_audited_by_programs_that_are_not_ours");
    if let Some(other) = &other {
        assert!(other.accepts_head(whole));
        assert!(other.accepts_whole(whole));
        assert!(other.accepts_growth(whole, &exports.earlier.join("checkpoint")));
        for position in [1, 65_537, size] {
            assert!(other.accepts_entry(whole, position, position), "{position}");
        }
        assert!(!other.accepts_entry(whole, 2, 1), "it can say no");
    }
    super::step("whatever is changed is found, and named by its position");
    every_change_is_found(&exports, other.as_ref());
    every_other_history_is_found(&exports, other.as_ref());
}

/// What a control over PostgreSQL wrote away, as an auditor and as an operator have it.
pub(crate) async fn a_real_log_is_audited(fabric: &Fabric) {
    let [export, archive] = ["export", "archive"].map(|name| fabric.scratch().join(name));
    fabric.owner.rap(&["audit", "export", text(&export)]).await.ok();
    let size = size_of(&export);
    println!("  of {size} events");
    fabric.archive(size, &archive).await.ok();
    assert_eq!(size_of(&archive), size - 1);
    let (intact, said) = verify(&export, Some(&archive));
    assert!(intact, "{said}");
    let other = Others::find("proof::a_real_log_is_audited");
    let grew = |other: &Others| other.accepts_growth(&export, &archive.join("checkpoint"));
    assert!(other.as_ref().is_none_or(grew));
    for folder in [&export, &archive] {
        audit_and_damage(folder, other.as_ref());
    }
}

fn audit_and_damage(folder: &Path, other: Option<&Others>) {
    let size = size_of(folder);
    let (intact, said) = verify(folder, None);
    assert!(intact && said.contains(&format!("\"size\": {size}")), "{said}");
    check_with_openssl(folder);
    if let Some(other) = other {
        assert!(other.accepts_head(folder) && other.accepts_whole(folder));
        for position in [1, size / 2, size] {
            assert!(other.accepts_entry(folder, position, position), "{position} of {size}");
        }
    }
    let position = size / 2;
    change_entries(folder, position, |entries, at| *entries[at].last_mut().unwrap() ^= 1);
    let (intact, said) = verify(folder, None);
    assert!(!intact && said.contains(&format!("position {position}")), "{said}");
    assert!(other.is_none_or(|other| !other.accepts_entry(folder, position, position)));
    assert!(other.is_none_or(|other| !other.accepts_whole(folder)));
    let checkpoint = folder.join("checkpoint");
    let note = fs::read_to_string(&checkpoint).unwrap();
    let (origin, rest) = note.split_once('\n').unwrap();
    let shorter = rest.replacen(&size.to_string(), &(size - 1).to_string(), 1);
    fs::write(&checkpoint, format!("{origin}\n{shorter}")).unwrap();
    assert!(!verify(folder, None).0);
    assert!(other.is_none_or(|other| !other.accepts_head(folder)));
}

fn every_change_is_found(exports: &Exports, other: Option<&Others>) {
    let changed = |name: &str, change: &dyn Fn(&Path)| -> PathBuf {
        let folder = exports.whole.with_file_name(name);
        let copied = Command::new("cp").arg("-r").args([&exports.whole, &folder]).status();
        assert!(copied.unwrap().success());
        change(&folder);
        folder
    };
    let misses = |folder: &Path, position: u64| {
        let refuses = |other: &Others| {
            !other.accepts_entry(folder, position, position) && !other.accepts_whole(folder)
        };
        assert!(other.is_none_or(refuses));
    };

    let flipped = changed("flipped", &|folder| {
        change_entries(folder, 70_001, |entries, at| *entries[at].last_mut().unwrap() ^= 1);
    });
    found(&flipped, None, 70_001);
    misses(&flipped, 70_001);

    let removed = changed("removed", &|folder| {
        change_entries(folder, 4_242, |entries, at| {
            entries.remove(at);
            entries.push(Vec::new());
        });
    });
    found(&removed, None, 4_242);
    misses(&removed, 4_242);

    let reordered = changed("reordered", &|folder| {
        change_entries(folder, 50_001, |entries, at| entries.swap(at, at + 1));
    });
    found(&reordered, None, 50_001);
    misses(&reordered, 50_001);
    misses(&reordered, 50_002);

    let payloads = changed("payload", &|folder| {
        let path = folder.join("payloads/003");
        let mut bytes = fs::read(&path).unwrap();
        bytes[2] ^= 1;
        fs::write(path, bytes).unwrap();
    });
    // Only we know what an entry says of its payload.
    found(&payloads, None, 769);
}

/// A log that is intact by its own head, but not the one that was known.
fn every_other_history_is_found(exports: &Exports, other: Option<&Others>) {
    let Exports { earlier, whole, fork, shared } = exports;
    let grew = |folder: &Path, out_of: &Path| {
        other.is_some_and(|other| other.accepts_growth(folder, &out_of.join("checkpoint")))
    };
    assert!(verify(earlier, None).0);
    found(earlier, Some(whole), size_of(earlier) + 1);
    assert!(!grew(earlier, whole));

    assert!(verify(fork, None).0, "it is a log of its own");
    found(whole, Some(fork), shared + 1);
    assert!(!grew(whole, fork));
}

fn found(folder: &Path, known: Option<&Path>, position: u64) {
    let (intact, said) = verify(folder, known);
    let named = said.contains(&format!("position {position}"));
    assert!(!intact && named, "position {position} is not in: {said}");
}

//! Logs audited by `rap` and by programs that are not ours ([`others`]). One has 100,000 events and is
//! written here; one is what a control over PostgreSQL exported and archived.

mod others;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bytes::Bytes;
use rap_e2e::{Fabric, programs};
use rap_events::{
    Append, Log, MemoryLog, StreamId,
    export::next_width,
    log::{NewEvent, StreamWrite},
    tree::{Tree as _, read_tile},
};
use rap_pki::pem;
use rap_proto::{ClusterId, CommandId, Signer as _, Timestamp, key::LocalKey};
use rap_tlog::{
    HeadKey, TileId, TreeHead, VerifierKey,
    tile::{Content, WIDTH, bundle_from_bytes, bundle_to_bytes},
};
use uuid::Uuid;

use self::others::{Others, check_with_openssl};

const SIZE: u64 = 100_000;
const APPEND: u64 = 250;
const STREAMS: u64 = 40;
const CLUSTER: ClusterId = ClusterId::from_u128(11);

fn control() -> LocalKey {
    LocalKey::from_random(&[1; 32]).unwrap()
}

fn ed25519() -> HeadKey {
    HeadKey::from_seed(&[2; 32])
}

fn keys() -> [VerifierKey; 2] {
    [VerifierKey::p256(CLUSTER, control().public_key()), VerifierKey::ed25519(CLUSTER, &ed25519())]
}

/// The payload at a position, in one history or another.
fn payload(position: u64, fork: Option<u64>) -> Bytes {
    let story = fork.is_some_and(|fork| position >= fork);
    Bytes::from(format!("event {position}, story {story}").into_bytes())
}

/// Many streams in turn; from `fork` on another history.
async fn log(fork: Option<u64>) -> MemoryLog {
    let log = MemoryLog::new();
    for first in (1..=SIZE).step_by(usize::try_from(APPEND).unwrap()) {
        let number = first / APPEND;
        let event = |position| NewEvent {
            event_type: "thing.happened".to_owned(),
            schema: 1,
            payload: payload(position, fork),
            organization: None,
        };
        let write = StreamWrite {
            stream: StreamId::new("thing", Uuid::from_u128(u128::from(number % STREAMS))),
            expected: number / STREAMS * APPEND,
            events: (first..first + APPEND).map(event).collect(),
        };
        let append = Append::plain(
            CommandId::from_u128(u128::from(number)),
            Timestamp::from_unix_millis(i64::try_from(first).unwrap()),
            vec![write],
        );
        log.append(append).await.unwrap();
    }
    log
}

/// Writes what `rap audit export` writes, of the first `size` events.
async fn export(log: &MemoryLog, size: u64, folder: &Path) {
    let write = |path: &str, bytes: &[u8]| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let levels =
        TileId::levels(size).flat_map(|level| TileId::all(Content::Hashes { level }, size));
    for tile in levels.chain(TileId::all(Content::Entries, size)) {
        write(&tile.path(), &read_tile(log, tile).await.unwrap());
    }
    for tile in TileId::all(Content::Entries, size) {
        let events = log.read(tile.first(), usize::from(tile.width)).await.unwrap();
        let bundle = bundle_to_bytes(events.iter().map(|event| &event.payload[..])).unwrap();
        write(&tile.path().replace("tile/entries", "payloads"), &bundle);
    }
    write("checkpoint", &head(log, size).await.sign(&control(), &ed25519()));
    write("keys", keys().map(|key| key.to_string() + "\n").concat().as_bytes());
    write("control.pem", pem::encode_public_key(&control().public_key().to_spki()).as_bytes());
}

async fn head(log: &MemoryLog, size: u64) -> TreeHead {
    let mut frontier = rap_tlog::Frontier::default();
    while frontier.size() < size {
        let leaves = log.hashes(0, frontier.size(), WIDTH).await.unwrap();
        for leaf in leaves.into_iter().take(usize::try_from(size - frontier.size()).unwrap()) {
            frontier.push(leaf);
        }
    }
    TreeHead { cluster: CLUSTER, size, root: frontier.root(), said_epoch: Some(1) }
}

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
    let home = tempfile::tempdir().unwrap();
    let (folder, earlier) = (home.path().join("log"), home.path().join("earlier"));
    let log = log(None).await;
    export(&log, SIZE, &folder).await;
    fs::write(&earlier, head(&log, 70_001).await.sign(&control(), &ed25519())).unwrap();

    let (intact, said) = verify(&folder, Some(&earlier));
    assert!(intact && said.contains("\"size\": 100000"), "{said}");
    check_with_openssl(&folder);

    let test = "proof::an_exported_log_is_audited_by_programs_that_are_not_ours";
    let Some(other) = Others::find(test) else { return };
    assert!(other.accepts_head(&folder));
    assert!(other.accepts_whole(&folder));
    assert!(other.accepts_growth(&folder, &earlier));
    for position in [1, 65_537, SIZE] {
        assert!(other.accepts_entry(&folder, position, position), "{position}");
    }
    assert!(!other.accepts_entry(&folder, 2, 1), "it can say no");
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

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_change_an_exported_log_is_found_and_named_by_position() {
    let home = tempfile::tempdir().unwrap();
    let log = log(None).await;
    let fresh = async |name: &str, size: u64| -> PathBuf {
        let folder = home.path().join(name);
        export(&log, size, &folder).await;
        folder
    };
    let found = |folder: &Path, known: Option<&Path>, position: &str| {
        let (intact, said) = verify(folder, known);
        assert!(!intact && said.contains(position), "{position} is not in: {said}");
    };
    let test = "proof::every_way_to_change_an_exported_log_is_found_and_named_by_position";
    let other = Others::find(test);
    let misses = |folder: &Path, position: u64| {
        let refuses = |other: &Others| {
            !other.accepts_entry(folder, position, position) && !other.accepts_whole(folder)
        };
        assert!(other.as_ref().is_none_or(refuses));
    };

    let flipped = fresh("flipped", SIZE).await;
    change_entries(&flipped, 70_001, |entries, at| *entries[at].last_mut().unwrap() ^= 1);
    found(&flipped, None, "position 70001");
    misses(&flipped, 70_001);

    let removed = fresh("removed", SIZE).await;
    change_entries(&removed, 4_242, |entries, at| {
        entries.remove(at);
        entries.push(Vec::new());
    });
    found(&removed, None, "position 4242");
    misses(&removed, 4_242);

    let reordered = fresh("reordered", SIZE).await;
    change_entries(&reordered, 50_001, |entries, at| entries.swap(at, at + 1));
    found(&reordered, None, "position 50001");
    misses(&reordered, 50_001);
    misses(&reordered, 50_002);

    let payloads = fresh("payload", SIZE).await;
    let path = payloads.join("payloads/003");
    let mut bytes = fs::read(&path).unwrap();
    bytes[2] ^= 1;
    fs::write(path, bytes).unwrap();
    // Only we know what an entry says of its payload.
    found(&payloads, None, "position 769");

    // A shorter log with a head of its own is intact, but not the one that was known.
    let whole = fresh("whole", SIZE).await;
    let truncated = fresh("truncated", 90_000).await;
    assert!(verify(&truncated, None).0);
    found(&truncated, Some(&whole), "position 90001");
    let grew_out_of_whole = |folder: &Path| {
        let head = whole.join("checkpoint");
        other.as_ref().is_some_and(|other| other.accepts_growth(folder, &head))
    };
    assert!(!grew_out_of_whole(&truncated));

    let another = crate::proof::log(Some(60_000)).await;
    let forked = home.path().join("forked");
    export(&another, SIZE, &forked).await;
    assert!(verify(&forked, None).0, "it is a log of its own");
    found(&forked, Some(&whole), "position 60000");
    assert!(!grew_out_of_whole(&forked));
}

//! Backups of a real database by the real program, and what became of those that were changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use rap_bus::LocalBus;
use rap_control::{BusChoice, Limits, LogChoice, Rates};
use rap_log_postgres::private::{Durability, PrivatePostgres};
use rap_proto::wire::node_api::{TreeReply, TreeRequest};
use reqwest::Method;
use serde_json::json;

use crate::{
    node::{call, enroll},
    world::{Api, World, tenant},
};

/// A control server over a database of its own, and everything beside it.
struct Place {
    world: World,
    root: Api,
    // Stopped before its folder is removed.
    postgres: PrivatePostgres,
    dir: tempfile::TempDir,
    url: String,
}

/// What the program said, and whether it was content.
fn program(words: &[&str], state_dir: &Path, url: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rap-control"));
    command.args(words).arg("--state-dir").arg(state_dir).args(["--database", url]);
    let output = command.env_clear().output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), text)
}

impl Place {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("postgres");
        let postgres = PrivatePostgres::start(&folder, Durability::Fast).await.unwrap();
        let url = postgres.create_log("control").await.unwrap();
        let world = serve(tempfile::tempdir().unwrap(), &url).await;
        let root = world.set_up().await;
        Self { world, root, postgres, dir, url }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An empty one, as an operator makes it ready for a server's role.
    async fn database(&self, name: &str) -> String {
        let owner = self.postgres.create_database(name).await.unwrap();
        let url = owner.replace("rap@", "rap_server@");
        assert_ne!(url, owner);
        let said = self.fails(&["migrate"], &url);
        assert!(said.contains("as the role that owns it"), "{said}");
        for _ in 0..2 {
            let said = self.ok(&["migrate", "--owner-database", &owner], &url);
            assert_eq!(said, "the schema is up to date\n");
        }
        url
    }

    fn ok(&self, words: &[&str], url: &str) -> String {
        let (done, said) = program(words, &self.world.state_dir(), url);
        assert!(done, "{words:?}: {said}");
        said
    }

    fn fails(&self, words: &[&str], url: &str) -> String {
        let (done, said) = program(words, &self.world.state_dir(), url);
        assert!(!done, "{words:?}: {said}");
        said
    }

    /// Stops the server, and starts one over another database with the same keys.
    async fn moved_to(self, url: &str) -> Self {
        let (state, _) = self.world.stop().await;
        let world = serve(state, url).await;
        let root = world.anonymous().with_token(self.root.token.as_ref().unwrap());
        Self { world, root, url: url.to_owned(), ..self }
    }
}

async fn serve(dir: tempfile::TempDir, url: &str) -> World {
    let bus = BusChoice::Local(Arc::new(LocalBus::new()));
    let user = "100000/100000".parse().unwrap();
    let limits = Limits { rates: Rates { user, ..Rates::default() }, ..Limits::default() };
    World::start_as(dir, LogChoice::Postgres(url.to_owned()), bus, limits).await
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every file of a folder, by its path within it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_is_restored_as_it_was() {
    let place = Place::start().await;
    for number in 0..260 {
        let made = place.root.post("/organizations", json!({"name": format!("org-{number}")}));
        assert_eq!(made.await.status, 201);
    }
    let as_of = place.root.get("/audit/replay").await.json["position"].clone();
    let before = place.root.get(&format!("/audit/replay?as_of={as_of}")).await.json;
    let backup = place.path("backup");
    let said = place.ok(&["backup", text(&backup)], &place.url);
    assert!(said.starts_with("backed up: "), "{said}");
    for file in files(&backup) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    let said = place.fails(&["backup", text(&backup)], &place.url);
    assert!(said.contains("is not empty"), "{said}");
    let said = place.fails(&["restore", text(&backup)], &place.url);
    assert!(said.contains("the database is not empty"), "{said}");

    let target = place.database("target").await;
    place.ok(&["restore", text(&backup)], &target);
    let place = place.moved_to(&target).await;
    let after = place.root.get(&format!("/audit/replay?as_of={as_of}")).await.json;
    assert_eq!((&after["root"], &after["digest"]), (&before["root"], &before["digest"]));
    assert!(as_of.as_u64().unwrap() > 256, "more than one tile");
    assert_eq!(place.root.get("/audit/replay").await.json["equal"], json!(true));
    // Names that were taken are, and commands that were answered are answered alike.
    let again = place.root.post("/organizations", json!({"name": "org-7"})).await;
    assert_eq!(again.problem(), "name_taken");
    let new = place.root.post("/organizations", json!({"name": "org-new"})).await;
    assert_eq!(new.status, 201, "{}", new.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_the_keys_of_persons_also_of_one_who_is_erased_later() {
    let place = Place::start().await;
    let body = json!({"name": "alice", "displayName": "Alice of Wonderland"});
    assert_eq!(place.root.post("/users", body).await.status, 201);
    let backup = place.path("backup");
    place.ok(&["backup", text(&backup)], &place.url);
    for file in files(&backup) {
        let content = fs::read(&file).unwrap();
        assert!(!content.windows(10).any(|part| part == b"Wonderland"), "{}", file.display());
    }
    let erase = place.root.change_current(Method::POST, "/users/alice", "/erase").await;
    assert_eq!(erase.status, 200, "{}", erase.text);
    assert_eq!(place.root.get("/users/alice").await.json["displayName"], "erased");

    let target = place.database("target").await;
    place.ok(&["restore", text(&backup)], &target);
    let place = place.moved_to(&target).await;
    let shown = place.root.get("/users/alice").await.json;
    assert_eq!(shown["displayName"], "Alice of Wonderland", "the erasure came later");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_changed_anywhere_is_refused_and_nothing_is_stored() {
    let place = Place::start().await;
    place.root.post("/organizations", json!({"name": "acme"})).await;
    let backup = place.path("backup");
    place.ok(&["backup", text(&backup)], &place.url);
    let target = place.database("target").await;
    for file in files(&backup) {
        // For other programs only.
        if ["keys", "control.pem"].iter().any(|name| file.ends_with(name)) {
            continue;
        }
        let bytes = fs::read(&file).unwrap();
        for changed in [[&bytes[..], b"\n"].concat(), flipped(&bytes)] {
            fs::write(&file, changed).unwrap();
            place.fails(&["restore", text(&backup)], &target);
        }
        fs::remove_file(&file).unwrap();
        place.fails(&["restore", text(&backup)], &target);
        fs::write(&file, bytes).unwrap();
    }
    let strangers = tempfile::tempdir().unwrap();
    let (done, said) = program(&["restore", text(&backup)], strangers.path(), &target);
    assert!(!done && said.contains("is missing"), "{said}");
    let other = World::start().await;
    let (done, said) = program(&["restore", text(&backup)], &other.state_dir(), &target);
    assert!(!done && said.contains("not signed by this cluster's control key"), "{said}");
    // Nothing of all that was stored: the whole one still finds an empty database.
    place.ok(&["restore", text(&backup)], &target);
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    match bytes.get_mut(middle) {
        Some(byte) => *byte ^= 1,
        None => bytes.push(7),
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_older_than_what_a_node_saw_is_found_out() {
    let place = Place::start().await;
    let acme = tenant(&place.world, &place.root, "acme").await;
    let host = enroll(&place.world, &acme.join_secret, "edge-1").await;
    let credentials = host.credentials().unwrap().clone();
    let backup = place.path("backup");
    place.ok(&["backup", text(&backup)], &place.url);

    place.root.post("/organizations", json!({"name": "later"})).await;
    let ask = async |world: &World, known: &[u8]| {
        let request = TreeRequest { known: known.to_vec(), witness: Vec::new() };
        call(world, &credentials, &host.key, "/node/v1/tree", &request).await
    };
    let seen: TreeReply = ask(&place.world, b"").await.read();

    let target = place.database("target").await;
    place.ok(&["restore", text(&backup)], &target);
    let place = place.moved_to(&target).await;
    ask(&place.world, &seen.head).await;
    let refused = place.root.post("/organizations", json!({"name": "after"})).await;
    assert_eq!(refused.problem(), "authority_frozen", "{}", refused.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_holds_what_is_before_a_position_and_changes_nothing() {
    let place = Place::start().await;
    for number in 0..6 {
        place.root.post("/organizations", json!({"name": format!("org-{number}")})).await;
    }
    let archive = place.path("archive");
    let said = place.ok(&["archive", "--before", "6", text(&archive)], &place.url);
    assert!(said.starts_with("archived: 5 events"), "{said}");
    assert!(archive.join("checkpoint").exists() && !archive.join("backup").exists());
    assert!(archive.join("tile/entries/000.p/5").exists());
    let said = place.fails(&["restore", text(&archive)], &place.database("target").await);
    assert!(said.contains("backup"), "{said}");
    for before in ["0", "1", "1000000"] {
        let folder = place.path(before);
        let said = place.fails(&["archive", "--before", before, text(&folder)], &place.url);
        assert!(said.contains("there is none at position"), "{said}");
    }
    let replayed = place.root.get("/audit/replay").await.json;
    assert_eq!(replayed["equal"], json!(true));
}

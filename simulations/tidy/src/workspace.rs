//! The workspace as data: its crates' manifests and its files' texts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// The documents that say which test shows what.
const CITING: [&str; 2] = ["docs/threat-model.md", "docs/attacks.md"];

/// Everything that the rules look at.
#[derive(Debug, Default)]
pub struct Workspace {
    pub crates: Vec<Crate>,
    /// Rust files by their path from the root.
    pub sources: BTreeMap<String, String>,
    /// SQL files by name, and the list of their hashes.
    pub migrations: BTreeMap<String, Vec<u8>>,
    pub migration_hashes: String,
    /// Documents that cite tests, by their path from the root.
    pub citing: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub struct Crate {
    pub name: String,
    pub folder: String,
    pub tier: String,
    /// Names of `[dependencies]`, as they stand in the manifest.
    pub dependencies: Vec<String>,
    pub inherits_lints: bool,
    pub test_binaries: usize,
}

#[derive(Deserialize)]
struct Root {
    workspace: Members,
}

#[derive(Deserialize)]
struct Members {
    members: Vec<String>,
}

impl Workspace {
    /// Reads the workspace that this crate is part of.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let manifest: Root =
            toml::from_str(&text(&root.join("Cargo.toml"))).expect("root manifest");
        let mut workspace = Self::default();
        for folder in manifest.workspace.members {
            let home = root.join(&folder);
            workspace.crates.push(Crate::read(&folder, &home));
            for part in ["src", "tests", "examples", "benches", "fuzz_targets"] {
                collect(&home.join(part), &format!("{folder}/{part}"), &mut workspace.sources);
            }
        }
        for entry in fs::read_dir(root.join("migrations")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".sql") {
                let bytes = fs::read(entry.path()).expect("a migration is readable");
                workspace.migrations.insert(name, bytes);
            }
        }
        workspace.migration_hashes = text(&root.join("migrations/hashes.txt"));
        workspace.citing =
            CITING.map(|document| (document.to_owned(), text(&root.join(document)))).into();
        workspace
    }
}

impl Crate {
    fn read(folder: &str, home: &Path) -> Self {
        let manifest: toml::Table =
            text(&home.join("Cargo.toml")).parse().expect("a member's manifest");
        let at = |path: &[&str]| {
            path.iter().try_fold(manifest.get(path[0]), |value, key| {
                if *key == path[0] { Some(value) } else { value.map(|table| table.get(*key)) }
            })
        };
        let string = |path: &[&str]| {
            at(path).flatten().and_then(toml::Value::as_str).unwrap_or_default().to_owned()
        };
        let table = at(&["dependencies"]).flatten().and_then(toml::Value::as_table);
        Self {
            name: string(&["package", "name"]),
            folder: folder.to_owned(),
            tier: string(&["package", "metadata", "rap", "tier"]),
            dependencies: table.map(|table| table.keys().cloned().collect()).unwrap_or_default(),
            inherits_lints: at(&["lints", "workspace"]).flatten().and_then(toml::Value::as_bool)
                == Some(true),
            test_binaries: fs::read_dir(home.join("tests")).map_or(0, |entries| {
                let is_binary = |path: PathBuf| {
                    path.extension().is_some_and(|extension| extension == "rs")
                        || path.join("main.rs").exists()
                };
                entries.flatten().filter(|entry| is_binary(entry.path())).count()
            }),
        }
    }
}

fn collect(folder: &Path, name: &str, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if path.is_dir() {
            collect(&path, &name, into);
        } else if name.ends_with(".rs") {
            into.insert(name, text(&path));
        }
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

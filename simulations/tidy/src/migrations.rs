//! Migrations: append-only. A migration that was released is never edited; its hash is kept.

use std::{collections::BTreeMap, fmt::Write};

use sha2::{Digest, Sha256};

use crate::{Violation, workspace::Workspace};

pub fn check(workspace: &Workspace) -> Vec<Violation> {
    let listed: BTreeMap<&str, &str> = workspace
        .migration_hashes
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(hash, name)| (name, hash))
        .collect();
    let mut found = Vec::new();
    for (name, bytes) in &workspace.migrations {
        let hash = hex(bytes);
        match listed.get(name.as_str()) {
            Some(kept) if *kept == hash => {}
            Some(_) => found.push(Violation::new(name, "was edited: write a new migration")),
            None => {
                let rule = format!("is not in migrations/hashes.txt; its line: {hash}  {name}");
                found.push(Violation::new(name, rule));
            }
        }
    }
    let removed = listed.keys().filter(|name| !workspace.migrations.contains_key(**name));
    found.extend(removed.map(|name| Violation::new(*name, "was removed: migrations stay")));
    found
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(hashes: &str, files: &[(&str, &str)]) -> Workspace {
        let migrations = files.iter().map(|(name, text)| ((*name).into(), text.as_bytes().into()));
        Workspace {
            migrations: migrations.collect(),
            migration_hashes: hashes.into(),
            ..Workspace::default()
        }
    }

    #[test]
    fn an_unchanged_migration_passes() {
        let line = format!("{}  0001.sql\n", hex(b"select 1"));
        assert_eq!(check(&workspace(&line, &[("0001.sql", "select 1")])), []);
    }

    #[test]
    fn edited_removed_and_unlisted_migrations_are_found() {
        let line = format!("{}  0001.sql\n", hex(b"select 1"));
        assert_eq!(check(&workspace(&line, &[("0001.sql", "select 2")])).len(), 1);
        assert_eq!(check(&workspace(&line, &[])).len(), 1);
        assert_eq!(check(&workspace("", &[("0001.sql", "select 1")])).len(), 1);
    }
}

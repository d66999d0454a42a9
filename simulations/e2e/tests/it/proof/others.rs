//! `aics-tlog`, which audits C2SP transparency logs, `pymerkle`, which makes a Merkle tree of all
//! entries, and `openssl`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rap_tlog::tile::bundle_from_bytes;

use super::{bundle_of, keys_of, text};

/// Where `cargo xtask test` puts the first two.
const VERIFIERS: &str = "RAP_VERIFIERS";
const WHOLE: &str = include_str!("whole.py");

/// Where they are.
pub(super) struct Others(PathBuf);

impl Others {
    /// `None` where it was not installed, which is said then.
    pub(super) fn find(test: &str) -> Option<Self> {
        let found = env::var_os(VERIFIERS).map(|folder| Self(folder.into()));
        if found.is_none() {
            crate::skip(test, "aics-tlog and pymerkle are not installed; cargo xtask test does it");
        }
        found
    }

    /// Whether it is content with a folder, of which it is told the Ed25519 key only.
    fn accepts(&self, command: &str, folder: &Path, words: &[&str]) -> bool {
        let [_, key] = keys_of(folder);
        let mut program = Command::new(self.0.join("aics-tlog"));
        program.arg(command).arg("--tiles").arg(folder).args(words);
        let output = program.args(["--log-key", &key.to_string()]).output().unwrap();
        println!("  {}", String::from_utf8_lossy(&output.stdout).trim());
        output.status.success()
    }

    pub(super) fn accepts_head(&self, folder: &Path) -> bool {
        self.accepts("verify-checkpoint", folder, &[])
    }

    /// Whether the folder's log grew out of the one with this head.
    pub(super) fn accepts_growth(&self, folder: &Path, earlier: &Path) -> bool {
        self.accepts("verify-consistency", folder, &["--old-checkpoint", text(earlier)])
    }

    /// Whether the tree has, at `position`, the entry that the folder has at `entry`.
    pub(super) fn accepts_entry(&self, folder: &Path, position: u64, entry: u64) -> bool {
        let (path, at) = bundle_of(folder, entry);
        let leaf = folder.with_extension("leaf");
        fs::write(&leaf, bundle_from_bytes(&fs::read(path).unwrap()).unwrap()[at]).unwrap();
        let index = (position - 1).to_string();
        let words = ["--index", &index, "--leaf", text(&leaf)];
        self.accepts("verify-inclusion", folder, &words)
    }

    /// Whether all entries of the folder together make the tree of its checkpoint.
    pub(super) fn accepts_whole(&self, folder: &Path) -> bool {
        let mut program = Command::new(self.0.join("python"));
        let output = program.args(["-c", WHOLE]).arg(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let made = String::from_utf8(output.stdout).unwrap();
        let said = fs::read_to_string(folder.join("checkpoint")).unwrap();
        made.lines().eq(said.lines().skip(1).take(2))
    }
}

/// The P-256 line of the checkpoint, over the text above the empty line.
pub(super) fn check_with_openssl(folder: &Path) {
    let note = fs::read_to_string(folder.join("checkpoint")).unwrap();
    let (signed, signatures) = note.split_once("\n\n").unwrap();
    let line = signatures.lines().next().unwrap();
    let signature = STANDARD.decode(line.rsplit(' ').next().unwrap()).unwrap();
    let [message, der] = ["message", "signature"].map(|name| folder.join(name));
    fs::write(&message, format!("{signed}\n")).unwrap();
    // Four bytes of key id stand before the signature.
    fs::write(&der, &signature[4..]).unwrap();
    let check = || {
        let mut command = Command::new("openssl");
        command.args(["dgst", "-sha256", "-verify"]).arg(folder.join("control.pem"));
        command.arg("-signature").arg(&der).arg(&message).output().unwrap().status.success()
    };
    assert!(check(), "openssl accepts the P-256 line");
    fs::write(&message, format!("{signed}.\n")).unwrap();
    assert!(!check(), "and no other text");
}

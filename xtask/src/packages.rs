//! The Debian packages that the tests use, and how they come to be installed.

use std::{path::Path, process::Command};

use crate::shell::{self, Outcome};

/// A package, a file that shows it is there, and what needs it.
const NEEDED: &[(&str, &[&str], &str)] = &[
    ("postgresql", &["/usr/lib/postgresql/15/bin/initdb", "/usr/bin/initdb"], "the event log"),
    ("nats-server", &["/usr/sbin/nats-server", "/usr/bin/nats-server"], "the message bus"),
    ("iproute2", &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"], "network namespaces"),
    ("nftables", &["/usr/sbin/nft"], "cutting links in tests"),
    ("openssh-server", &["/usr/sbin/sshd"], "a private target"),
    ("openssh-client", &["/usr/bin/ssh"], "a real client"),
    ("nginx-light", &["/usr/sbin/nginx"], "a private target"),
    ("curl", &["/usr/bin/curl"], "a real client"),
    ("rsync", &["/usr/bin/rsync"], "a real client"),
    ("git", &["/usr/bin/git", "/usr/local/bin/git"], "a real client"),
    (
        "libfaketime",
        &[
            "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
            "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
        ],
        "hosts whose clock is wrong",
    ),
    ("openssl", &["/usr/bin/openssl"], "checks the log's signatures"),
    (
        "python3-venv",
        &["/usr/lib/python3.11/ensurepip/__init__.py", "/usr/lib/python3.13/ensurepip/__init__.py"],
        "the log's other verifiers, and checking the API against its document",
    ),
    ("g++", &["/usr/bin/g++"], "the fuzzer's runtime"),
];

/// Installs what is missing, or says what to install when not root.
pub(crate) fn ensure() -> Outcome {
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(_, files, _)| !files.iter().any(|file| Path::new(file).exists()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(name, _, _)| *name).collect();
    if !shell::is_root()? {
        let reasons: Vec<_> =
            missing.iter().map(|(name, _, purpose)| format!("  {name:16} {purpose}")).collect();
        return Err(format!(
            "these Debian packages are missing:\n{}\ninstall them with: sudo apt-get install {}",
            reasons.join("\n"),
            names.join(" ")
        ));
    }
    eprintln!("installing {}", names.join(" "));
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    shell::run(apt().args(["update", "-qq"]))?;
    shell::run(apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(names))
}

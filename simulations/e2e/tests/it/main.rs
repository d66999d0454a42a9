//! The fabric's real programs on a network of their own, against Debian's servers and clients.
#![allow(clippy::unwrap_used)]

mod bandwidth;
mod beats;
mod carry;
mod chain;
mod denied;
mod everyday;
mod failover;
mod fence;
mod holes;
mod lease;
mod living;
mod lossy;
mod nat;
mod network;
mod outage;
mod priorities;
mod proof;
mod resume;
mod rolling;
mod rootless;
mod shortcut;
mod skew;
mod ticket;
mod worker;

use std::time::Duration;

use rap_e2e::{Fabric, Person, Talk};
use rap_skips::skip;

/// The fabric for the test of this name, or `None` when the test is done or cannot be done here.
async fn fabric(test: &str) -> Option<Fabric> {
    if rootless::is_for_a_child(test) {
        return None;
    }
    match Fabric::start().await {
        Ok(fabric) => Some(fabric),
        Err(reason) => {
            skip(test, &reason);
            None
        }
    }
}

/// Says how far a test is.
fn step(text: &str) {
    println!("  {text}");
}

/// The words of `rap ssh` to the office, in front of the command's.
fn ssh_words(fabric: &Fabric) -> Vec<String> {
    let key = fabric.office().user_key().to_string_lossy().into_owned();
    ["ssh", "-i", &key, "root@demo-ssh", "--"].map(str::to_owned).into()
}

/// Runs a command in the office over `rap ssh`.
async fn ssh(fabric: &Fabric, person: &Person, command: &str) -> rap_e2e::Run {
    let mut words = ssh_words(fabric);
    words.push(command.to_owned());
    person.run("rap", &words).await
}

/// A shell's loop in the office that has answered once.
async fn echo(fabric: &Fabric) -> Talk {
    let mut words = ssh_words(fabric);
    words.push("while read line; do echo \"heard $line\"; done".to_owned());
    let mut talk = fabric.alice.talk("rap", &words);
    talk.type_line("first").await;
    assert_eq!(talk.line(Duration::from_secs(60)).await.as_deref(), Some("heard first"));
    talk
}

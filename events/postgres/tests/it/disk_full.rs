//! The disk is full. A caller hears that nothing was stored, or that nobody knows; nothing that was
//! acknowledged is lost, nothing is there twice, and with room the same log works again.

use std::time::Duration;

use rap_events::log::{Append, AppendError, Log as _};
use rap_log_postgres::{
    PostgresLog,
    private::{Durability, PrivatePostgres, SmallDisk},
};
use rap_proto::Digest;
use tokio::time::timeout;

use crate::support::{append, once_each};

const PATIENCE: Duration = Duration::from_secs(60);
/// What is left when the disk is nearly full: less than is appended then.
const LEFT_BYTES: u64 = 3 * 1024 * 1024;
const LARGE_PAYLOAD: usize = 8 * 1024;
const MAX_APPENDS: u128 = 2_000;
/// How many more are tried on the full disk.
const MORE: u128 = 5;

/// An append that takes room on a disk: nothing compresses its payload.
fn large(command: u128) -> Append {
    let mut append = append(command);
    let hashes = (0_u64..).flat_map(|number| {
        *Digest::of_parts(&[&command.to_be_bytes(), &number.to_be_bytes()]).as_bytes()
    });
    append.writes[0].events[0].payload = hashes.take(LARGE_PAYLOAD).collect::<Vec<u8>>().into();
    append
}

/// Whether it was acknowledged. A full disk is no reason for any other answer than that it was not
/// stored, or that nobody knows.
async fn tried(log: &PostgresLog, command: u128) -> bool {
    match log.append(large(command)).await {
        Ok(appended) => !appended.replayed,
        Err(AppendError::Unavailable(reason)) => {
            println!("{command}: {reason}");
            false
        }
        Err(AppendError::OutcomeUnknown) => false,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_ends_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = match SmallDisk::mount(folder.path()) {
        Ok(disk) => disk,
        Err(reason) => {
            let test = "a_full_disk_loses_nothing_and_ends_when_there_is_room";
            return rap_skips::skip(test, &reason.to_string());
        }
    };
    let mut postgres = PrivatePostgres::start(disk.path(), Durability::Safe).await.unwrap();
    let log = PostgresLog::connect(&postgres.url()).await.unwrap();
    disk.fill(LEFT_BYTES).unwrap();
    let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
    let mut last = MAX_APPENDS;
    for command in 1.. {
        assert!(command <= MAX_APPENDS, "the disk never was full");
        if command > last {
            break;
        }
        if tried(&log, command).await {
            acknowledged.push(command);
        } else {
            refused.push(command);
            last = last.min(command + MORE);
        }
    }
    assert!(!acknowledged.is_empty() && !refused.is_empty());
    disk.make_room().unwrap();
    postgres.restart().await.unwrap();
    for command in refused.iter().copied() {
        let repeating = async {
            while log.append(large(command)).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, repeating).await.expect("the same log works again");
    }
    once_each(&log, acknowledged.into_iter().chain(refused)).await;
    log.close().await;
    postgres.stop().await;
}

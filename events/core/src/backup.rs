//! What a backup says of itself: signed, and written last.
//!
//! A backup is an exported log with every payload, and beside it the tables whose content does not
//! follow from events. The log proves itself by its tree head; the tables are proven by their
//! hashes here.

use std::collections::BTreeMap;

use rap_proto::{ClusterId, Digest, Timestamp, signed::Payload};
use serde::{Deserialize, Serialize};

/// What one backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupManifest {
    pub cluster: ClusterId,
    /// The number of events, and the root of the tree over them.
    pub size: u64,
    pub root: Digest,
    pub made_at: Timestamp,
    /// The SHA-256 of each table's file, by the table's name.
    pub tables: BTreeMap<String, Digest>,
}

impl Payload for BackupManifest {
    const TYPE: &'static str = "application/vnd.rap.backup.v1+msgpack";
    const MAX_BYTES: usize = 8 * 1024;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{env, fmt::Write as _, fs, path::Path};

    use rap_proto::{
        Signer as _,
        key::LocalKey,
        signed::{Trusted, open, seal},
    };

    use super::*;

    #[test]
    fn a_manifest_keeps_its_bytes_and_is_read_when_it_is_signed() {
        let key = LocalKey::from_random(&[1; 32]).unwrap();
        let manifest = BackupManifest {
            cluster: ClusterId::from_u128(1),
            size: 42,
            root: Digest::of(b"root"),
            made_at: Timestamp::from_unix_millis(1_700_000_000_000),
            tables: [("commands".to_owned(), Digest::of(b"rows"))].into(),
        };
        let bytes = seal(&manifest, &[&key]);
        let hex = bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/backup/manifest.v1.hex");
        if env::var_os("RAP_UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("{hex}\n")).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default().trim(), hex);
        let read = open::<BackupManifest>(&bytes, &Trusted::one(key.public_key())).unwrap();
        assert_eq!(read.into_inner(), manifest);
        let stranger = LocalKey::from_random(&[2; 32]).unwrap().public_key();
        assert!(open::<BackupManifest>(&bytes, &Trusted::one(stranger)).is_err());
    }
}

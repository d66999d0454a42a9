//! A proof that can be checked offline, as text: C2SP `tlog-proof`.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64 of the entry>
//! index <leaf index>
//! <base64 of a hash>
//! …
//!
//! <signed tree head>
//! ```

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rap_proto::{ClusterId, Digest};

use crate::{
    OpenHeadError, TreeHead, VerifierKey, leaf_hash,
    proof::{MAX_HASHES, check_inclusion},
};

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 256 * 1024;
const MAGIC: &str = "c2sp.org/tlog-proof@v1";

/// That an entry is in a log, with everything that is needed to check it but the log's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFile {
    pub index: u64,
    /// The bytes whose hash is the leaf; our use of the format's `extra` line.
    pub entry: Vec<u8>,
    pub hashes: Vec<Digest>,
    /// The signed tree head.
    pub checkpoint: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFileError {
    #[error("line {line} of the proof is not what is due there")]
    Malformed { line: usize },
    #[error(transparent)]
    Head(#[from] OpenHeadError),
    #[error("the proof does not show that the entry is in the log")]
    Refuted,
}

impl ProofFile {
    /// Checks the signature and the proof; returns the tree head that the entry is in.
    pub fn check(
        &self,
        cluster: ClusterId,
        keys: &[VerifierKey],
    ) -> Result<TreeHead, ProofFileError> {
        let head = TreeHead::open(&self.checkpoint, cluster, keys)?;
        let leaf = leaf_hash(&self.entry);
        check_inclusion(&self.hashes, (head.size, &head.root), (self.index, &leaf))
            .map_err(|_| ProofFileError::Refuted)?;
        Ok(head)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text =
            format!("{MAGIC}\nextra {}\nindex {}\n", STANDARD.encode(&self.entry), self.index);
        for hash in &self.hashes {
            text.push_str(&STANDARD.encode(hash.as_bytes()));
            text.push('\n');
        }
        text.push('\n');
        [text.as_bytes(), &self.checkpoint].concat()
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofFileError> {
        let text = std::str::from_utf8(bytes).ok().filter(|_| bytes.len() <= MAX_FILE_BYTES);
        let text = text.ok_or(ProofFileError::Malformed { line: 1 })?;
        let (proof, checkpoint) =
            text.split_once("\n\n").ok_or(ProofFileError::Malformed { line: 1 })?;
        let mut lines = proof.lines().zip(1..);
        let mut due = |prefix: &str, after: usize| {
            let (text, line) = lines.next().ok_or(ProofFileError::Malformed { line: after })?;
            let rest = text.strip_prefix(prefix).ok_or(ProofFileError::Malformed { line })?;
            Ok::<_, ProofFileError>((rest, line))
        };
        let (rest, line) = due(MAGIC, 1)?;
        if !rest.is_empty() {
            return Err(ProofFileError::Malformed { line });
        }
        let (entry, line) = due("extra ", 2)?;
        let entry = STANDARD.decode(entry).map_err(|_| ProofFileError::Malformed { line })?;
        let (index, line) = due("index ", 3)?;
        let number: u64 = index.parse().map_err(|_| ProofFileError::Malformed { line })?;
        if number.to_string() != index {
            return Err(ProofFileError::Malformed { line });
        }
        let hashes = lines
            .map(|(text, line)| decode_hash(text).ok_or(ProofFileError::Malformed { line }))
            .collect::<Result<Vec<_>, _>>()?;
        if hashes.len() > MAX_HASHES {
            return Err(ProofFileError::Malformed { line: MAX_HASHES + 4 });
        }
        Ok(Self { index: number, entry, hashes, checkpoint: checkpoint.as_bytes().to_vec() })
    }
}

fn decode_hash(text: &str) -> Option<Digest> {
    let bytes = STANDARD.decode(text).ok()?;
    Some(Digest::from_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use rap_proto::{Signer as _, beat::FIRST_AUTHORITY_EPOCH, key::LocalKey};

    use super::*;
    use crate::{Frontier, HeadKey};

    fn control() -> LocalKey {
        LocalKey::from_random(&[1; 32]).expect("a scalar")
    }

    /// A log of two entries and the proof of the second.
    fn file() -> (ProofFile, ClusterId, VerifierKey) {
        file_of(Some(4))
    }

    /// The same, below a head that names this epoch, or none as the release before wrote it.
    fn file_of(said_epoch: Option<u64>) -> (ProofFile, ClusterId, VerifierKey) {
        let cluster = ClusterId::from_u128(1);
        let control = control();
        let mut frontier = Frontier::default();
        frontier.push(leaf_hash(b"one"));
        frontier.push(leaf_hash(b"two"));
        let head = TreeHead { cluster, size: 2, root: frontier.root(), said_epoch };
        let file = ProofFile {
            index: 1,
            entry: b"two".to_vec(),
            hashes: vec![leaf_hash(b"one")],
            checkpoint: head.sign(&control, &HeadKey::from_seed(&[2; 32])),
        };
        (file, cluster, VerifierKey::p256(cluster, control.public_key()))
    }

    #[test]
    fn a_proof_is_written_read_and_holds() {
        let (file, cluster, key) = file();
        assert_eq!(ProofFile::from_bytes(&file.to_bytes()), Ok(file.clone()));
        crate::tests::check_golden(
            "proof.v2.txt",
            &String::from_utf8(file.to_bytes()).expect("text"),
        );
        let head = file.check(cluster, &[key]).expect("it holds");
        assert_eq!(head.size, 2);
    }

    /// Who keeps a proof keeps it for years: what the release before wrote is read as it lies there.
    #[test]
    fn a_proof_of_the_release_before_is_read_and_holds() {
        let (before, cluster, key) = file_of(None);
        let keys = [key];
        let text = String::from_utf8(before.to_bytes()).expect("text");
        crate::tests::check_golden("proof.txt", &text);
        let frozen = include_bytes!("../golden/proof.txt");
        let read = ProofFile::from_bytes(frozen).expect("it is read");
        assert_eq!(read.to_bytes(), frozen);
        let head = read.check(cluster, &keys).expect("it holds");
        assert_eq!((head.size, head.said_epoch), (2, None));
        assert_eq!(head.epoch(), FIRST_AUTHORITY_EPOCH);
        let named = text.replacen("\n\n—", "\nauthority epoch 4\n\n—", 1);
        assert_ne!(named, text);
        let named = ProofFile::from_bytes(named.as_bytes()).expect("it is a proof file");
        let refused = ProofFileError::Head(OpenHeadError::NotTrusted);
        assert_eq!(named.check(cluster, &keys), Err(refused), "that epoch was not signed");
    }

    #[test]
    fn a_proof_of_something_else_does_not_hold() {
        let (file, cluster, key) = file();
        let keys = [key];
        for other in [
            ProofFile { index: 0, ..file.clone() },
            ProofFile { entry: b"three".to_vec(), ..file.clone() },
            ProofFile { hashes: vec![leaf_hash(b"three")], ..file.clone() },
            ProofFile { hashes: Vec::new(), ..file.clone() },
        ] {
            assert_eq!(other.check(cluster, &keys), Err(ProofFileError::Refuted));
        }
        let untrusted = file.check(cluster, &[]);
        assert_eq!(untrusted, Err(ProofFileError::Head(OpenHeadError::NotTrusted)));
    }

    #[test]
    fn a_malformed_line_is_named() {
        let text = String::from_utf8(file().0.to_bytes()).expect("text");
        for (from, to, line) in [
            ("@v1", "@v2", 1),
            ("@v1", "@v11", 1),
            ("extra dHdv", "extra dHd", 2),
            ("extra ", "", 2),
            ("index 1", "index 01", 3),
            ("index 1", "index -1", 3),
            ("\n\n", "\nAAAA\n\n", 5),
        ] {
            assert!(text.contains(from), "{text}");
            let read = ProofFile::from_bytes(text.replacen(from, to, 1).as_bytes());
            assert_eq!(read, Err(ProofFileError::Malformed { line }), "{from:?} as {to:?}");
        }
        let hash = STANDARD.encode([0; 32]);
        let endless = format!("\n{}\n\n", vec![hash; MAX_HASHES].join("\n"));
        let read = ProofFile::from_bytes(text.replacen("\n\n", &endless, 1).as_bytes());
        assert_eq!(read, Err(ProofFileError::Malformed { line: MAX_HASHES + 4 }));
        let large = [text.as_bytes(), &vec![b'\n'; MAX_FILE_BYTES]].concat();
        assert_eq!(ProofFile::from_bytes(&large), Err(ProofFileError::Malformed { line: 1 }));
    }
}

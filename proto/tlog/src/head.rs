//! Tree heads: the size and root of a log, signed.
//!
//! The text is a C2SP `tlog-checkpoint`, the signatures stand below it as in a C2SP
//! `signed-note`. One extension line below the root names the authority epoch in which the log was
//! signed, `authority epoch 1`. There are two signatures, over the same text:
//!
//! - **P-256** (ECDSA with SHA-256, in DER), by the control key: what nodes check, and what
//!   `openssl dgst -sha256 -verify` checks. Algorithm byte 2; its key id is the first four bytes
//!   of the SHA-256 of the key's `SubjectPublicKeyInfo`, as other verifiers of notes compute it.
//! - **Ed25519**, algorithm byte 1: what every verifier of transparency logs reads.
//!
//! A verifier's key is written `<name>+<key id>+<base64 of algorithm byte and key>`.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey, Verifier as _, VerifyingKey};
use p256::ecdsa::{Signature as EcdsaSignature, signature::Error as SignatureError};
use rap_proto::{ClusterId, Digest, PublicKey, Signer, beat::FIRST_AUTHORITY_EPOCH};
use signed_note::{Note, VerifierList};
use tlog_tiles::Checkpoint;
use zeroize::Zeroizing;

use crate::{digest, hash};

/// The largest signed tree head that is read, in bytes.
pub const MAX_HEAD_BYTES: usize = 4 * 1024;
/// What stands before the number in the extension line.
const EPOCH: &str = "authority epoch ";
const ED25519: u8 = 1;
const ECDSA_P256: u8 = 2;

/// What a log had come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeHead {
    pub cluster: ClusterId,
    /// The number of leaves, which is the last event's position.
    pub size: u64,
    pub root: Digest,
    /// The authority epoch that its text names; `None` in a head that a release signed which wrote
    /// none. The same head is signed again as the same text, so this stays as it was read.
    pub said_epoch: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenHeadError {
    #[error("not a signed tree head")]
    Malformed,
    /// No signature by a known key, or one that is false.
    #[error("the tree head is not signed by a known key")]
    NotTrusted,
    #[error("the tree head is of another log")]
    OtherLog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a verifier's key; its form is <name>+<8 hexadecimal digits>+<base64>")]
pub struct InvalidVerifierKey;

/// The private Ed25519 key of a log.
#[derive(Clone)]
pub struct HeadKey(SigningKey);

/// A key that tree heads are checked with, under the name of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: Key,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    P256(PublicKey),
    Ed25519(VerifyingKey),
}

/// The name of a cluster's log, in its tree heads and for its keys.
pub fn origin(cluster: ClusterId) -> String {
    format!("rap.cluster/{cluster}")
}

/// The authority epoch that a note names, whoever signed it: for what was verified before.
pub fn epoch_of(note: &[u8]) -> Result<u64, OpenHeadError> {
    let malformed = |_| OpenHeadError::Malformed;
    let note = Note::from_bytes(note).map_err(malformed)?;
    let head = Checkpoint::from_bytes(note.text()).map_err(|_| OpenHeadError::Malformed)?;
    Ok(said_epoch(head.extension())?.unwrap_or(FIRST_AUTHORITY_EPOCH))
}

/// A note whose text has no extension line, as if it named the first epoch. Its signatures are not
/// of that text.
pub(crate) fn with_first_epoch(note: &[u8]) -> Option<Vec<u8>> {
    let (text, signatures) = std::str::from_utf8(note).ok()?.split_once("\n\n")?;
    let is_bare = text.lines().count() == 3;
    let named = format!("{text}\n{EPOCH}{FIRST_AUTHORITY_EPOCH}\n\n{signatures}");
    is_bare.then(|| named.into_bytes())
}

/// What the extension lines say. A later release may write others beside this one.
fn said_epoch(extension: &str) -> Result<Option<u64>, OpenHeadError> {
    let mut said = extension.lines().filter_map(|line| line.strip_prefix(EPOCH));
    let Some(number) = said.next() else { return Ok(None) };
    let epoch: u64 = number.parse().map_err(|_| OpenHeadError::Malformed)?;
    let is_plain = epoch >= FIRST_AUTHORITY_EPOCH && epoch.to_string() == number;
    if is_plain && said.next().is_none() { Ok(Some(epoch)) } else { Err(OpenHeadError::Malformed) }
}

impl TreeHead {
    /// The authority epoch that the log was signed in.
    pub fn epoch(&self) -> u64 {
        self.said_epoch.unwrap_or(FIRST_AUTHORITY_EPOCH)
    }

    /// The bytes of the signed note.
    pub fn sign(&self, control: &dyn Signer, ed25519: &HeadKey) -> Vec<u8> {
        let name = origin(self.cluster);
        let epoch = self.said_epoch.map(|epoch| format!("{EPOCH}{epoch}\n")).unwrap_or_default();
        let text = Checkpoint::new(&name, self.size, hash(&self.root), &epoch)
            .expect("a name and a whole line make a checkpoint")
            .to_bytes();
        let mut note = Note::new(&text, &[]).expect("a checkpoint is a well-formed text");
        let p256 = NoteSigner {
            key: VerifierKey::p256(self.cluster, control.public_key()),
            sign: &|text| {
                let signature = EcdsaSignature::from_slice(&control.sign(text))?;
                Ok(signature.to_der().as_bytes().to_vec())
            },
        };
        let ed25519 = NoteSigner {
            key: VerifierKey::ed25519(self.cluster, ed25519),
            sign: &|text| Ok(ed25519.0.try_sign(text)?.to_vec()),
        };
        note.add_sigs(&[&p256, &ed25519]).expect("both keys sign every text");
        note.to_bytes()
    }

    /// Reads a signed tree head of `cluster`'s log that one of `keys` signed. Signatures of
    /// other keys are passed over; a false one of a known key refutes the whole.
    pub fn open(
        note: &[u8],
        cluster: ClusterId,
        keys: &[VerifierKey],
    ) -> Result<Self, OpenHeadError> {
        if note.len() > MAX_HEAD_BYTES {
            return Err(OpenHeadError::Malformed);
        }
        let note = Note::from_bytes(note).map_err(|_| OpenHeadError::Malformed)?;
        let verifier =
            |key: &VerifierKey| -> Box<dyn signed_note::Verifier> { Box::new(key.clone()) };
        let known = VerifierList::new(keys.iter().map(verifier).collect());
        note.verify(&known).map_err(|_| OpenHeadError::NotTrusted)?;
        let head = Checkpoint::from_bytes(note.text()).map_err(|_| OpenHeadError::Malformed)?;
        if head.origin() != origin(cluster) {
            return Err(OpenHeadError::OtherLog);
        }
        let said_epoch = said_epoch(head.extension())?;
        Ok(Self { cluster, size: head.size(), root: digest(*head.hash()), said_epoch })
    }
}

impl HeadKey {
    /// From 32 random or derived bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed again, wiped from memory when dropped.
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }
}

impl fmt::Debug for HeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeadKey(…)")
    }
}

impl VerifierKey {
    pub fn p256(cluster: ClusterId, key: PublicKey) -> Self {
        Self { name: origin(cluster), key: Key::P256(key) }
    }

    pub fn ed25519(cluster: ClusterId, key: &HeadKey) -> Self {
        Self { name: origin(cluster), key: Key::Ed25519(key.0.verifying_key()) }
    }

    /// The log's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The P-256 key, for programs that read keys in PEM; `None` for an Ed25519 key.
    pub fn as_p256(&self) -> Option<&PublicKey> {
        match &self.key {
            Key::P256(key) => Some(key),
            Key::Ed25519(_) => None,
        }
    }

    fn encoded(&self) -> Vec<u8> {
        match &self.key {
            Key::P256(key) => [&[ECDSA_P256], key.to_spki().as_slice()].concat(),
            Key::Ed25519(key) => [&[ED25519], key.as_bytes().as_slice()].concat(),
        }
    }

    fn id(&self) -> u32 {
        match &self.key {
            Key::P256(key) => {
                let [a, b, c, d, ..] = *key.id().as_bytes();
                u32::from_be_bytes([a, b, c, d])
            }
            Key::Ed25519(_) => signed_note::key_id(&self.name, &self.encoded()),
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:08x}+{}", self.name, self.id(), STANDARD.encode(self.encoded()))
    }
}

impl FromStr for VerifierKey {
    type Err = InvalidVerifierKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rest) = text.split_once('+').ok_or(InvalidVerifierKey)?;
        let (_, key) = rest.split_once('+').ok_or(InvalidVerifierKey)?;
        let key = STANDARD.decode(key).map_err(|_| InvalidVerifierKey)?;
        let key = match key.split_first() {
            Some((&ECDSA_P256, spki)) => {
                PublicKey::from_spki(spki).map(Key::P256).map_err(|_| InvalidVerifierKey)?
            }
            Some((&ED25519, bytes)) => {
                VerifyingKey::try_from(bytes).map(Key::Ed25519).map_err(|_| InvalidVerifierKey)?
            }
            _ => return Err(InvalidVerifierKey),
        };
        let parsed = Self { name: name.to_owned(), key };
        // The same text again, or the id belongs to another name or key.
        let is_valid = signed_note::is_key_name_valid(name) && parsed.to_string() == text;
        is_valid.then_some(parsed).ok_or(InvalidVerifierKey)
    }
}

impl signed_note::Verifier for VerifierKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id()
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Key::P256(key) => EcdsaSignature::from_der(signature)
                .is_ok_and(|signature| key.verifies(text, &signature.to_bytes().into())),
            Key::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(text, &signature).is_ok()),
        }
    }
}

type Sign<'a> = &'a dyn Fn(&[u8]) -> Result<Vec<u8>, SignatureError>;

struct NoteSigner<'a> {
    key: VerifierKey,
    sign: Sign<'a>,
}

impl signed_note::Signer for NoteSigner<'_> {
    fn name(&self) -> &str {
        &self.key.name
    }

    fn key_id(&self) -> u32 {
        self.key.id()
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SignatureError> {
        (self.sign)(text)
    }
}

#[cfg(test)]
mod tests {
    use rap_proto::key::LocalKey;

    use super::*;
    use crate::leaf_hash;

    fn keys() -> (LocalKey, HeadKey) {
        (LocalKey::from_random(&[1; 32]).expect("a scalar"), HeadKey::from_seed(&[2; 32]))
    }

    fn head() -> TreeHead {
        let (cluster, root) = (ClusterId::from_u128(3), leaf_hash(b"root"));
        TreeHead { cluster, size: 42, root, said_epoch: Some(4) }
    }

    fn verifiers() -> [VerifierKey; 2] {
        let (control, ed25519) = keys();
        let cluster = head().cluster;
        [VerifierKey::p256(cluster, control.public_key()), VerifierKey::ed25519(cluster, &ed25519)]
    }

    fn signed() -> Vec<u8> {
        let (control, ed25519) = keys();
        head().sign(&control, &ed25519)
    }

    #[test]
    fn either_key_opens_a_head() {
        let (note, cluster) = (signed(), head().cluster);
        for key in verifiers() {
            assert_eq!(TreeHead::open(&note, cluster, &[key]), Ok(head()));
        }
        assert_eq!(TreeHead::open(&note, cluster, &verifiers()), Ok(head()));
    }

    #[test]
    fn a_signed_head_and_its_keys_never_change_their_bytes() {
        let keys = verifiers().map(|key| key.to_string() + "\n").concat();
        crate::tests::check_golden(
            "head.v2.txt",
            &String::from_utf8(signed()).expect("a note is text"),
        );
        crate::tests::check_golden("keys.txt", &keys);
    }

    /// As the release before signed it, and as it is signed again: another text would take the
    /// cosignatures away that stand below it.
    #[test]
    fn a_head_that_names_no_epoch_is_of_the_first_and_stays_as_it_is() {
        let (control, ed25519) = keys();
        let before = TreeHead { said_epoch: None, ..head() };
        let note = before.sign(&control, &ed25519);
        crate::tests::check_golden("head.txt", std::str::from_utf8(&note).expect("a note is text"));
        let opened = TreeHead::open(&note, before.cluster, &verifiers());
        assert_eq!(opened.as_ref().map(TreeHead::epoch), Ok(FIRST_AUTHORITY_EPOCH));
        assert_eq!(opened.map(|head| head.sign(&control, &ed25519)), Ok(note.clone()));
        assert_eq!(epoch_of(&note), Ok(FIRST_AUTHORITY_EPOCH));
        assert_eq!(epoch_of(&signed()), Ok(4));
        assert_eq!(epoch_of(b"no head"), Err(OpenHeadError::Malformed));
    }

    #[test]
    fn an_epoch_is_named_once_and_plainly_and_other_lines_are_passed_over() {
        for (extension, said) in [
            ("", Ok(None)),
            ("authority epoch 1\n", Ok(Some(1))),
            (
                "something of a later release\nauthority epoch 18446744073709551615\n",
                Ok(Some(u64::MAX)),
            ),
            ("authority epoch 0\n", Err(OpenHeadError::Malformed)),
            ("authority epoch 01\n", Err(OpenHeadError::Malformed)),
            ("authority epoch +1\n", Err(OpenHeadError::Malformed)),
            ("authority epoch \n", Err(OpenHeadError::Malformed)),
            ("authority epoch 18446744073709551616\n", Err(OpenHeadError::Malformed)),
            ("authority epoch 1\nauthority epoch 2\n", Err(OpenHeadError::Malformed)),
        ] {
            assert_eq!(said_epoch(extension), said, "{extension:?}");
        }
    }

    #[test]
    fn a_log_signed_in_another_epoch_does_not_pass_for_one_of_this() {
        let text = String::from_utf8(signed()).expect("a note is text");
        for other in ["authority epoch 5\n", ""] {
            let changed = text.replacen("authority epoch 4\n", other, 1);
            let opened = TreeHead::open(changed.as_bytes(), head().cluster, &verifiers());
            assert_eq!(opened, Err(OpenHeadError::NotTrusted));
        }
    }

    #[test]
    fn a_changed_head_is_not_trusted() {
        let (note, cluster) = (signed(), head().cluster);
        let text = String::from_utf8(note).expect("a note is text");
        for (from, to) in [("\n42\n", "\n43\n"), ("rap.cluster/", "rap-cluster/")] {
            assert!(text.contains(from), "{text}");
            let changed = text.replacen(from, to, 1);
            let opened = TreeHead::open(changed.as_bytes(), cluster, &verifiers());
            assert_eq!(opened, Err(OpenHeadError::NotTrusted));
        }
    }

    #[test]
    fn strangers_keys_and_other_logs_are_refused() {
        let cluster = head().cluster;
        let stranger = LocalKey::from_random(&[9; 32]).expect("a scalar").public_key();
        let stranger = VerifierKey::p256(cluster, stranger);
        let opened = TreeHead::open(&signed(), cluster, &[stranger]);
        assert_eq!(opened, Err(OpenHeadError::NotTrusted));
        assert_eq!(TreeHead::open(&signed(), cluster, &[]), Err(OpenHeadError::NotTrusted));
        let other = TreeHead::open(&signed(), ClusterId::from_u128(4), &verifiers());
        assert_eq!(other, Err(OpenHeadError::OtherLog));
    }

    #[test]
    fn what_is_no_head_is_malformed() {
        let cluster = head().cluster;
        let endless = [signed(), vec![b'\n'; MAX_HEAD_BYTES]].concat();
        for bytes in [b"".as_slice(), b"text\n", b"\xff\xfe", &endless] {
            assert_eq!(TreeHead::open(bytes, cluster, &verifiers()), Err(OpenHeadError::Malformed));
        }
    }

    #[test]
    fn keys_are_written_and_read_and_a_wrong_id_is_refused() {
        for key in verifiers() {
            let text = key.to_string();
            assert_eq!(text.parse(), Ok(key.clone()));
            assert_eq!(
                text.replacen("rap.", "rep.", 1).parse::<VerifierKey>().is_ok(),
                key.as_p256().is_some()
            );
            for wrong in [text.replacen('+', "", 1), format!("{text}A"), format!(" {text}")] {
                assert_eq!(wrong.parse::<VerifierKey>(), Err(InvalidVerifierKey), "{wrong}");
            }
        }
        assert_eq!("".parse::<VerifierKey>(), Err(InvalidVerifierKey));
    }
}

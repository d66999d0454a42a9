//! Cosignatures: the word of a witness that a log only grew.
//!
//! They are those of C2SP `tlog-cosignature`, version 1: a line below the tree head's own
//! signatures with algorithm byte 4, eight bytes of time (seconds since 1970, big-endian) and an
//! Ed25519 signature over `cosignature/v1`, that time, and the tree head's text. A witness is a
//! node, under the name `rap.node/<node>`. Its key is another one than its identity's: the format
//! knows no P-256.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature as Ed25519Signature, Signer as _, SigningKey, Verifier as _};
use ed25519_dalek::{VerifyingKey, ed25519::Error as SignatureError};
use rap_proto::{Digest, NodeId, Timestamp};
use signed_note::{Note, NoteError, Signature, VerifierList};

use crate::head::{self, MAX_HEAD_BYTES};

/// The most cosignatures that go with one tree head: all its lines stay within
/// [`MAX_HEAD_BYTES`].
pub const MAX_COSIGNATURES: usize = 16;
const COSIGNATURE_ED25519: u8 = 4;
const TIME_BYTES: usize = 8;
const NAME_PREFIX: &str = "rap.node/";

/// A node's private key for cosignatures.
#[derive(Clone)]
pub struct WitnessKey {
    node: NodeId,
    key: SigningKey,
}

/// What a node's cosignatures are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessVerifier {
    node: NodeId,
    name: String,
    key: VerifyingKey,
}

/// A cosignature that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// When the witness made it, in whole seconds.
    pub at: Timestamp,
    /// As it stands below a tree head, with its line break.
    pub line: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CosignatureError {
    #[error("not a signed tree head")]
    Malformed,
    /// There is a line of this witness, and it is false.
    #[error("the cosignature does not hold")]
    False,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a witness' key; its form is rap.node/<node>+<8 hexadecimal digits>+<base64>")]
pub struct InvalidWitnessKey;

impl WitnessKey {
    /// Follows from the node's private identity key, so that there is no second file to lose.
    pub fn derive(node: NodeId, identity: &[u8]) -> Self {
        let seed = Digest::of_parts(&[b"rap witness ed25519 v1", identity]);
        Self { node, key: SigningKey::from_bytes(seed.as_bytes()) }
    }

    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The signed tree head with this witness' line below it, in the place of an older one.
    pub fn cosign(&self, note: &[u8], at: Timestamp) -> Result<Vec<u8>, CosignatureError> {
        let mut note = Note::from_bytes(note).map_err(|_| CosignatureError::Malformed)?;
        let verifier = self.verifier();
        let signer =
            CosignatureSigner { key: &self.key, verifier: &verifier, seconds: seconds(at) };
        note.add_sigs(&[&signer]).map_err(|_| CosignatureError::Malformed)?;
        Ok(note.to_bytes())
    }

    fn verifier(&self) -> WitnessVerifier {
        let key = self.key.verifying_key();
        WitnessVerifier { node: self.node, name: name_of(self.node), key }
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessKey({}, …)", self.node)
    }
}

impl WitnessVerifier {
    pub fn new(node: NodeId, key: &[u8; 32]) -> Result<Self, InvalidWitnessKey> {
        let key = VerifyingKey::from_bytes(key).map_err(|_| InvalidWitnessKey)?;
        Ok(Self { node, name: name_of(node), key })
    }

    pub fn node(&self) -> NodeId {
        self.node
    }

    /// This witness' cosignature below a tree head; `None` when there is none. The other lines,
    /// those of the log itself among them, are the caller's to check.
    pub fn find(&self, note: &[u8]) -> Result<Option<Cosignature>, CosignatureError> {
        if note.len() > MAX_HEAD_BYTES {
            return Err(CosignatureError::Malformed);
        }
        let note = Note::from_bytes(note).map_err(|_| CosignatureError::Malformed)?;
        match note.verify(&VerifierList::new(vec![Box::new(self.clone())])) {
            Ok((found, _)) => Ok(found.first().and_then(cosignature)),
            Err(NoteError::UnverifiedNote) => Ok(None),
            Err(_) => Err(CosignatureError::False),
        }
    }

    /// Whether this witness says of a head that it saw it. A replica of the release that named no
    /// epoch could keep, below the text that it signed, a line over the same head with its epoch:
    /// the head is the same, so the word counts.
    pub fn vouches_for(&self, note: &[u8]) -> Result<bool, CosignatureError> {
        match self.find(note) {
            Err(CosignatureError::False) => {
                let named = head::with_first_epoch(note).ok_or(CosignatureError::False)?;
                self.find(&named).map(|found| found.is_some())
            }
            found => found.map(|found| found.is_some()),
        }
    }

    fn encoded(&self) -> Vec<u8> {
        [&[COSIGNATURE_ED25519], self.key.as_bytes().as_slice()].concat()
    }
}

/// A signed tree head with cosignatures below it.
pub fn with_lines<'a>(note: &[u8], lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut all = note.to_vec();
    lines.into_iter().take(MAX_COSIGNATURES).for_each(|line| all.extend_from_slice(line));
    all
}

fn name_of(node: NodeId) -> String {
    format!("{NAME_PREFIX}{node}")
}

fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.unix_millis() / 1_000).unwrap_or(0)
}

fn message(seconds: u64, text: &[u8]) -> Vec<u8> {
    [format!("cosignature/v1\ntime {seconds}\n").as_bytes(), text].concat()
}

fn cosignature(signature: &Signature) -> Option<Cosignature> {
    let (time, _) = signature.signature().split_first_chunk::<TIME_BYTES>()?;
    let millis = i64::try_from(u64::from_be_bytes(*time)).ok()?.checked_mul(1_000)?;
    Some(Cosignature { at: Timestamp::from_unix_millis(millis), line: signature.to_bytes() })
}

impl fmt::Display for WitnessVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = signed_note::Verifier::key_id(self);
        write!(f, "{}+{id:08x}+{}", self.name, STANDARD.encode(self.encoded()))
    }
}

impl FromStr for WitnessVerifier {
    type Err = InvalidWitnessKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '+');
        let name = parts.next().and_then(|name| name.strip_prefix(NAME_PREFIX));
        let node = name.and_then(|node| node.parse().ok()).ok_or(InvalidWitnessKey)?;
        let key = parts.nth(1).and_then(|key| STANDARD.decode(key).ok());
        let key = key.ok_or(InvalidWitnessKey)?;
        let Some((&COSIGNATURE_ED25519, key)) = key.split_first() else {
            return Err(InvalidWitnessKey);
        };
        let parsed = Self::new(node, key.try_into().map_err(|_| InvalidWitnessKey)?)?;
        // The same text again, or the id belongs to another name or key.
        (parsed.to_string() == text).then_some(parsed).ok_or(InvalidWitnessKey)
    }
}

impl signed_note::Verifier for WitnessVerifier {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        signed_note::key_id(&self.name, &self.encoded())
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let Some((time, signature)) = signature.split_first_chunk::<TIME_BYTES>() else {
            return false;
        };
        let seconds = u64::from_be_bytes(*time);
        i64::try_from(seconds).is_ok()
            && Ed25519Signature::from_slice(signature)
                .is_ok_and(|signature| self.key.verify(&message(seconds, text), &signature).is_ok())
    }
}

struct CosignatureSigner<'a> {
    key: &'a SigningKey,
    verifier: &'a WitnessVerifier,
    seconds: u64,
}

impl signed_note::Signer for CosignatureSigner<'_> {
    fn name(&self) -> &str {
        &self.verifier.name
    }

    fn key_id(&self) -> u32 {
        signed_note::Verifier::key_id(self.verifier)
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let signature = self.key.try_sign(&message(self.seconds, text))?;
        Ok([&self.seconds.to_be_bytes()[..], &signature.to_bytes()].concat())
    }
}

#[cfg(test)]
mod tests {
    use rap_proto::{ClusterId, Signer as _, key::LocalKey};

    use super::*;
    use crate::{HeadKey, TreeHead, VerifierKey, leaf_hash};

    const AT: Timestamp = Timestamp::from_unix_millis(1_700_000_000_999);

    fn witness(number: u8) -> WitnessKey {
        WitnessKey::derive(NodeId::from_u128(number.into()), &[number; 32])
    }

    fn control() -> LocalKey {
        LocalKey::from_random(&[1; 32]).expect("a scalar")
    }

    fn head() -> TreeHead {
        let (cluster, root) = (ClusterId::from_u128(3), leaf_hash(b"root"));
        TreeHead { cluster, size: 42, root, said_epoch: Some(4) }
    }

    fn signed() -> Vec<u8> {
        head().sign(&control(), &HeadKey::from_seed(&[2; 32]))
    }

    #[test]
    fn a_cosigned_head_is_a_head_and_says_who_saw_it_when() {
        let note = witness(7).cosign(&signed(), AT).expect("a head");
        let found = witness(7).verifier().find(&note).expect("it holds").expect("it is there");
        assert_eq!(found.at, Timestamp::from_unix_millis(1_700_000_000_000));
        assert_eq!(with_lines(&signed(), [found.line.as_slice()]), note);
        let key = VerifierKey::p256(head().cluster, control().public_key());
        assert_eq!(TreeHead::open(&note, head().cluster, &[key]), Ok(head()));
        assert_eq!(witness(8).verifier().find(&note), Ok(None));
        assert_eq!(witness(7).verifier().find(&signed()), Ok(None));
    }

    #[test]
    fn a_cosignature_and_its_key_never_change_their_bytes() {
        let note = witness(7).cosign(&signed(), AT).expect("a head");
        let text = format!("{}\n{}", witness(7).verifier(), String::from_utf8(note).expect("text"));
        crate::tests::check_golden("cosigned.v2.txt", &text);
        let before = TreeHead { said_epoch: None, ..head() };
        let note = before.sign(&control(), &HeadKey::from_seed(&[2; 32]));
        let note = witness(7).cosign(&note, AT).expect("a head");
        let text = format!("{}\n{}", witness(7).verifier(), String::from_utf8(note).expect("text"));
        crate::tests::check_golden("cosigned.txt", &text);
    }

    #[test]
    fn a_later_cosignature_stands_in_the_place_of_the_earlier() {
        let once = witness(7).cosign(&signed(), AT).expect("a head");
        let later = Timestamp::from_unix_millis(AT.unix_millis() + 60_000);
        let twice = witness(7).cosign(&once, later).expect("a head");
        assert_eq!(twice.len(), once.len());
        let found = witness(7).verifier().find(&twice).expect("it holds").expect("it is there");
        assert_eq!(found.at.unix_millis() / 1_000, later.unix_millis() / 1_000);
    }

    #[test]
    fn a_cosignature_of_another_head_time_or_key_is_false() {
        let note = witness(7).cosign(&signed(), AT).expect("a head");
        let verifier = witness(7).verifier();
        let text = String::from_utf8(note.clone()).expect("text");
        let other_head = text.replacen("\n42\n", "\n43\n", 1);
        assert_eq!(verifier.find(other_head.as_bytes()), Err(CosignatureError::False));
        let line = verifier.find(&note).expect("it holds").expect("it is there").line;
        let line = String::from_utf8(line).expect("text");
        let (name, signature) = line.trim_end().rsplit_once(' ').expect("two parts");
        let mut bytes = STANDARD.decode(signature).expect("base64");
        bytes[11] ^= 1;
        let later = format!("{name} {}\n", STANDARD.encode(&bytes));
        let later = with_lines(&signed(), [later.as_bytes()]);
        assert_eq!(verifier.find(&later), Err(CosignatureError::False));
        let short = format!("{name} {}\n", STANDARD.encode(&bytes[..10]));
        let short = with_lines(&signed(), [short.as_bytes()]);
        assert_eq!(verifier.find(&short), Err(CosignatureError::False));
        assert_eq!(verifier.find(b"no head"), Err(CosignatureError::Malformed));
        let endless = [note.as_slice(), &[b'\n'; MAX_HEAD_BYTES]].concat();
        assert_eq!(verifier.find(&endless), Err(CosignatureError::Malformed));
    }

    #[test]
    fn a_line_over_the_same_head_with_its_epoch_counts_and_over_no_other() {
        let signed = |said_epoch, size| {
            let head = TreeHead { said_epoch, size, ..head() };
            head.sign(&control(), &HeadKey::from_seed(&[2; 32]))
        };
        let verifier = witness(7).verifier();
        let line = |epoch, size| {
            let note = witness(7).cosign(&signed(epoch, size), AT).expect("a head");
            verifier.find(&note).expect("it holds").expect("it is there").line
        };
        for (below, over, expected) in [
            ((None, 42), (None, 42), Ok(true)),
            ((None, 42), (Some(1), 42), Ok(true)),
            ((Some(1), 42), (Some(1), 42), Ok(true)),
            ((None, 42), (Some(2), 42), Err(CosignatureError::False)),
            ((None, 42), (Some(1), 41), Err(CosignatureError::False)),
            ((Some(1), 42), (None, 42), Err(CosignatureError::False)),
            ((Some(2), 42), (Some(1), 42), Err(CosignatureError::False)),
        ] {
            let note = with_lines(&signed(below.0, below.1), [line(over.0, over.1).as_slice()]);
            assert_eq!(verifier.vouches_for(&note), expected, "{below:?} {over:?}");
        }
        assert_eq!(verifier.vouches_for(&signed(None, 42)), Ok(false));
    }

    #[test]
    fn as_many_cosignatures_as_are_kept_fit_below_one_head() {
        let lines: Vec<Vec<u8>> = (0..=u8::try_from(MAX_COSIGNATURES).expect("few"))
            .map(|number| {
                let note = witness(number).cosign(&signed(), AT).expect("a head");
                witness(number).verifier().find(&note).expect("holds").expect("is there").line
            })
            .collect();
        let note = with_lines(&signed(), lines.iter().map(Vec::as_slice));
        assert!(note.len() <= MAX_HEAD_BYTES, "{}", note.len());
        let there = |number: u8| witness(number).verifier().find(&note).expect("holds").is_some();
        let last = u8::try_from(MAX_COSIGNATURES).expect("few");
        assert!((0..last).all(there) && !there(last));
    }

    #[test]
    fn keys_are_written_and_read_and_a_wrong_id_is_refused() {
        let text = witness(7).verifier().to_string();
        assert_eq!(text.parse(), Ok(witness(7).verifier()));
        for wrong in [
            "",
            "rap.node/",
            &text.replacen("rap.node", "rap.cluster", 1),
            &text.replacen("-0000-", "-0001-", 1),
            &text.replacen('+', "", 1),
            &format!("{text}A"),
        ] {
            assert_eq!(wrong.parse::<WitnessVerifier>(), Err(InvalidWitnessKey), "{wrong}");
        }
    }
}

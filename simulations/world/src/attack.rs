//! What somebody tries who sees and sends everything but holds none of the keys.

use std::collections::BTreeMap;

use rap_proto::{
    Digest, PublicKey, Signer as _,
    key::LocalKey,
    signed::{self, Unverified},
    snapshot::{Bundle, Manifest},
};

use crate::{kit::Chance, message::Message};

/// The most messages of each kind that the attacker remembers.
const MAX_REMEMBERED: usize = 64;

/// What is tried, by what it is called where faults are counted.
pub const ATTACKS: [&str; 7] = [
    OWN_SNAPSHOT,
    ANY_SNAPSHOT,
    FORGED_SNAPSHOT,
    CHANGED_SNAPSHOT,
    REPEATED_DOWN,
    REPEATED_UP,
    STOLEN_TOKEN,
];
const OWN_SNAPSHOT: &str = "a snapshot of before";
const ANY_SNAPSHOT: &str = "a snapshot of any node";
const FORGED_SNAPSHOT: &str = "a forged snapshot";
const CHANGED_SNAPSHOT: &str = "a changed snapshot";
const REPEATED_DOWN: &str = "a repeated message to a node";
const REPEATED_UP: &str = "a repeated message to control";
const STOLEN_TOKEN: &str = "a stolen token";

/// Everything that the attacker has overheard.
#[derive(Debug, Default)]
pub struct Attacker {
    /// Manifests, with the place of the node that each went to.
    manifests: Vec<(usize, Vec<u8>)>,
    sections: BTreeMap<Digest, Vec<u8>>,
    ups: Vec<Vec<u8>>,
    downs: Vec<(usize, Vec<u8>)>,
    hellos: Vec<Message>,
    flows: Vec<Message>,
}

/// One attempt, and at whom.
#[derive(Debug)]
pub enum Attempt {
    /// Show this node a snapshot.
    Snapshot(usize, Bundle),
    /// Say this to the node.
    ToNode(usize, Message),
    ToControl(Message),
}

/// The key of somebody whom nobody should believe.
pub fn impostor() -> PublicKey {
    impostor_key().public_key()
}

fn impostor_key() -> LocalKey {
    LocalKey::from_random(&[0x66; 32]).expect("a valid scalar")
}

impl Attacker {
    pub fn overhear_snapshot(&mut self, node: usize, bundle: &Bundle) {
        remember(&mut self.manifests, (node, bundle.manifest.clone()));
        for section in &bundle.sections {
            self.sections.insert(Digest::of(section), section.to_vec());
        }
    }

    pub fn overhear(&mut self, to_node: Option<usize>, message: &Message) {
        match (message, to_node) {
            (Message::Up(bytes), _) => remember(&mut self.ups, bytes.clone()),
            (Message::Down(bytes), Some(node)) => remember(&mut self.downs, (node, bytes.clone())),
            (Message::Hello(_), _) => remember(&mut self.hellos, message.clone()),
            (Message::OpenFlow(_), _) => remember(&mut self.flows, message.clone()),
            _ => {}
        }
    }

    /// Something to try against one of `nodes` nodes, and what it is called.
    pub fn attempt(&self, nodes: usize, chance: &mut Chance) -> Option<(&'static str, Attempt)> {
        let node = usize::try_from(chance.below(nodes as u64)).unwrap_or(0);
        let (kind, attempt) = match chance.below(8) {
            0 | 1 => {
                let own: Vec<_> = self.manifests.iter().filter(|(to, _)| *to == node).collect();
                let (_, manifest) = chance.pick(&own)?;
                (OWN_SNAPSHOT, Attempt::Snapshot(node, self.whole(manifest.clone())?))
            }
            2 => {
                let (_, manifest) = chance.pick(&self.manifests)?;
                (ANY_SNAPSHOT, Attempt::Snapshot(node, self.whole(manifest.clone())?))
            }
            3 => (FORGED_SNAPSHOT, Attempt::Snapshot(node, self.forged(node, chance)?)),
            4 => {
                let (_, manifest) = chance.pick(&self.manifests)?;
                let mut bundle = self.whole(manifest.clone())?;
                let at = usize::try_from(chance.below(bundle.manifest.len() as u64)).ok()?;
                bundle.manifest[at] ^= 1 << chance.below(8);
                (CHANGED_SNAPSHOT, Attempt::Snapshot(node, bundle))
            }
            5 => {
                let (to, bytes) = chance.pick(&self.downs)?;
                (REPEATED_DOWN, Attempt::ToNode(*to, Message::Down(bytes.clone())))
            }
            6 => (REPEATED_UP, Attempt::ToControl(Message::Up(chance.pick(&self.ups)?.clone()))),
            _ => (STOLEN_TOKEN, self.stolen_token(node, chance)?),
        };
        Some((kind, attempt))
    }

    /// A token that was seen, shown over another connection or by somebody else.
    fn stolen_token(&self, node: usize, chance: &mut Chance) -> Option<Attempt> {
        let mut message = if chance.happens(500) {
            chance.pick(&self.hellos)?.clone()
        } else {
            chance.pick(&self.flows)?.clone()
        };
        match &mut message {
            Message::Hello(hello) => {
                hello.request = chance.number();
                hello.exported = chance.bytes();
            }
            Message::OpenFlow(open) => {
                open.request = chance.number();
                // The attacker's own certificate: it has none, so its key is the impostor's.
                open.caller_key = impostor().id();
            }
            _ => return None,
        }
        Some(Attempt::ToNode(node, message))
    }

    /// The newest content that the node was sent, in a higher version, signed by the impostor.
    fn forged(&self, node: usize, chance: &mut Chance) -> Option<Bundle> {
        let own = self.manifests.iter().rev().find(|(to, _)| *to == node);
        let (_, manifest) = own?;
        let mut claimed = peek(manifest)?;
        claimed.version += 1 + chance.below(1_000);
        self.whole(signed::seal(&claimed, &[&impostor_key()]))
    }

    /// The manifest with every section that it names, as far as they were overheard.
    fn whole(&self, manifest: Vec<u8>) -> Option<Bundle> {
        let named = peek(&manifest)?.sections;
        let sections = named.values().filter_map(|digest| self.sections.get(digest));
        Some(Bundle { sections: sections.map(|bytes| bytes.clone().into()).collect(), manifest })
    }
}

fn peek(manifest: &[u8]) -> Option<Manifest> {
    Unverified::<Manifest>::parse(manifest).and_then(|found| found.peek()).ok()
}

fn remember<T>(list: &mut Vec<T>, one: T) {
    if list.len() == MAX_REMEMBERED {
        list.remove(0);
    }
    list.push(one);
}

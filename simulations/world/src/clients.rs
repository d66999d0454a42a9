//! People with their clients: some are permitted, some are not, and some try with a key that is
//! not theirs.

use std::{collections::BTreeMap, sync::Arc};

use rap_proto::{SessionId, Signer as _, key::LocalKey, token::Proof};

use crate::{
    cast::{Places, Tenant},
    control,
    kit::Chance,
    message::{AskAccess, Granted, Hello, Message},
    network::Party,
    turn::Turn,
};

pub struct Clients {
    tenants: Vec<Tenant>,
    places: Arc<Places>,
    chance: Chance,
    next_request: u64,
    tries: BTreeMap<u64, Try>,
    welcomed: u64,
}

struct Try {
    key: LocalKey,
    granted: Option<(SessionId, usize)>,
}

impl Clients {
    pub fn new(seed: u64, tenants: Vec<Tenant>, places: Arc<Places>) -> Self {
        Self {
            tenants,
            places,
            chance: Chance::new(seed, 3),
            next_request: 0,
            tries: BTreeMap::new(),
            welcomed: 0,
        }
    }

    /// How many sessions were opened, as the clients saw it.
    pub fn welcomed(&self) -> u64 {
        self.welcomed
    }

    /// Somebody wants to reach something.
    pub fn ask(&mut self, turn: &mut Turn<'_>) {
        let own = usize::from(self.chance.happens(500));
        let foreign = self.chance.happens(100);
        let asked = &self.tenants[if foreign { 1 - own } else { own }];
        let resource = *self.chance.pick(&asked.resources).expect("every tenant has resources");
        // A stranger asks in the name of his own organization or of the foreign one.
        let confused = foreign && self.chance.happens(500);
        let organization = self.tenants[if confused { 1 - own } else { own }].organization;
        // The first user is the one whom policies permit.
        let users = &self.tenants[own].users;
        let common = if self.chance.happens(600) { &users[..1] } else { &users[..] };
        let user = *self.chance.pick(common).expect("every tenant has users");
        let key = control::key(&mut self.chance);
        self.next_request += 1;
        let request = self.next_request;
        let client_key = key.public_key();
        self.tries.insert(request, Try { key, granted: None });
        let ask = AskAccess { request, organization, user, resource, client_key };
        turn.send(Party::Control, Message::AskAccess(Box::new(ask)));
    }

    pub fn handle(&mut self, turn: &mut Turn<'_>, message: Message) -> Option<u64> {
        match message {
            Message::Access { request, outcome: Ok(granted) } => {
                self.connect(turn, request, granted);
                None
            }
            Message::Welcome { request, outcome } => {
                let known = self.tries.get(&request)?.granted.is_some();
                if outcome.is_err() || !known {
                    self.tries.remove(&request);
                    return None;
                }
                self.welcomed += 1;
                Some(request)
            }
            Message::Access { request, outcome: Err(_) } => {
                self.tries.remove(&request);
                None
            }
            _ => None,
        }
    }

    fn connect(&mut self, turn: &mut Turn<'_>, request: u64, granted: Granted) {
        let Granted { session, token, entries } = granted;
        let place = entries.first().and_then(|entry| self.places.get(entry));
        let (Some(one), Some(&place)) = (self.tries.get_mut(&request), place) else { return };
        one.granted = Some((session, place));
        let exported: [u8; 32] = self.chance.bytes();
        let proof = if self.chance.happens(100) {
            // Somebody who got hold of the token and not of the key.
            Proof::make(&token, exported, &control::key(&mut self.chance))
        } else {
            Proof::make(&token, exported, &one.key)
        };
        let hello = Hello { request, token, proof, exported };
        turn.send(Party::Node(place), Message::Hello(Box::new(hello)));
    }

    /// The person is done.
    pub fn close(&mut self, turn: &mut Turn<'_>, request: u64) {
        let Some(done) = self.tries.remove(&request) else { return };
        if let Some((session, entry)) = done.granted {
            turn.send(Party::Node(entry), Message::Close { session });
        }
    }
}

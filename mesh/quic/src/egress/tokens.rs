//! Tokens whose signature was verified already at this egress: the channels of a session follow
//! one another closely, and a signature is the dearest part of opening one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use rap_mesh_core::{View, admission::open_token};
use rap_proto::{Digest, RefusalCode, token::AccessClaims};

use crate::mesh::locked;

/// The most tokens that are remembered.
const MAX_TOKENS: usize = 4096;

#[derive(Default)]
pub(crate) struct TokenCache {
    known: Mutex<Known>,
}

/// INVARIANT: every token in `claims` was verified with the control keys of snapshot `version`.
#[derive(Default)]
struct Known {
    version: u64,
    claims: BTreeMap<Digest, Arc<AccessClaims>>,
}

impl TokenCache {
    pub(crate) fn open(&self, view: &View, token: &[u8]) -> Result<Arc<AccessClaims>, RefusalCode> {
        let digest = Digest::of(token);
        {
            let mut known = locked(&self.known);
            if known.version != view.version {
                *known = Known { version: view.version, claims: BTreeMap::new() };
            }
            if let Some(claims) = known.claims.get(&digest) {
                return Ok(claims.clone());
            }
        }
        let claims = Arc::new(open_token(view, token)?.into_inner());
        let mut known = locked(&self.known);
        if known.version == view.version {
            if known.claims.len() >= MAX_TOKENS {
                known.claims.clear();
            }
            known.claims.insert(digest, claims.clone());
        }
        Ok(claims)
    }
}

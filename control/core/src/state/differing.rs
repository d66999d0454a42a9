use rap_proto::{Digest, codec};

use super::State;

macro_rules! digests {
    ($state:expr, $($field:ident),* $(,)?) => {{
        // Whole, so that no projection is forgotten here.
        let State { $($field),* } = $state;
        vec![$((stringify!($field), Digest::of(&codec::encode($field)))),*]
    }};
}

impl State {
    /// The SHA-256 of each projection, by its name. `position` and `at` are named like them.
    pub fn digests(&self) -> Vec<(&'static str, Digest)> {
        digests!(
            self,
            position,
            at,
            cluster,
            organizations,
            users,
            logins,
            api_tokens,
            join_tokens,
            nodes,
            pools,
            resources,
            policies,
            sessions,
            vpn_connections,
            leaderships,
            authority,
        )
    }

    /// The projections in which two states are not the same byte for byte, by name.
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.digests().into_iter().zip(other.digests());
        pairs.filter(|(one, other)| one != other).map(|((name, _), _)| name).collect()
    }
}

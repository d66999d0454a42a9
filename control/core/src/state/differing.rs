use rap_proto::codec;

use super::State;

macro_rules! differing {
    ($one:expr, $other:expr, $($field:ident),* $(,)?) => {{
        // Whole, so that no projection is forgotten here.
        let State { $($field),* } = $one;
        let mut names = Vec::new();
        $(
            if codec::encode($field) != codec::encode(&$other.$field) {
                names.push(stringify!($field));
            }
        )*
        names
    }};
}

impl State {
    /// The projections in which two states are not the same byte for byte, by name. `position` and
    /// `at` are named like them.
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        differing!(
            self,
            other,
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
}

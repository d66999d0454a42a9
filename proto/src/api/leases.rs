use super::bodies;

bodies! {
    /// How the lease table stands as a whole, as far as the replica that answers knows.
    pub struct Leases {
        /// The timeline of the database: each failover to another server begins the next.
        pub timeline: u64,
        /// The timeline whose losses were given up last.
        pub loss_accepted: Option<u64>,
        /// How many connections wait because the database shows less than was granted.
        pub held_up: u64,
        pub revision: u64,
    }

    /// `POST /leases/accept-loss`.
    pub struct AcceptLoss {
        /// The one that the caller looked at.
        #[cfg_attr(feature = "openapi", schema(maximum = 4_294_967_295_u64))]
        #[serde(deserialize_with = "super::whole::deserialize")]
        pub timeline: u64,
    }
}

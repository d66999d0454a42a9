//! Every event of the log: all types and schemas, and one decoder for any of them.

use crate::{
    aggregate::{EventCodec, EventError, EventKind},
    api_token::ApiTokenEvent,
    authority::AuthorityEvent,
    cluster::ClusterEvent,
    guessing::GuessingEvent,
    join_token::JoinTokenEvent,
    leadership::LeadershipEvent,
    log::Envelope,
    login::LoginEvent,
    membership::MembershipEvent,
    node::NodeEvent,
    node_report::NodeReportEvent,
    organization::OrganizationEvent,
    policy::PolicyEvent,
    pool::PoolEvent,
    resource::ResourceEvent,
    session::SessionEvent,
    user::UserEvent,
    vpn_connection::VpnConnectionEvent,
};

macro_rules! domain {
    ($($category:literal => $variant:ident($event:ty)),* $(,)?) => {
        /// Any event of any aggregate, for folds over the whole log.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum DomainEvent {
            $($variant($event),)*
        }

        impl DomainEvent {
            /// Reads an event of any known type and schema in its newest shape.
            pub fn decode(
                event_type: &str,
                schema: u16,
                payload: &[u8],
            ) -> Result<Self, EventError> {
                match event_type.split('.').next() {
                    $(Some($category) => {
                        <$event>::decode(event_type, schema, payload).map(Self::$variant)
                    })*
                    _ => Err(EventError::Unknown { event_type: event_type.to_owned(), schema }),
                }
            }

            pub fn from_envelope(envelope: &Envelope) -> Result<Self, EventError> {
                Self::decode(&envelope.event_type, envelope.schema, &envelope.payload)
            }

            /// What it is written as.
            pub fn kind(&self) -> EventKind {
                match self { $(Self::$variant(event) => event.kind(),)* }
            }

            pub fn encode(&self) -> Vec<u8> {
                match self { $(Self::$variant(event) => event.encode(),)* }
            }
        }

        $(impl From<$event> for DomainEvent {
            fn from(event: $event) -> Self {
                Self::$variant(event)
            }
        })*

        /// Every event type with every schema that can be read, in the order of declaration.
        pub fn catalogue() -> Vec<EventKind> {
            [$(<$event>::KINDS),*].concat()
        }
    };
}

domain! {
    "cluster" => Cluster(ClusterEvent),
    "organization" => Organization(OrganizationEvent),
    "user" => User(UserEvent),
    "membership" => Membership(MembershipEvent),
    "login" => Login(LoginEvent),
    "api_token" => ApiToken(ApiTokenEvent),
    "join_token" => JoinToken(JoinTokenEvent),
    "node" => Node(NodeEvent),
    "node_report" => NodeReport(NodeReportEvent),
    "pool" => Pool(PoolEvent),
    "resource" => Resource(ResourceEvent),
    "policy" => Policy(PolicyEvent),
    "session" => Session(SessionEvent),
    "vpn_connection" => VpnConnection(VpnConnectionEvent),
    "leadership" => Leadership(LeadershipEvent),
    "guessing" => Guessing(GuessingEvent),
    "authority" => Authority(AuthorityEvent),
}

/// The payload fields that hold something [`crate::Sensitive`]: show `…` in their place.
pub const REDACTED_FIELDS: &[(&str, &[&str])] = &[
    ("cluster.bootstrapped", &["setup_code"]),
    ("cluster.setup_code_replaced", &["setup_code"]),
    ("user.invited", &["secret"]),
    ("user.password_changed", &["verifier"]),
    ("login.opened", &["secret"]),
    ("api_token.created", &["secret"]),
    ("join_token.created", &["secret"]),
];

/// The payload fields that hold something [`crate::Personal`].
pub const PERSONAL_FIELDS: &[(&str, &[&str])] = &[
    ("user.created", &["display_name"]),
    ("login.opened", &["device"]),
    ("api_token.created", &["label"]),
];

/// The fields of one event type that are about a person, by their names in the payload.
pub fn personal_fields(event_type: &str) -> &'static [&'static str] {
    PERSONAL_FIELDS.iter().find(|(name, _)| *name == event_type).map_or(&[], |(_, fields)| fields)
}

/// The fields of one event type that are shown to nobody, by their names in the payload.
pub fn redacted_fields(event_type: &str) -> &'static [&'static str] {
    REDACTED_FIELDS.iter().find(|(name, _)| *name == event_type).map_or(&[], |(_, fields)| fields)
}

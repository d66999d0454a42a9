//! Closed lists of words: roles, capabilities, kinds and lanes, each with one spelling everywhere.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind}; one of: {known}")]
pub struct UnknownTerm {
    pub(crate) kind: &'static str,
    pub(crate) known: String,
}

macro_rules! terms {
    ($(#[$doc:meta])* $name:ident, $kind:literal: $($(#[$variant_doc:meta])* $variant:ident = $text:literal),* $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        // Written by hand: what a macro renames, the derived schema does not see.
        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::schema::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .enum_values(Some(Self::ALL.iter().map(|term| term.as_str())))
                    .build()
                    .into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::term::UnknownTerm;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|term| term.as_str() == text).ok_or_else(|| $crate::term::UnknownTerm {
                    kind: $kind,
                    known: Self::ALL.iter().map(|term| term.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}
pub(crate) use terms;

terms! {
    /// How gladly paths are led through a node, where there is a choice.
    #[derive(Default)]
    Preference, "preference":
    Avoided = "avoided",
    #[default]
    Neutral = "neutral",
    Preferred = "preferred",
}

impl Preference {
    pub(crate) fn is_neutral(&self) -> bool {
        *self == Self::Neutral
    }
}

terms! {
    /// What a node may do, by assignment of the control plane.
    NodeRole, "node role":
    ControlApi = "control-api",
    /// Accepts clients, checks their tokens and maps them onto lanes.
    EntryNode = "entry-node",
    /// Forwards the datagrams of other nodes' connections without being able to read them.
    RelayNode = "relay-node",
    /// Reaches ssh, web and tcp resources as byte streams.
    StreamWorker = "stream-worker",
    RdpWorker = "rdp-worker",
    VncWorker = "vnc-worker",
    VpnExit = "vpn-exit",
    VpnConnector = "vpn-connector",
    FileStorageCache = "file-storage-cache",
    UpdateCache = "update-cache",
    VersionStorage = "version-storage",
    VideoRelay = "video-relay",
}

terms! {
    /// What a host is able to do, as its agent found out. Never a permission.
    Capability, "capability":
    AcceptClientIngress = "can_accept_client_ingress",
    AcceptNodeIngress = "can_accept_node_ingress",
    RouteMesh = "can_route_mesh",
    EgressInternet = "can_egress_internet",
    EgressPrivateNetwork = "can_egress_private_network",
    RunRdpWorker = "can_run_rdp_worker",
    RunVncWorker = "can_run_vnc_worker",
    RunVpnExit = "can_run_vpn_exit",
    RunVpnConnector = "can_run_vpn_connector",
    RunFileCache = "can_run_file_cache",
    RunUpdateCache = "can_run_update_cache",
    RunVideoRelay = "can_run_video_relay",
}

terms! {
    /// What a person may do on the platform as a whole.
    PlatformRole, "platform role":
    Owner = "platform_owner",
    Admin = "platform_admin",
}

terms! {
    /// What a person may do within one organization.
    OrganizationRole, "organization role":
    Owner = "organization_owner",
    Admin = "organization_admin",
    User = "organization_user",
}

terms! {
    /// How a resource is spoken to. All three are byte streams to the fabric.
    ResourceKind, "resource kind":
    Ssh = "ssh",
    Web = "web",
    Tcp = "tcp",
}

terms! {
    /// The traffic class between two nodes, from most to least urgent.
    Lane, "lane":
    Interactive = "interactive",
    Media = "media",
    Bulk = "bulk",
}

terms! {
    /// The kind of one logical flow of a session.
    ChannelKind, "channel":
    /// An opaque, reliable byte stream in both directions. All others carry messages.
    Stream = "stream",
    /// Keys, clicks and moves.
    Input = "input",
    /// Attach, detach, takeover, resize: what changes a session's state.
    Control = "control",
    /// Pictures: the newest counts.
    Render = "render",
    Clipboard = "clipboard",
    FileTransfer = "file_transfer",
    VpnPackets = "vpn_packets",
    /// Samples of how things go.
    Telemetry = "telemetry",
}

terms! {
    /// What an API token lets a program do, within what its user may do.
    ApiScope, "API scope":
    /// Look at everything that the user may see, but for the audit log.
    Read = "read",
    /// Ask for access to resources.
    Connect = "connect",
    /// Change what the user may change.
    Manage = "manage",
    /// Read the audit log.
    Audit = "audit",
}

terms! {
    /// What rules say of one question.
    Verdict, "verdict":
    Permit = "permit",
    Forbid = "forbid",
}

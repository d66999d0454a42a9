use std::net::{IpAddr, Ipv6Addr};

use rap_proto::{ApiTokenId, NodeId, UserId};

use crate::authorization::Principal;

/// Whose bucket a token is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Payer {
    User(UserId),
    ApiToken(ApiTokenId),
    Address(AddressBlock),
    Node(NodeId),
}

/// What kind of payer it is: a table and a rate of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PayerClass {
    User,
    ApiToken,
    Address,
    Node,
}

/// The addresses that one caller is sure to have: one of IPv4, 2^64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressBlock(IpAddr);

impl AddressBlock {
    /// An IPv4 address within IPv6 counts as the IPv4 address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IpAddr::V4(address)),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
        }
    }
}

impl Payer {
    pub const fn class(self) -> PayerClass {
        match self {
            Self::User(_) => PayerClass::User,
            Self::ApiToken(_) => PayerClass::ApiToken,
            Self::Address(_) => PayerClass::Address,
            Self::Node(_) => PayerClass::Node,
        }
    }

    /// Who pays for a request: an API token also draws on its user's bucket, so that many tokens
    /// are worth no more than one user. Nobody known leaves the address.
    pub fn of(principal: Option<&Principal>, address: AddressBlock) -> Vec<Self> {
        match principal {
            None | Some(Principal::Setup) => vec![Self::Address(address)],
            Some(Principal::User { user, .. }) => vec![Self::User(*user)],
            Some(Principal::ApiToken { user, token, .. }) => {
                vec![Self::ApiToken(*token), Self::User(*user)]
            }
            Some(Principal::Node(node)) => vec![Self::Node(*node)],
        }
    }
}

impl PayerClass {
    pub const ALL: [Self; 4] = [Self::User, Self::ApiToken, Self::Address, Self::Node];

    /// One word, for rules and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ApiToken => "api_token",
            Self::Address => "address",
            Self::Node => "node",
        }
    }
}

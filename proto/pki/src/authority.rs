//! The cluster's certificate authority.

use std::{net::IpAddr, time::Duration};

use rap_proto::{ClusterId, Digest, NodeId, PublicKey, Signer as _, Timestamp, key::LocalKey};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    identity::{self, NODE_ZONE},
    signing::{Issuing, Subject},
};

/// How long a CA certificate lives. Trust anchors are exchanged through snapshots, long before.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How far in the past a certificate begins, for peers whose clocks are behind.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// The longest DNS name (RFC 1035).
const MAX_NAME_BYTES: usize = 253;

/// The one issuer of a cluster: its certificate and its key.
#[derive(Debug, Clone)]
pub struct ClusterAuthority {
    cluster: ClusterId,
    certificate: Vec<u8>,
    key: LocalKey,
}

/// What a node's certificate says.
#[derive(Debug, Clone, Copy)]
pub struct NodeCertificate<'a> {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub key: &'a PublicKey,
    /// Random.
    pub serial: [u8; 16],
    /// From 0.
    pub renewal: u64,
    /// That of the authority by which it is issued.
    pub authority_epoch: u64,
    pub now: Timestamp,
    pub lifetime: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadAuthorityError {
    #[error("not a cluster's CA certificate in DER")]
    NotAnAuthority,
    #[error("the key is not the one in the CA certificate")]
    OtherKey,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no DNS name or IP address that a server may have")]
pub struct InvalidServerName {
    pub name: String,
}

impl ClusterAuthority {
    /// Makes a self-signed CA for a new cluster. `serial` is 16 random bytes.
    pub fn create(cluster: ClusterId, key: &LocalKey, serial: [u8; 16], now: Timestamp) -> Self {
        let mut params = validity(now, AUTHORITY_LIFETIME);
        params.serial_number = Some(positive(serial));
        params.distinguished_name = common_name(format!("RAP cluster {cluster}"));
        params.subject_alt_names = vec![uri(identity::cluster_uri(cluster))];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params
            .self_signed(&Issuing::new(key))
            .expect("a self-signed certificate of valid parts can be encoded");
        Self { cluster, certificate: certificate.der().to_vec(), key: key.clone() }
    }

    /// Takes up an authority made earlier by [`ClusterAuthority::create`].
    pub fn load(certificate: &[u8], key: &LocalKey) -> Result<Self, LoadAuthorityError> {
        let (rest, parsed) = X509Certificate::from_der(certificate)
            .map_err(|_| LoadAuthorityError::NotAnAuthority)?;
        if !rest.is_empty() || !parsed.is_ca() {
            return Err(LoadAuthorityError::NotAnAuthority);
        }
        let cluster = identity::cluster_of(&parsed).ok_or(LoadAuthorityError::NotAnAuthority)?;
        if parsed.public_key().raw != key.public_key().to_spki() {
            return Err(LoadAuthorityError::OtherKey);
        }
        Ok(Self { cluster, certificate: certificate.to_vec(), key: key.clone() })
    }

    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The CA certificate in DER: the cluster's only trust root.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// The SHA-256 of the CA certificate's DER, as a join line carries it.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// A node's certificate (DER): `spiffe://<cluster>/node/<node>` and the name of
    /// [`crate::node_server_name`], for both ends of TLS.
    ///
    /// # Panics
    /// When its cluster is not this authority's: the caller mixed up two clusters.
    pub fn issue_node(&self, certificate: &NodeCertificate<'_>) -> Vec<u8> {
        let NodeCertificate { cluster, node, key, serial, renewal, authority_epoch, now, lifetime } =
            *certificate;
        assert_eq!(cluster, self.cluster, "a cluster's CA certifies its own nodes only");
        let mut params = validity(now, lifetime);
        params.distinguished_name = common_name(node.to_string());
        let subject = &mut params.distinguished_name;
        subject.push(DnType::CustomDnType(identity::RENEWAL_OID.to_vec()), renewal.to_string());
        let epoch = authority_epoch.to_string().try_into().expect("digits are printable");
        subject.push(
            DnType::CustomDnType(identity::EPOCH_OID.to_vec()),
            DnValue::PrintableString(epoch),
        );
        params.subject_alt_names =
            vec![uri(identity::node_uri(cluster, node)), dns(&identity::node_server_name(node))];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, key, serial)
    }

    /// A certificate (DER) for the control plane's HTTPS under `names`, DNS names or IP
    /// addresses. It is no client certificate, and no name in it can be a node's.
    pub fn issue_server(
        &self,
        names: &[String],
        key: &PublicKey,
        serial: [u8; 16],
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Vec<u8>, InvalidServerName> {
        let names = names
            .iter()
            .map(|name| server_name(name).ok_or_else(|| InvalidServerName { name: name.clone() }));
        let mut params = validity(now, lifetime);
        params.distinguished_name = common_name("RAP control".to_owned());
        params.subject_alt_names = names.collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(self.issue(params, key, serial))
    }

    fn issue(&self, mut params: CertificateParams, key: &PublicKey, serial: [u8; 16]) -> Vec<u8> {
        params.serial_number = Some(positive(serial));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let authority = CertificateDer::from(self.certificate.as_slice());
        let issuer = Issuer::from_ca_cert_der(&authority, Issuing::new(&self.key))
            .expect("the authority's certificate was parsed when it was made or loaded");
        let certificate = params
            .signed_by(&Subject::new(key), &issuer)
            .expect("a certificate of valid parts can be encoded");
        certificate.der().to_vec()
    }
}

fn validity(now: Timestamp, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = seconds(now - CLOCK_TOLERANCE);
    params.not_after = seconds(now + lifetime);
    params
}

fn seconds(time: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(time.unix_millis() / 1000)
        .expect("a timestamp lies between 1970 and 9999")
}

fn common_name(name: String) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn uri(text: String) -> SanType {
    SanType::URI(text.try_into().expect("a URI made of ids is ASCII"))
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("a checked name is ASCII"))
}

fn server_name(name: &str) -> Option<SanType> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Some(SanType::IpAddress(address));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let valid = name.len() <= MAX_NAME_BYTES
        && name.split('.').all(label)
        && !name.ends_with(NODE_ZONE)
        && !name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    valid.then(|| dns(name))
}

/// RFC 5280 wants a positive serial of at most 20 octets.
fn positive(mut serial: [u8; 16]) -> SerialNumber {
    serial[0] = serial[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&serial)
}

use rap_pki::{
    ClusterAuthority, IdentityError, LoadAuthorityError, PeerIdentity,
    csr::{self, CsrError},
    node_server_name, pem,
};
use rap_proto::{Digest, PublicKey, Signer as _, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};

use super::{DAY, SERIAL, authority, certificate, control_identity, key, node, node_identity, now};

#[test]
fn a_node_certificate_tells_who_the_node_is() {
    let authority = authority(1);
    let at = Timestamp::from_unix_millis(1_790_000_000_999);
    let leaf = &node_identity(&authority, 9, at).chain[0];
    let expected = PeerIdentity {
        cluster: authority.cluster(),
        node: node(9),
        key: key(9).public_key().id(),
        renewal: 3,
        authority_epoch: 2,
        not_after: Timestamp::from_unix_millis(1_790_000_000_000) + DAY,
    };
    assert_eq!(PeerIdentity::from_leaf(leaf), Ok(expected));
}

#[test]
fn a_node_certificate_holds_nothing_that_makes_it_an_issuer() {
    let leaf = node_identity(&authority(1), 9, now()).chain.remove(0);
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let constraints = parsed.basic_constraints().unwrap().unwrap();
    assert!(!constraints.value.ca);
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
    let extended = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any);
    assert_eq!(parsed.raw_serial()[0] & 0x80, 0, "a serial number is positive");
}

#[test]
fn certificates_of_no_node_are_told_apart() {
    let authority = authority(1);
    let control = control_identity(&authority, 5);
    for der in [control.chain[0].as_slice(), authority.certificate_der()] {
        assert_eq!(PeerIdentity::from_leaf(der), Err(IdentityError::NotANode));
    }
    let mut leaf = node_identity(&authority, 9, now()).chain.remove(0);
    leaf.push(0);
    for der in [leaf.as_slice(), b"", b"\x30\x00"] {
        assert_eq!(PeerIdentity::from_leaf(der), Err(IdentityError::Malformed));
    }
}

#[test]
fn an_authority_is_loaded_only_with_its_own_key() {
    let made = authority(1);
    let loaded = ClusterAuthority::load(made.certificate_der(), &key(1)).unwrap();
    assert_eq!(loaded.cluster(), made.cluster());
    assert_eq!(loaded.fingerprint(), Digest::of(made.certificate_der()));
    let load = |der: &[u8], number| ClusterAuthority::load(der, &key(number)).unwrap_err();
    assert_eq!(load(made.certificate_der(), 2), LoadAuthorityError::OtherKey);
    let leaf = node_identity(&made, 9, now()).chain.remove(0);
    assert_eq!(load(&leaf, 9), LoadAuthorityError::NotAnAuthority);
    assert_eq!(load(b"rubbish", 1), LoadAuthorityError::NotAnAuthority);
}

#[test]
#[should_panic(expected = "its own nodes only")]
fn an_authority_certifies_no_node_of_another_cluster() {
    let public = key(9).public_key();
    authority(1).issue_node(&certificate(&authority(2), 9, &public, now()));
}

#[test]
fn server_names_have_a_strict_alphabet_and_are_never_a_nodes() {
    let authority = authority(1);
    let issue = |name: &str| {
        authority.issue_server(&[name.to_owned()], &key(5).public_key(), SERIAL, now(), DAY)
    };
    for name in ["control", "control.example", "a-1.b", "127.0.0.1", "2001:db8::1"] {
        assert!(issue(name).is_ok(), "{name}");
    }
    let node_name = node_server_name(node(9));
    let long = format!("{}.example", "a".repeat(64));
    let refused = ["", ".", "a..b", "-a", "a-", "a b", "a\r\nb", "*.example", "1.2.3.4.5", "A.b"];
    for name in refused.into_iter().chain([node_name.as_str(), long.as_str(), &"a.".repeat(127)]) {
        assert_eq!(issue(name).unwrap_err().name, name);
    }
}

#[test]
fn only_the_key_of_a_request_is_used() {
    let greedy = KeyPair::generate().unwrap();
    let mut params =
        CertificateParams::new([node_server_name(node(1)), "control.example".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let request = params.serialize_request(&greedy).unwrap();

    let key = csr::public_key(request.der()).unwrap();
    assert_eq!(key, PublicKey::from_sec1(greedy.public_key_raw()).unwrap());
    let authority = authority(1);
    let leaf = authority.issue_node(&certificate(&authority, 9, &key, now()));
    assert_eq!(PeerIdentity::from_leaf(&leaf).unwrap().node, node(9));
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    assert!(!parsed.is_ca() && !parsed.key_usage().unwrap().unwrap().value.key_cert_sign());
}

#[test]
fn a_request_proves_its_key() {
    let own = csr::make(&key(9));
    assert_eq!(csr::public_key(&own), Ok(key(9).public_key()));

    let mut foreign = own.clone();
    let (from, to) = (key(9).public_key().to_spki(), key(8).public_key().to_spki());
    let at = foreign.windows(from.len()).position(|window| window == from).unwrap();
    foreign[at..at + to.len()].copy_from_slice(&to);
    assert_eq!(csr::public_key(&foreign), Err(CsrError::NotSelfSigned));
}

#[test]
fn requests_that_are_none_are_refused() {
    let own = csr::make(&key(9));
    let other_curve = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let other = CertificateParams::default().serialize_request(&other_curve).unwrap();
    assert_eq!(csr::public_key(other.der()), Err(CsrError::UnsupportedKey));
    assert_eq!(csr::public_key(&[own.clone(), vec![0]].concat()), Err(CsrError::Malformed));
    assert_eq!(csr::public_key(&[0; csr::MAX_BYTES + 1]), Err(CsrError::TooLarge));
    for cut in 0..own.len() {
        assert_eq!(csr::public_key(&own[..cut]), Err(CsrError::Malformed));
    }
}

#[test]
fn certificates_pass_through_pem() {
    let identity = control_identity(&authority(1), 5);
    let text = pem::encode(identity.chain.iter().map(Vec::as_slice));
    assert_eq!(pem::decode(&text).unwrap(), identity.chain);
    assert_eq!(pem::decode("nothing"), Err(pem::PemError::Empty));
    let many = text.repeat(pem::MAX_CERTIFICATES / 2 + 1);
    assert_eq!(pem::decode(&many), Err(pem::PemError::TooMany));
    let broken = text.replacen("MI", "!!", 1);
    assert_eq!(pem::decode(&broken), Err(pem::PemError::Malformed));
}

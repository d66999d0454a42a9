use std::sync::Arc;

use rap_pki::{
    PeerIdentity, csr, node_server_name,
    tls::{self, ClientAuth, Identity, Roots},
};
use rap_proto::Digest;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::CertificateDer;

use super::{DAY, authority, certificate, control_identity, key, node, node_identity, now};

const ALPN: &[&[u8]] = &[b"test/1"];
/// Far more flights than a TLS 1.3 handshake takes.
const MAX_FLIGHTS: usize = 10;

#[test]
fn two_nodes_of_a_cluster_prove_their_names_to_each_other() {
    let authority = authority(1);
    let (entry, egress) =
        (node_identity(&authority, 2, now()), node_identity(&authority, 3, now()));
    let roots = tls::roots(&[authority.certificate_der()]).unwrap();
    let (client, server) = shake(
        tls::client(roots.clone(), Some(&entry), ALPN).unwrap(),
        tls::server(&egress, ClientAuth::Optional(roots), ALPN).unwrap(),
        &node_server_name(node(3)),
    )
    .unwrap();
    let identity = |certificates: Option<&[CertificateDer<'_>]>| {
        PeerIdentity::from_leaf(&certificates.unwrap()[0]).unwrap().node
    };
    assert_eq!(identity(client.peer_certificates()), node(3));
    assert_eq!(identity(server.peer_certificates()), node(2));
    assert_eq!(client.alpn_protocol(), Some(ALPN[0]));
    let export = |result: Result<[u8; 32], rustls::Error>| result.unwrap();
    assert_eq!(
        export(client.export_keying_material([0; 32], b"EXPORTER-rap", None)),
        export(server.export_keying_material([0; 32], b"EXPORTER-rap", None)),
    );
}

#[test]
fn a_client_without_a_certificate_is_let_in_as_nobody() {
    let authority = authority(1);
    let (_, server) =
        dial(&authority_roots(1), None, &node_identity(&authority, 3, now()), 3).unwrap();
    assert!(server.peer_certificates().is_none());
}

#[test]
fn a_node_is_not_taken_for_another() {
    let authority = authority(1);
    let wrong = dial(&authority_roots(1), None, &node_identity(&authority, 3, now()), 4);
    assert!(wrong.unwrap_err().to_string().contains("not valid for name"));
}

#[test]
fn a_certificate_of_another_cluster_is_refused_on_both_sides() {
    let (own, foreign) = (authority(1), authority(7));
    let server = node_identity(&foreign, 3, now());
    assert!(dial(&authority_roots(1), None, &server, 3).is_err());
    let client = node_identity(&foreign, 2, now());
    let server = node_identity(&own, 3, now());
    assert!(dial(&authority_roots(1), Some(&client), &server, 3).is_err());
}

#[test]
fn an_expired_certificate_is_refused_on_both_sides() {
    let authority = authority(1);
    let long_ago = now() - DAY * 2;
    let (old, fresh) =
        (node_identity(&authority, 2, long_ago), node_identity(&authority, 3, now()));
    let expired = dial(&authority_roots(1), None, &old, 2).unwrap_err();
    assert!(expired.to_string().contains("expired"), "{expired}");
    let expired = dial(&authority_roots(1), Some(&old), &fresh, 3).unwrap_err();
    assert!(expired.to_string().contains("expired"), "{expired}");
}

#[test]
fn a_node_certificate_cannot_act_as_issuer() {
    let authority = authority(1);
    let issuer_key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&issuer_key).unwrap();
    let certified = csr::public_key(request.der()).unwrap();
    let own = authority.issue_node(&certificate(&authority, 2, &certified, now()));
    let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(own.clone()), issuer_key).unwrap();
    let forged_key = key(3);
    let forged = CertificateParams::new([node_server_name(node(3))])
        .unwrap()
        .signed_by(&KeyPair::from_pem(&forged_key.to_pem()).unwrap(), &issuer)
        .unwrap();
    let chain = vec![forged.der().to_vec(), own, authority.certificate_der().to_vec()];
    let forged = Identity { chain, key: forged_key };
    assert!(dial(&authority_roots(1), None, &forged, 3).is_err());
    let genuine = node_identity(&authority, 3, now());
    assert!(dial(&authority_roots(1), Some(&forged), &genuine, 3).is_err());
}

#[test]
fn the_control_planes_certificate_is_no_client_certificate() {
    let authority = authority(1);
    let control = control_identity(&authority, 5);
    let server = node_identity(&authority, 3, now());
    assert!(dial(&authority_roots(1), Some(&control), &server, 3).is_err());
}

#[test]
fn a_pinned_client_trusts_the_fingerprint_and_nothing_else() {
    let (own, foreign) = (authority(1), authority(7));
    let server = |identity: &Identity| tls::server(identity, ClientAuth::None, ALPN).unwrap();
    let join = |pin: Digest, identity: &Identity, name: &str| {
        shake(tls::pinned_client(pin, ALPN), server(identity), name).map(|_| ())
    };
    let genuine = control_identity(&own, 5);
    for name in ["control.example", "192.0.2.7"] {
        join(own.fingerprint(), &genuine, name).unwrap();
    }
    assert!(join(own.fingerprint(), &genuine, "other.example").is_err());
    assert!(join(foreign.fingerprint(), &genuine, "control.example").is_err());

    let mut impostor = control_identity(&foreign, 6);
    assert!(join(own.fingerprint(), &impostor, "control.example").is_err());
    impostor.chain.push(own.certificate_der().to_vec());
    assert!(join(own.fingerprint(), &impostor, "control.example").is_err());

    let leaf_only = Identity { chain: genuine.chain[..1].to_vec(), key: genuine.key };
    let own_leaf = Digest::of(&leaf_only.chain[0]);
    assert!(join(own.fingerprint(), &leaf_only, "control.example").is_err());
    assert!(join(own_leaf, &leaf_only, "control.example").is_err());
}

#[test]
fn a_second_handshake_shows_its_certificate_again() {
    let authority = authority(1);
    let roots = authority_roots(1);
    let client = node_identity(&authority, 2, now());
    let client = Arc::new(tls::client(roots.clone(), Some(&client), ALPN).unwrap());
    let server = node_identity(&authority, 3, now());
    let server = Arc::new(tls::server(&server, ClientAuth::Optional(roots), ALPN).unwrap());
    for _ in 0..2 {
        let (client, _) =
            connect(client.clone(), server.clone(), &node_server_name(node(3))).unwrap();
        assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[test]
fn no_roots_and_a_wrong_key_make_no_configuration() {
    assert!(tls::roots::<Vec<u8>>(&[]).is_err());
    assert!(tls::roots(&[b"rubbish"]).is_err());
    let mut identity = node_identity(&authority(1), 3, now());
    identity.key = key(4);
    assert!(tls::server(&identity, ClientAuth::None, ALPN).is_err());
    assert!(tls::client(authority_roots(1), Some(&identity), ALPN).is_err());
}

fn authority_roots(number: u8) -> Roots {
    tls::roots(&[authority(number).certificate_der()]).unwrap()
}

/// Dials `server` under the name of node `name`, both sides trusting the same roots.
fn dial(
    roots: &Roots,
    client: Option<&Identity>,
    server: &Identity,
    name: u128,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    shake(
        tls::client(roots.clone(), client, ALPN).unwrap(),
        tls::server(server, ClientAuth::Optional(roots.clone()), ALPN).unwrap(),
        &node_server_name(node(name)),
    )
}

fn shake(
    client: ClientConfig,
    server: ServerConfig,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    connect(Arc::new(client), Arc::new(server), name)
}

/// Passes flights between the two until both are done or one gives up.
fn connect(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let mut client = ClientConnection::new(client, name.to_owned().try_into().unwrap())?;
    let mut server = ServerConnection::new(server)?;
    for _ in 0..MAX_FLIGHTS {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        let mut bytes = flight.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets()?;
        }
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }
        let mut bytes = flight.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets()?;
        }
        if !client.is_handshaking() && !server.is_handshaking() && !client.wants_write() {
            return Ok((client, server));
        }
    }
    panic!("the handshake did not end within {MAX_FLIGHTS} flights");
}

//! HTTPS to the one cluster whose CA is known, and what its failures mean.

use std::{error::Error, io, time::Duration};

use rap_proto::{ControlUrl, Digest};

use crate::{args::CaFingerprint, failure::Failure};

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The same while there are other servers to ask: time for one lost packet.
pub(super) const CONNECT_TURN: Duration = Duration::from_secs(3);
/// How long a connection may say nothing. Event streams send a comment more often than that.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A client that speaks to nobody but a server of the cluster with this CA.
pub(super) fn client(ca: Digest, connect: Duration) -> Result<reqwest::Client, Failure> {
    reqwest::Client::builder()
        .use_preconfigured_tls(rap_pki::tls::pinned_client(ca, &[b"http/1.1"]))
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(connect)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("rap/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Failure::usage(format!("HTTPS cannot be set up: {error}")))
}

/// Whether the server is not of the expected cluster: then no attempt will succeed.
pub(super) fn is_distrust(error: &reqwest::Error) -> bool {
    tls_error(error).is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)))
}

pub(super) fn failure(error: &reqwest::Error, control: &ControlUrl, ca: &CaFingerprint) -> Failure {
    if is_distrust(error) {
        return Failure::unavailable(format!(
            "the server at {control} is not of the cluster with the CA {ca}"
        ))
        .hint("ask whoever runs the fabric for the address and the fingerprint");
    }
    let cause = root(error);
    Failure::unavailable(format!("the control plane at {control} cannot be reached: {cause}"))
        .hint("check the address and the network; rap status shows what is configured")
}

/// The same beside what is said of another server.
pub(super) fn in_short(error: &reqwest::Error) -> String {
    if is_distrust(error) { "of another cluster".to_owned() } else { root(error) }
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    chain(error).find_map(|cause| cause.downcast_ref::<rustls::Error>())
}

fn root(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

/// An error and its causes. An I/O error hides what it wraps from `source`, so it is opened.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_error_is_found_within_io_errors() {
        let inner = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let outer = io::Error::other(io::Error::other(inner));
        assert!(matches!(tls_error(&outer), Some(rustls::Error::InvalidCertificate(_))));
        assert!(tls_error(&io::Error::from(io::ErrorKind::ConnectionRefused)).is_none());
    }
}

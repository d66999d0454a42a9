//! The network itself: what must not be reachable is not, or the other tests prove nothing.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rap_e2e::{Lab, Office, Space};

const ATTEMPT: Duration = Duration::from_millis(300);
const PORT: u16 = 7000;

#[tokio::test]
async fn the_relay_is_the_only_way_to_the_egress_and_the_egress_to_the_office() {
    let test = "network::the_relay_is_the_only_way_to_the_egress_and_the_egress_to_the_office";
    if super::rootless::is_for_a_child(test) {
        return;
    }
    let lab = match Lab::build() {
        Ok(lab) => lab,
        Err(reason) => return super::skip(test, &reason),
    };
    let logs = tempfile::tempdir().unwrap();
    let office = Office::open(&lab, logs.path(), logs.path());
    let _listeners = [Space::Entry, Space::Relay, Space::Egress].map(|at| lab.listen(at, PORT));

    for (from, to) in [(Space::Entry, Space::Relay), (Space::Relay, Space::Egress)] {
        assert_eq!(dial(&lab, from, to, PORT), Ok(()), "{from:?} {to:?}");
        assert_eq!(dial(&lab, to, from, PORT), Ok(()), "{to:?} {from:?}");
    }
    assert_eq!(dial(&lab, Space::Client, Space::Entry, PORT), Ok(()));
    assert_eq!(dial(&lab, Space::Entry, Space::Egress, PORT), Err(ErrorKind::TimedOut));
    assert_eq!(dial(&lab, Space::Egress, Space::Entry, PORT), Err(ErrorKind::TimedOut));
    for from in [Space::Client, Space::Entry, Space::Relay, Space::Control] {
        let outcome = dial(&lab, from, Space::Office, 80);
        assert_eq!(outcome, Err(ErrorKind::NetworkUnreachable), "{from:?}");
    }
    for port in [22, 80] {
        rap_e2e::until("the office is open", Duration::from_secs(10), async || {
            dial(&lab, Space::Egress, Space::Office, port).ok()
        })
        .await;
    }
    assert!(office.user_key().is_file());
}

fn dial(lab: &Lab, from: Space, to: Space, port: u16) -> Result<(), ErrorKind> {
    let address = SocketAddr::from((to.address(), port));
    let attempt = lab.inside(from, move || TcpStream::connect_timeout(&address, ATTEMPT));
    attempt.join().unwrap().map(drop).map_err(|error| error.kind())
}

//! Seeing from where a node's datagrams come: a socket of this relay's waits for one knock.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use rap_mesh_core::{
    Caller,
    admission::admit_seen,
    carrier::Carrier,
    holes::{Limits, Places},
    refusals::refusal,
};
use rap_proto::{
    Lane, NodeId, RefusalCode,
    wire::hop::{Reply, knock},
};
use tokio::time::timeout;

use super::{
    CATCH_UP_WAIT, Origin, may_be_outdated, no_sockets,
    socket::{Awaiting, FlowSocket},
};
use crate::{
    frames::{say_last, write_frame},
    mesh::{Mesh, locked},
    pipe::Outlet,
    watch::catch_up,
};

/// How many wait for a knock, for one purpose.
pub(crate) struct Looks(Mutex<Places>);

impl Looks {
    pub(crate) const fn new(limits: Limits) -> Self {
        Self(Mutex::new(Places::new(limits)))
    }

    fn take(&self, asker: NodeId) -> Option<Place<'_>> {
        let taken = locked(&self.0).take(asker);
        taken.then_some(Place { among: self, asker })
    }
}

/// A place among the looks, for as long as it is held.
struct Place<'l> {
    among: &'l Looks,
    asker: NodeId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        locked(&self.among.0).give_back(self.asker);
    }
}

/// Answers one that wants to know where it is seen.
pub(super) async fn serve(mesh: &Arc<Mesh>, caller: Caller, origin: Origin, mut send: Outlet) {
    let version = mesh.view().version;
    let admitted = || admit_seen(&mesh.view(), &caller, mesh.clock.now());
    let mut outcome = admitted();
    if outcome.is_err_and(may_be_outdated) && catch_up(mesh, version, CATCH_UP_WAIT).await {
        outcome = admitted();
    }
    let looked = match outcome {
        Ok(()) => look(mesh, caller.node, origin, &mut send).await,
        Err(code) => {
            mesh.refused(code, None);
            Err(code)
        }
    };
    let reply = match looked {
        Ok(address) => Reply::SeenAt { address },
        Err(code) => Reply::Refused(refusal(code)),
    };
    say_last(&mut send, &reply).await;
}

async fn look(
    mesh: &Mesh,
    asker: NodeId,
    origin: Origin,
    send: &mut Outlet,
) -> Result<SocketAddr, RefusalCode> {
    // Where no datagram comes from, none is waited for.
    if origin.carrier == Carrier::Tcp {
        return Err(RefusalCode::PathUnavailable);
    }
    let look = Look::open(mesh, &mesh.looks, asker, Lane::Interactive, origin)?;
    let looking = async {
        write_frame(send, &look.here()).await.ok()?;
        look.heard().await.ok()
    };
    // The limit is one of the answer, too: an asker that reads nothing keeps no place.
    match timeout(mesh.limits.knock_wait, looking).await {
        Ok(Some(from)) => Ok(SocketAddr::new(from.ip().to_canonical(), from.port())),
        Ok(None) | Err(_) => Err(RefusalCode::PathUnavailable),
    }
}

/// A socket that waits for an asker's knock, and its place.
pub(super) struct Look<'l> {
    _place: Place<'l>,
    socket: Awaiting,
    port: u16,
    secret: [u8; 16],
    /// Where the knock has to come from.
    of: IpAddr,
}

impl<'l> Look<'l> {
    pub(super) fn open(
        mesh: &Mesh,
        among: &'l Looks,
        asker: NodeId,
        lane: Lane,
        origin: Origin,
    ) -> Result<Self, RefusalCode> {
        let _place = among.take(asker).ok_or(RefusalCode::LimitReached)?;
        let (of, mut secret) = (origin.proven, [0; 16]);
        let like = SocketAddr::new(of, 0);
        let socket = Awaiting::bind(&*mesh.network, lane, origin.own, like).map_err(no_sockets)?;
        let port = socket.local_port().map_err(no_sockets)?;
        let filled = rap_pki::tls::provider().secure_random.fill(&mut secret);
        filled.map_err(|_| RefusalCode::PathUnavailable)?;
        Ok(Self { _place, socket, port, secret, of })
    }

    /// What the asker is told.
    pub(super) const fn here(&self) -> Reply {
        Reply::KnockHere { port: self.port, secret: self.secret }
    }

    async fn heard(&self) -> io::Result<SocketAddr> {
        self.socket.heard(knock(&self.secret), self.of).await
    }

    /// Gives the place back, and speaks with whoever knocked.
    pub(super) async fn knocked(self) -> io::Result<FlowSocket> {
        self.socket.knocked(knock(&self.secret), self.of).await
    }
}

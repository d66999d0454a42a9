//! What there is to reach: the demo web application and the demo ssh server.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::{
    place::{Place, Ports},
    sshd::DemoSshd,
    web::DemoWeb,
};
use crate::failure::Failure;

pub(super) const WEB: &str = "demo-web";
pub(super) const SSH: &str = "demo-ssh";

pub(super) struct Targets {
    web: DemoWeb,
    pub(super) web_address: SocketAddr,
    /// The server, or why there is none.
    sshd: Result<DemoSshd, String>,
    ssh_address: SocketAddr,
}

/// How to log in to the demo ssh server.
pub(super) struct SshTarget<'a> {
    pub(super) address: SocketAddr,
    pub(super) user: &'a str,
    pub(super) identity: &'a PathBuf,
}

impl Targets {
    pub(super) async fn start(place: &Place, ports: &Ports) -> Result<Self, Failure> {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (web_address, ssh_address) = (local(ports.web), local(ports.ssh));
        let web = DemoWeb::start(web_address)?;
        let sshd = DemoSshd::start(&place.folder("ssh"), ssh_address).await?;
        Ok(Self { web, web_address, sshd, ssh_address })
    }

    pub(super) fn describe(&self) -> String {
        match &self.sshd {
            Ok(_) => "a web application and an ssh server listen on loopback".to_owned(),
            Err(reason) => {
                format!("a web application listens on loopback; there is no demo-ssh: {reason}")
            }
        }
    }

    pub(super) fn ssh(&self) -> Option<SshTarget<'_>> {
        let sshd = self.sshd.as_ref().ok()?;
        Some(SshTarget { address: self.ssh_address, user: &sshd.user, identity: &sshd.identity })
    }

    pub(super) async fn stop(self) {
        if let Ok(sshd) = self.sshd {
            sshd.stop().await;
        }
        self.web.stop().await;
    }
}

use std::time::Duration;

use rap_proto::{OrganizationId, Timestamp};

use super::{
    Login, LoginClosed, LoginCommand, LoginEvent, LoginOpened, LoginRejection, MAX_LOGIN_MS, Opened,
};
use crate::Aggregate;

impl Aggregate for Login {
    const CATEGORY: &'static str = "login";
    type Command = LoginCommand;
    type Event = LoginEvent;
    type Rejection = LoginRejection;

    fn decide(
        &self,
        command: LoginCommand,
        now: Timestamp,
    ) -> Result<Vec<LoginEvent>, LoginRejection> {
        match command {
            LoginCommand::Open { user, secret, expires_at, device } => {
                if self.opened.is_some() {
                    return Err(LoginRejection::AlreadyExists);
                }
                if expires_at <= now || expires_at > now + Duration::from_millis(MAX_LOGIN_MS) {
                    return Err(LoginRejection::LifetimeOutOfRange);
                }
                if !device.is_kept() {
                    return Err(LoginRejection::DeviceNotSealed);
                }
                Ok(vec![LoginOpened { user, secret, expires_at, device }.into()])
            }
            LoginCommand::Close { .. } if self.opened.is_none() => Err(LoginRejection::NotFound),
            LoginCommand::Close { .. } if self.closed => Ok(Vec::new()),
            LoginCommand::Close { reason } => Ok(vec![LoginClosed { reason }.into()]),
        }
    }

    fn evolve(&mut self, event: &LoginEvent) {
        match event {
            LoginEvent::Opened(opened) => {
                let LoginOpened { user, secret, expires_at, .. } = opened.clone();
                self.opened = Some(Opened { user, secret, expires_at });
            }
            LoginEvent::Closed(_) => self.closed = true,
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        None
    }
}

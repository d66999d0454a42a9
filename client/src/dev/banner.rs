//! What `rap dev` tells: that nothing is kept, and what to type next.

use std::{env, path::PathBuf};

use rap_proto::{ControlUrl, api::SecretText};
use serde::Serialize;

use super::{
    control::Control,
    people::{ORGANIZATION, OWNER, USER},
    place::{Place, Remembered},
    targets::{self, Targets},
};
use crate::{
    args::{CaFingerprint, Format},
    failure::Failure,
    output,
};

/// Said before anything is started.
pub(super) fn start(place: &Place) {
    if place.is_kept() {
        eprintln!("a fabric for development, kept in {}", place.root().display());
    } else {
        eprintln!("a fabric for development: NOTHING IS KEPT, not even the log.");
        eprintln!("all of it is in {}, which goes when this ends", place.root().display());
    }
}

/// What somebody needs to use the fabric.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ready {
    /// For RAP_HOME.
    home: PathBuf,
    control: ControlUrl,
    ca: CaFingerprint,
    organization: &'static str,
    user: &'static str,
    password: SecretText,
    /// For --profile: the platform's owner.
    admin_profile: &'static str,
    admin_password: SecretText,
    resources: Vec<&'static str>,
}

impl Ready {
    pub(super) fn new(
        place: &Place,
        control: &Control,
        targets: &Targets,
        remembered: &Remembered,
    ) -> Self {
        let ssh = targets.ssh().map(|_| targets::SSH);
        Self {
            home: place.home(),
            control: control.url.clone(),
            ca: control.ca,
            organization: ORGANIZATION,
            user: USER,
            password: remembered.user_password.clone(),
            admin_profile: OWNER,
            admin_password: remembered.owner_password.clone(),
            resources: [targets::WEB].into_iter().chain(ssh).collect(),
        }
    }

    pub(super) fn show(&self, format: Format) -> Result<(), Failure> {
        match format {
            Format::Table => output::print(&self.text()),
            Format::Json | Format::Yaml => output::one(format, self),
        }
    }

    fn text(&self) -> String {
        let Self { user, admin_profile, .. } = self;
        let folder = env::current_exe().ok().and_then(|program| {
            let folder = program.parent()?.display().to_string();
            Some(format!("  export PATH=\"{folder}:$PATH\"\n"))
        });
        let ssh = if self.resources.contains(&targets::SSH) {
            "  rap ssh demo-ssh -- uname -a\n"
        } else {
            ""
        };
        format!(
            "\n\
             ready. In another terminal:\n\
             \n\
             {}\
             \x20 export RAP_HOME=\"{}\"\n\
             \x20 rap login --user {user}             # password: {} (or skip it: {user} is logged in)\n\
             \x20 rap ls\n\
             {ssh}\
             \x20 rap connect demo-web --listen 127.0.0.1:8088 &\n\
             \x20 curl http://127.0.0.1:8088/\n\
             \x20 rap sessions ls --all\n\
             \n\
             and as its administrator:\n\
             \n\
             \x20 rap --profile {admin_profile} node ls\n\
             \x20 rap --profile {admin_profile} audit log --follow --since 1h\n\
             \n\
             Ctrl-C ends it.\n",
            folder.unwrap_or_default(),
            self.home.display(),
            self.password.reveal(),
        )
    }
}

//! One login as it is kept on this machine: `profiles/NAME.json`, mode 0600.

use std::path::{Path, PathBuf};

use rap_proto::{Name, Timestamp, api::SecretText, key::LocalKey};
use serde::{Deserialize, Serialize};

use crate::{
    args::{CaFingerprint, ControlUrl},
    failure::Failure,
    home,
};

/// The format that this program writes.
const FORMAT: u16 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    format: u16,
    pub(crate) control: ControlUrl,
    pub(crate) ca: CaFingerprint,
    pub(crate) user: Name,
    pub(crate) expires_at: Timestamp,
    /// The login's bearer secret.
    pub(crate) secret: SecretText,
    /// The device's private key (PKCS #8 PEM), to which access tokens are bound.
    key: SecretText,
}

impl Profile {
    pub(crate) fn new(
        control: ControlUrl,
        ca: CaFingerprint,
        user: Name,
        expires_at: Timestamp,
        secret: SecretText,
        key: &LocalKey,
    ) -> Self {
        let key = SecretText::new(key.to_pem().as_str());
        Self { format: FORMAT, control, ca, user, expires_at, secret, key }
    }

    pub(crate) fn key(&self) -> Result<LocalKey, Failure> {
        LocalKey::from_pem(self.key.reveal()).map_err(|_| damaged())
    }

    /// The stored login of that name, if there is one.
    pub(crate) fn load(folder: &Path, name: &Name) -> Result<Option<Self>, Failure> {
        let Some(content) = home::read_private(&path(folder, name))? else { return Ok(None) };
        let profile: Self = serde_json::from_slice(&content).map_err(|_| damaged())?;
        if profile.format != FORMAT {
            return Err(Failure::usage("the stored login was written by a newer rap")
                .hint("log in again: rap login"));
        }
        Ok(Some(profile))
    }

    pub(crate) fn save(&self, folder: &Path, name: &Name) -> Result<(), Failure> {
        let content = serde_json::to_vec_pretty(self)
            .map_err(|_| Failure::usage("the login cannot be stored"))?;
        home::write_private(&path(folder, name), &content)
    }

    pub(crate) fn remove(folder: &Path, name: &Name) -> Result<(), Failure> {
        home::remove(&path(folder, name))
    }
}

fn path(folder: &Path, name: &Name) -> PathBuf {
    folder.join("profiles").join(format!("{name}.json"))
}

fn damaged() -> Failure {
    Failure::usage("the stored login is damaged").hint("log in again: rap login")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rap_proto::Signer as _;

    use super::*;
    use crate::random;

    #[test]
    fn a_login_survives_and_never_shows_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let name: Name = "default".parse().unwrap();
        assert!(Profile::load(folder.path(), &name).unwrap().is_none());
        let (key, public) = random::key();
        let profile = Profile::new(
            "https://control.example".parse().unwrap(),
            CaFingerprint(rap_proto::Digest::of(b"ca")),
            "alice".parse().unwrap(),
            Timestamp::from_unix_millis(1),
            SecretText::new("raps_canary"),
            &key,
        );
        profile.save(folder.path(), &name).unwrap();
        let loaded = Profile::load(folder.path(), &name).unwrap().unwrap();
        assert_eq!(loaded.key().unwrap().public_key(), public);
        assert_eq!(loaded.secret.reveal(), "raps_canary");
        let shown = format!("{loaded:?}");
        assert!(!shown.contains("canary") && !shown.contains("PRIVATE"), "{shown}");
        assert!(home::is_private(&path(folder.path(), &name)));
        Profile::remove(folder.path(), &name).unwrap();
        assert!(Profile::load(folder.path(), &name).unwrap().is_none());
    }

    #[test]
    fn a_damaged_or_newer_login_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let name: Name = "default".parse().unwrap();
        home::write_private(&path(folder.path(), &name), b"{").unwrap();
        let failure = Profile::load(folder.path(), &name).unwrap_err();
        assert!(failure.to_string().contains("rap login"), "{failure}");
    }
}

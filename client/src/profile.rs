//! One login as it is kept on this machine: `profiles/NAME.json`, mode 0600.

use std::path::{Path, PathBuf};

use rap_proto::{
    ControlUrl, Name, Timestamp,
    api::{LoggedIn, SecretText},
    key::LocalKey,
    wire::node_api::MAX_SERVERS,
};
use serde::{Deserialize, Serialize};

use crate::{api::KnownServers, args::CaFingerprint, failure::Failure, home};

/// The format that this program writes.
const FORMAT: u16 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    format: u16,
    /// The server that is asked first.
    pub(crate) control: ControlUrl,
    /// All of them, as that one said at the login.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    servers: Vec<ControlUrl>,
    pub(crate) ca: CaFingerprint,
    pub(crate) user: Name,
    pub(crate) expires_at: Timestamp,
    /// The login's bearer secret.
    pub(crate) secret: SecretText,
    /// The device's private key (PKCS #8 PEM), to which access tokens are bound.
    key: SecretText,
}

impl Profile {
    /// What a server says of the others is where to ask, no more: each proves itself by the CA.
    pub(crate) fn new(
        control: ControlUrl,
        ca: CaFingerprint,
        logged_in: LoggedIn,
        key: &LocalKey,
    ) -> Self {
        let LoggedIn { name: user, secret, expires_at, servers, .. } = logged_in;
        let servers = servers.iter().filter_map(|text| text.parse().ok()).take(MAX_SERVERS);
        let (servers, key) = (servers.collect(), SecretText::new(key.to_pem().as_str()));
        Self { format: FORMAT, control, servers, ca, user, expires_at, secret, key }
    }

    /// The servers to ask; where one was named, that one alone.
    pub(crate) fn servers(&self, asked: Option<&ControlUrl>) -> KnownServers {
        match asked {
            Some(asked) => KnownServers::one(asked.clone()),
            None => KnownServers::new(self.control.clone(), self.servers.clone()),
        }
    }

    /// Whether this is a server of the control plane that the login is at.
    pub(crate) fn knows(&self, server: &ControlUrl) -> bool {
        self.control == *server || self.servers.contains(server)
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
    use rap_proto::{LoginId, Signer as _, UserId};

    use super::*;
    use crate::random;

    #[test]
    fn a_login_survives_and_never_shows_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let name: Name = "default".parse().unwrap();
        assert!(Profile::load(folder.path(), &name).unwrap().is_none());
        let (key, public) = random::key();
        let control: ControlUrl = "https://control.example".parse().unwrap();
        let ca = CaFingerprint(rap_proto::Digest::of(b"ca"));
        let profile = Profile::new(control.clone(), ca, logged_in(&[]), &key);
        profile.save(folder.path(), &name).unwrap();
        let loaded = Profile::load(folder.path(), &name).unwrap().unwrap();
        assert_eq!(loaded.key().unwrap().public_key(), public);
        assert_eq!(loaded.secret.reveal(), "raps_canary");
        assert_eq!(loaded.servers(None).count(), 1);
        let shown = format!("{loaded:?}");
        assert!(!shown.contains("canary") && !shown.contains("PRIVATE"), "{shown}");
        assert!(home::is_private(&path(folder.path(), &name)));
        Profile::remove(folder.path(), &name).unwrap();
        assert!(Profile::load(folder.path(), &name).unwrap().is_none());
    }

    fn logged_in(servers: &[String]) -> LoggedIn {
        LoggedIn {
            login: LoginId::from_u128(1),
            user: UserId::from_u128(2),
            name: "alice".parse().unwrap(),
            secret: SecretText::new("raps_canary"),
            expires_at: Timestamp::from_unix_millis(1),
            servers: servers.to_vec(),
        }
    }

    #[test]
    fn a_login_knows_the_servers_that_it_was_told_of_up_to_a_limit() {
        let control: ControlUrl = "https://control-0.example".parse().unwrap();
        let ca = CaFingerprint(rap_proto::Digest::of(b"ca"));
        let url = |number: usize| format!("https://control-{number}.example");
        let profile = |servers: &[String]| {
            let profile = Profile::new(control.clone(), ca, logged_in(servers), &random::key().0);
            let folder = tempfile::tempdir().unwrap();
            profile.save(folder.path(), &profile.user).unwrap();
            Profile::load(folder.path(), &profile.user).unwrap().unwrap()
        };
        let told = profile(&[url(0), "http://control-1.example".to_owned(), url(2)]);
        assert_eq!(told.servers(None).count(), 2);
        let second = url(2).parse().unwrap();
        assert!(told.knows(&second) && !told.knows(&url(1).parse().unwrap()));
        let named = told.servers(Some(&second));
        assert_eq!((named.present(), named.count()), (second, 1));
        let many: Vec<_> = (1..2 * MAX_SERVERS).map(url).collect();
        assert_eq!(profile(&many).servers(None).count(), MAX_SERVERS + 1);
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

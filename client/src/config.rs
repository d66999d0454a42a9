//! Configuration files, and how flags, environment, login and files come together.
//!
//! clap has merged flags and environment already; what they leave open comes from the login,
//! then from the user's file, then from the machine's.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use rap_mesh::Carrier;
use rap_proto::{ControlUrl, Name, api::Reference};
use serde::Deserialize;

use crate::{
    args::{CaFingerprint, CarrierName, Format, Global},
    failure::Failure,
    home,
};

/// The machine's configuration files, in the order of their names: a later one wins.
const MACHINE_FOLDER: &str = "/etc/rap";
/// The largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// One file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) control: Option<ControlUrl>,
    pub(crate) ca: Option<CaFingerprint>,
    organization: Option<Text<Reference>>,
    output: Option<OutputName>,
    carrier: Option<CarrierName>,
    /// How to log in to ssh resources, by resource name.
    #[serde(default)]
    pub(crate) ssh: BTreeMap<Name, SshDefaults>,
}

/// What `rap ssh` and `rap ssh-config` say for one resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SshDefaults {
    pub(crate) user: Option<String>,
    pub(crate) identity: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OutputName {
    Table,
    Json,
    Yaml,
}

/// A value that is written as text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Text<T>(T);

impl<'de, T: std::str::FromStr<Err: std::fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// Everything that is configured, from all sources.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// From a flag or the environment: stronger than the login.
    pub(crate) asked_control: Option<ControlUrl>,
    pub(crate) asked_ca: Option<CaFingerprint>,
    /// From files: weaker than the login.
    pub(crate) files: File,
    pub(crate) profile: Name,
    pub(crate) home: PathBuf,
    organization: Option<Reference>,
    output: Option<Format>,
    carrier: Option<CarrierName>,
}

impl Config {
    pub(crate) fn load(global: &Global) -> Result<Self, Failure> {
        let home = home::folder()?;
        let mut files = read_folder(Path::new(MACHINE_FOLDER))?;
        if let Some(file) = read(&home.join("config.toml"))? {
            files = files.overridden_by(file);
        }
        let asked_ca = match &global.ca_file {
            Some(path) => Some(fingerprint_of_file(path)?),
            None => global.ca,
        };
        Ok(Self {
            asked_control: global.control.clone(),
            asked_ca,
            files,
            profile: global.profile.clone(),
            home,
            organization: global.organization.clone(),
            output: global.output,
            carrier: global.carrier,
        })
    }

    /// The organization to work in, when one was named anywhere.
    pub(crate) fn organization(&self) -> Option<Reference> {
        let in_files = self.files.organization.as_ref().map(|Text(organization)| organization);
        self.organization.as_ref().or(in_files).cloned()
    }

    /// The organization that a flag or the environment names: what files say is where somebody
    /// usually works, and does not narrow a command that goes without an organization.
    pub(crate) fn asked_organization(&self) -> Option<Reference> {
        self.organization.clone()
    }

    /// The one carrier to use, when one was chosen.
    pub(crate) fn carrier(&self) -> Option<Carrier> {
        self.carrier.or(self.files.carrier).map(Carrier::from)
    }

    pub(crate) fn format(&self) -> Format {
        let in_files = self.files.output.map(|name| match name {
            OutputName::Table => Format::Table,
            OutputName::Json => Format::Json,
            OutputName::Yaml => Format::Yaml,
        });
        self.output.or(in_files).unwrap_or(Format::Table)
    }
}

impl File {
    fn overridden_by(self, stronger: Self) -> Self {
        let mut ssh = self.ssh;
        ssh.extend(stronger.ssh);
        Self {
            control: stronger.control.or(self.control),
            ca: stronger.ca.or(self.ca),
            organization: stronger.organization.or(self.organization),
            output: stronger.output.or(self.output),
            carrier: stronger.carrier.or(self.carrier),
            ssh,
        }
    }
}

fn read_folder(folder: &Path) -> Result<File, Failure> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::default()),
        Err(error) => return Err(unreadable(folder, &error)),
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    let mut merged = File::default();
    for path in paths {
        if let Some(file) = read(&path)? {
            merged = merged.overridden_by(file);
        }
    }
    Ok(merged)
}

fn read(path: &Path) -> Result<Option<File>, Failure> {
    match fs::metadata(path) {
        Ok(found) if found.len() > MAX_FILE_BYTES => {
            return Err(Failure::usage(format!("{} is too large", path.display()))
                .hint(format!("a configuration file has at most {MAX_FILE_BYTES} bytes")));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, &error)),
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    parse(&text).map(Some).map_err(|error| {
        Failure::usage(format!("{} is wrong: {}", path.display(), error.replace('\n', " ")))
            .hint("rap --help lists the keys")
    })
}

fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::io(format!("cannot read {}", path.display()), error)
}

fn fingerprint_of_file(path: &Path) -> Result<CaFingerprint, Failure> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let certificates = rap_pki::pem::decode(&text).map_err(|error| {
        Failure::usage(format!("{} holds no CA certificate: {error}", path.display()))
    })?;
    match certificates.as_slice() {
        [one] => Ok(CaFingerprint(rap_proto::Digest::of(one))),
        _ => Err(Failure::usage(format!("{} holds several certificates", path.display()))
            .hint("leave only the cluster's CA certificate in it")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_later_file_wins_key_by_key() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "10-site.toml",
            "control = 'https://a.example'\norganization = 'acme'\n[ssh.x]\nuser = 'u'",
        );
        write(
            "20-team.toml",
            "control = 'https://b.example'\noutput = 'json'\n[ssh.y]\nuser = 'v'",
        );
        write("notes.txt", "not a configuration");
        let merged = read_folder(folder.path()).unwrap();
        assert_eq!(merged.control.unwrap().to_string(), "https://b.example:8443");
        assert_eq!(merged.organization, Some(Text("acme".parse().unwrap())));
        assert_eq!(merged.output, Some(OutputName::Json));
        assert_eq!(merged.ssh.len(), 2);
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_refused() {
        for text in [
            "controll = 'https://a.example'",
            "output = 'xml'",
            "ca = 'sha256:0'",
            "control = 'http://a.example'",
            "organization = 'A B'",
            "[ssh.x]\nport = 1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("").unwrap(), File::default());
    }

    #[test]
    fn an_oversized_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let text = "#".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1);
        fs::write(&path, text).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("too large"));
    }
}

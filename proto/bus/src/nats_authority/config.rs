//! The text of a `nats-server` configuration.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::MAX_PAYLOAD_BYTES;

/// What an operator chooses about a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// The server's own folder for account tokens; it creates it.
    pub accounts: PathBuf,
    pub tls: Option<TlsFiles>,
}

/// Files in PEM by which the server proves itself.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    pub certificates: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` cannot stand in a NATS configuration: only plain characters can")]
pub struct InvalidServerConfig {
    pub path: String,
}

pub(super) struct Tokens {
    pub(super) operator: String,
    pub(super) system_account: String,
    /// Public key and token of each account.
    pub(super) accounts: Vec<(String, String)>,
}

pub(super) fn render(
    tokens: &Tokens,
    options: &ServerOptions,
) -> Result<String, InvalidServerConfig> {
    let port = match options.listen.port() {
        0 => "-1".to_owned(),
        port => port.to_string(),
    };
    let mut text = format!(
        "host: \"{}\"\nport: {port}\nmax_payload: {MAX_PAYLOAD_BYTES}\n\
         operator: {}\nsystem_account: {}\n\
         resolver: {{ type: full, dir: {}, allow_delete: false, interval: \"2m\" }}\n\
         resolver_preload: {{\n",
        options.listen.ip(),
        tokens.operator,
        tokens.system_account,
        quoted(&options.accounts)?,
    );
    for (key, token) in &tokens.accounts {
        writeln!(text, "  {key}: {token}").expect("writing to a string");
    }
    text.push_str("}\n");
    if let Some(tls) = &options.tls {
        let (certificates, key) = (quoted(&tls.certificates)?, quoted(&tls.key)?);
        writeln!(text, "tls: {{ cert_file: {certificates}, key_file: {key} }}")
            .expect("writing to a string");
    }
    Ok(text)
}

/// The grammar has escapes and includes; a path that would need one is refused.
fn quoted(path: &Path) -> Result<String, InvalidServerConfig> {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ' ' | '+');
    if path.to_str().is_some() && text.chars().all(plain) {
        Ok(format!("\"{text}\""))
    } else {
        Err(InvalidServerConfig { path: text.escape_debug().to_string() })
    }
}

//! `rap audit prove`: one event's proof, as a file that can be handed to somebody.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rap_proto::api::{Inclusion, LogKeys};
use rap_tlog::{ProofFile, VerifierKey};

use super::folder::cluster_of;
use crate::{
    api::Api,
    failure::{Exit, Failure},
    output,
};

/// Checks the proof before it is printed.
pub(super) async fn run(api: &Api, position: u64) -> Result<(), Failure> {
    let LogKeys { keys, .. } = api.get("/log/keys").await?;
    let keys: Vec<VerifierKey> = keys.iter().filter_map(|key| key.parse().ok()).collect();
    let proven: Inclusion = api.get(&format!("/log/proof/{position}")).await?;
    let invalid = |what: &str| {
        Failure::new(Exit::Failed, format!("the control plane's proof does not hold: {what}"))
    };
    let file = ProofFile {
        index: proven.position.checked_sub(1).ok_or_else(|| invalid("no position"))?,
        entry: STANDARD.decode(&proven.entry).map_err(|_| invalid("the entry is unreadable"))?,
        hashes: proven.proof,
        checkpoint: proven.checkpoint.into_bytes(),
    };
    if proven.position != position {
        return Err(invalid("it is of another position"));
    }
    file.check(cluster_of(&keys)?, &keys).map_err(|error| invalid(&error.to_string()))?;
    let text = String::from_utf8(file.to_bytes()).map_err(|_| invalid("it is no text"))?;
    output::print(&text)
}

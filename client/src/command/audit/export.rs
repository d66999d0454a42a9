//! `rap audit export`: a copy of the whole log that can be verified offline.

use std::{io::IsTerminal as _, path::Path};

use rap_proto::api::{LogKeys, MAX_PAGE_SIZE, Page, SealedHead};
use rap_tlog::{
    TileId,
    tile::{Content, WIDTH},
};

use super::folder::{Folder, open_head, payload_path};
use crate::{api::Api, command::Context, failure::Failure};

/// Full tiles that are there already are kept, so exporting again fetches what is new.
pub(super) async fn run(context: &Context, api: &Api, folder: &Path) -> Result<(), Failure> {
    let out = Folder::at(folder);
    let LogKeys { keys, p256_pem } = api.get("/log/keys").await?;
    let note = api.bytes("/log/checkpoint").await?;
    let parsed = keys.iter().filter_map(|key| key.parse().ok()).collect::<Vec<_>>();
    let head = open_head(&note, &parsed)?;

    let levels = TileId::levels(head.size)
        .flat_map(|level| TileId::all(Content::Hashes { level }, head.size));
    let entries = TileId::all(Content::Entries, head.size);
    let mut files: Vec<(String, bool)> =
        levels.chain(entries.clone()).map(|tile| (tile.path(), tile.width == WIDTH)).collect();
    files.extend(entries.map(|tile| (payload_path(tile), tile.width == WIDTH)));

    let progress = std::io::stderr().is_terminal();
    for (number, (file, full)) in files.iter().enumerate() {
        if progress {
            eprint!("\r{} of {} files", number + 1, files.len());
        }
        if *full && out.has(file) {
            continue;
        }
        out.write(file, &api.bytes(&format!("/log/{file}")).await?)?;
    }
    if progress {
        eprintln!();
    }
    let sealed: Page<SealedHead> =
        api.page("/log/heads", &[("limit", MAX_PAGE_SIZE.to_string())]).await?;
    for earlier in sealed.items.iter().filter(|earlier| !earlier.nodes.is_empty()) {
        out.write(&format!("cosigned/{}", earlier.size), earlier.checkpoint.as_bytes())?;
    }
    out.write("keys", (keys.join("\n") + "\n").as_bytes())?;
    out.write("control.pem", p256_pem.as_bytes())?;
    // Last: a folder without it is not a whole export.
    out.write("checkpoint", &note)?;
    context.did(&format!(
        "{} events in {}; verify them with: rap audit verify {}",
        head.size,
        folder.display(),
        folder.display()
    ))
}

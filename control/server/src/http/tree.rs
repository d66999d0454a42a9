//! The log's tree as auditors read it: `checkpoint` and `tile/…` below `/log` are the read
//! interface of C2SP `tlog-tiles`, so that any program that speaks it can mirror the log.
//!
//! Who may read it all is who may replay it. The entries name every organization's events, so
//! nobody else is shown any of it; payloads that hold password verifiers, digests of secrets or what
//! is about an erased person are shown to nobody, and an empty place stands in theirs.

use actix_web::HttpResponse;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rap_control_core::{Action, State, Target, audit::is_withheld};
use rap_events::{
    Envelope, entry,
    heads::{self, MAX_READ_HEADS},
    tree::{self, TreeError},
};
use rap_pki::pem;
use rap_proto::{
    Signer as _,
    api::{Inclusion, LogKeys, Page, Problem, ProblemCode, SealedHead},
};
use rap_tlog::{
    Frontier, TileId, TreeHead, VerifierKey,
    tile::{WIDTH, bundle_to_bytes},
};

use super::{
    call::{Call, Position},
    endpoint::{Answered, Form, LIMIT, Parameter, after},
    failure::{Failure, internal, not_found},
    page,
};
use crate::app::App;

pub(super) const HEADS_QUERY: &[Parameter] = &[after(Form::Position), LIMIT];

/// A full tile never changes.
const FOREVER: &str = "private, max-age=31536000, immutable";
const NO_STORE: &str = "no-store";

/// The newest tree, signed.
pub(crate) fn sign(app: &App, frontier: &Frontier) -> Vec<u8> {
    let head = TreeHead {
        cluster: app.custody.cluster,
        size: frontier.size(),
        root: frontier.root(),
        said_epoch: Some(app.state().authority().epoch()),
    };
    sign_head(app, &head)
}

/// Signing the same head again gives the same bytes.
pub(crate) fn sign_head(app: &App, head: &TreeHead) -> Vec<u8> {
    head.sign(&app.custody.control, &app.custody.head_key())
}

pub(super) async fn keys(call: Call) -> Result<LogKeys, Failure> {
    allow(&call)?;
    let custody = &call.app.custody;
    let p256 = custody.control.public_key();
    let keys = [
        VerifierKey::p256(custody.cluster, p256),
        VerifierKey::ed25519(custody.cluster, &custody.head_key()),
    ];
    Ok(LogKeys {
        keys: keys.iter().map(ToString::to_string).collect(),
        p256_pem: pem::encode_public_key(&p256.to_spki()),
    })
}

pub(super) async fn checkpoint(call: Call) -> Result<Answered, Failure> {
    allow(&call)?;
    let frontier = call.app.log.frontier().await?;
    let size = frontier.size();
    let sealed = call.app.heads.heads(Some(size + 1), 1).await?.pop();
    let note = match sealed.filter(|sealed| sealed.size == size) {
        Some(sealed) => sealed.checkpoint(),
        None => sign(&call.app, &frontier),
    };
    Ok(raw("text/plain; charset=utf-8", NO_STORE, note))
}

/// Sealed heads, the newest first.
pub(super) async fn heads(call: Call) -> Result<Page<SealedHead>, Failure> {
    allow(&call)?;
    let below = call.query_value::<Position>("after")?.map(|after| after.0);
    let limit = page::limit(&call)?.min(MAX_READ_HEADS);
    let found = call.app.heads.heads(below, limit).await?;
    let last = found.last().map(|head| head.size);
    let next = if found.len() < limit { None } else { last.map(|size| size.to_string()) };
    let items = found.into_iter().map(shown_head).collect::<Result<_, _>>()?;
    Ok(Page { items, next })
}

fn shown_head(head: heads::SealedHead) -> Result<SealedHead, Failure> {
    Ok(SealedHead {
        size: head.size,
        sealed_at: head.sealed_at,
        nodes: head.cosignatures.keys().copied().collect(),
        checkpoint: String::from_utf8(head.checkpoint()).map_err(|_| internal())?,
    })
}

pub(super) async fn tile(call: Call) -> Result<Answered, Failure> {
    allow(&call)?;
    let id = tile_of(&call, "tile")?;
    let bytes = tree::read_tile(call.app.log.as_ref(), id).await.map_err(failure)?;
    Ok(raw("application/octet-stream", cached(id), bytes))
}

/// A bundle like that of the entries, with each event's payload.
pub(super) async fn payloads(call: Call) -> Result<Answered, Failure> {
    allow(&call)?;
    let id = tile_of(&call, "tile/entries")?;
    let events = call.app.log.read(id.first(), usize::from(id.width)).await?;
    if events.len() < usize::from(id.width) {
        return Err(not_found().into());
    }
    let shown = events.iter().map(|event| shown(&call.state, event));
    let bundle = bundle_to_bytes(shown).map_err(|error| {
        tracing::error!(%error, "a payload exceeds its limit");
        internal()
    })?;
    // Not for ever, as tiles are: what is about a person is gone when the person is erased.
    Ok(raw("application/octet-stream", NO_STORE, bundle))
}

fn shown<'a>(state: &State, event: &'a Envelope) -> &'a [u8] {
    if is_withheld(state, event) { &[] } else { &event.payload }
}

pub(super) async fn prove(call: Call) -> Result<Inclusion, Failure> {
    allow(&call)?;
    let position: u64 = call.param("position")?;
    let log = call.app.log.as_ref();
    let frontier = log.frontier().await?;
    let size = frontier.size();
    let proof = tree::prove_inclusion(log, position, size).await.map_err(failure)?;
    let events = log.read(position - 1, 1).await?;
    let event = events.first().ok_or_else(not_found)?;
    let checkpoint = String::from_utf8(sign(&call.app, &frontier)).map_err(|_| internal())?;
    let entry = STANDARD.encode(entry::encode(event));
    Ok(Inclusion { position, entry, size, proof, checkpoint })
}

fn allow(call: &Call) -> Result<(), Failure> {
    call.allow(Action::ReplayAudit, Target::Platform)
}

fn tile_of(call: &Call, prefix: &str) -> Result<TileId, Failure> {
    let place: String = call.param("tile")?;
    TileId::from_path(&format!("{prefix}/{place}")).map_err(|_| not_found().into())
}

fn cached(id: TileId) -> &'static str {
    if id.width == WIDTH { FOREVER } else { NO_STORE }
}

fn raw(content_type: &'static str, cache: &'static str, body: Vec<u8>) -> Answered {
    let mut response = HttpResponse::Ok();
    response.content_type(content_type).insert_header(("cache-control", cache));
    Answered::Raw(response.body(body))
}

fn failure(error: TreeError) -> Failure {
    match error {
        TreeError::Read(error) => error.into(),
        TreeError::NoSuchTile | TreeError::Prove(_) => {
            Problem::new(ProblemCode::NotFound, "the log has not come that far").into()
        }
    }
}

//! One route: what it answers, what it asks for, and how it is described. The router and the
//! OpenAPI document are both made from the same list, so neither can know more than the other.

use std::{borrow::Cow, future::Future, rc::Rc};

use actix_web::{HttpResponse, http::Method};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use rap_proto::api::Page;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};

use super::{
    answer::{Answer, Done, Listed},
    body,
    call::Call,
    failure::Failure,
};

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Anybody: the handler checks a secret in the body, or tells nothing.
    Public,
    /// Whoever shows a valid bearer token; what for is the authorization table's matter.
    Caller,
}

/// Whether the route changes something, and what it demands then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Command(Condition),
}

/// What a command demands of `If-Match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It changes nothing that exists.
    None,
    /// It changes something that exists.
    Required,
    /// It creates without and changes with it; the handler tells.
    Optional,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) description: &'static str,
}

/// What a parameter looks like: what is not of its form is malformed, or names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Id,
    /// An id or a name.
    Reference,
    /// A name, as the cursor of a list in the order of names.
    Name,
    PlatformRole,
    Position,
    PageSize,
    Time,
    IdempotencyKey,
    Revision,
    EventId,
    /// A tile of the log's tree.
    Tile,
    /// Something that the authorization table names.
    Action,
    WeekHour,
    /// `true` or `false`.
    Flag,
}

/// How a body is described.
#[derive(Clone)]
pub(crate) struct BodyDoc {
    pub(crate) name: fn() -> Cow<'static, str>,
    pub(crate) schema: fn() -> RefOr<Schema>,
    pub(crate) dependencies: fn(&mut Vec<(String, RefOr<Schema>)>),
}

/// What success looks like.
#[derive(Clone)]
pub(crate) enum AnswerDoc {
    Empty,
    One(BodyDoc),
    PageOf(BodyDoc),
    Other(&'static str),
}

pub(crate) enum Answered {
    /// Headers and body are made from it; of a command it is stored too.
    Done(super::answer::Reply),
    Raw(HttpResponse),
}

pub(crate) type Runner =
    Rc<dyn Fn(Call, Bytes) -> LocalBoxFuture<'static, Result<Answered, Failure>>>;
/// Puts the secrets, which are not stored, back into the stored reply of the command that is at
/// this position.
pub(crate) type Completer =
    fn(Call, String, u64) -> LocalBoxFuture<'static, Result<String, Failure>>;

#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) guard: Guard,
    pub(crate) kind: Kind,
    /// A command that only takes authority away: it works also while authority is frozen.
    pub(crate) while_frozen: bool,
    pub(crate) query: &'static [Parameter],
    /// Headers that this route alone looks at.
    pub(crate) headers: &'static [Parameter],
    pub(crate) request: Option<BodyDoc>,
    pub(crate) status: u16,
    pub(crate) answer: AnswerDoc,
    pub(crate) complete: Completer,
    pub(crate) run: Runner,
}

/// The body of a command that needs none.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct Nothing {}

/// The answer of a command that has nothing to tell.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Gone {}

/// Where the page begins, of a list whose cursor has this form.
pub(crate) const fn after(form: Form) -> Parameter {
    Parameter { name: "after", form, description: "The `next` of the page before." }
}

pub(crate) const LIMIT: Parameter =
    Parameter { name: "limit", form: Form::PageSize, description: "At most this many items." };

const PAGE_BY_ID: &[Parameter] = &[after(Form::Id), LIMIT];
const PAGE_BY_NAME: &[Parameter] = &[after(Form::Name), LIMIT];

/// A read of one thing.
pub(crate) fn get<R, F, Fut>(path: &'static str, summary: &'static str, handler: F) -> Endpoint
where
    R: Answer,
    F: Fn(Call) -> Fut + 'static,
    Fut: Future<Output = Result<R, Failure>> + 'static,
{
    let run: Runner = Rc::new(move |call, _| {
        let answer = handler(call.clone());
        Box::pin(async move { Ok(Answered::Done(super::answer::Reply::read(&answer.await?))) })
    });
    Endpoint {
        query: &[],
        answer: AnswerDoc::One(doc::<R>()),
        ..raw(Method::GET, path, summary, run)
    }
}

/// A read of a page, in the order of ids.
pub(crate) fn list<R, F, Fut>(path: &'static str, summary: &'static str, handler: F) -> Endpoint
where
    R: Serialize + ToSchema + 'static,
    F: Fn(Call) -> Fut + 'static,
    Fut: Future<Output = Result<Page<R>, Failure>> + 'static,
{
    let run: Runner = Rc::new(move |call, _| {
        let answer = handler(call.clone());
        Box::pin(
            async move { Ok(Answered::Done(super::answer::Reply::read(&Listed(answer.await?)))) },
        )
    });
    Endpoint {
        query: PAGE_BY_ID,
        answer: AnswerDoc::PageOf(doc::<R>()),
        ..raw(Method::GET, path, summary, run)
    }
}

/// A command: decided, appended and remembered under its `Idempotency-Key`.
pub(crate) fn command<B, R, F, Fut>(
    method: Method,
    path: &'static str,
    summary: &'static str,
    handler: F,
) -> Endpoint
where
    B: DeserializeOwned + ToSchema + 'static,
    R: Answer,
    F: Fn(Call, B) -> Fut + 'static,
    Fut: Future<Output = Result<Done<R>, Failure>> + 'static,
{
    let handler = Rc::new(handler);
    let status = match (&method, is::<R, Gone>()) {
        (_, true) => 204,
        (&Method::POST, false) if !is::<R, rap_proto::api::Changed>() => 201,
        _ => 200,
    };
    let run: Runner = Rc::new(move |call, bytes| {
        let handler = Rc::clone(&handler);
        Box::pin(async move {
            let done = handler(call, body::parse::<B>(&bytes)?).await?;
            Ok(Answered::Done(done.reply))
        })
    });
    Endpoint {
        kind: Kind::Command(Condition::None),
        request: (!is::<B, Nothing>()).then(doc::<B>),
        status,
        answer: if status == 204 { AnswerDoc::Empty } else { AnswerDoc::One(doc::<R>()) },
        complete: super::answer::complete::<R>,
        ..raw(method, path, summary, run)
    }
}

/// Anything else, described by hand.
pub(crate) fn raw(
    method: Method,
    path: &'static str,
    summary: &'static str,
    run: Runner,
) -> Endpoint {
    Endpoint {
        method,
        path,
        summary,
        guard: Guard::Caller,
        kind: Kind::Read,
        while_frozen: false,
        query: &[],
        headers: &[],
        request: None,
        status: 200,
        answer: AnswerDoc::Empty,
        complete: super::answer::complete_nothing,
        run,
    }
}

impl Endpoint {
    pub(crate) fn public(self) -> Self {
        Self { guard: Guard::Public, ..self }
    }

    pub(crate) fn while_frozen(self) -> Self {
        Self { while_frozen: true, ..self }
    }

    pub(crate) fn conditional(self) -> Self {
        Self { kind: Kind::Command(Condition::Required), ..self }
    }

    pub(crate) fn maybe_conditional(self) -> Self {
        Self { kind: Kind::Command(Condition::Optional), ..self }
    }

    /// The list is in the order of names.
    pub(crate) fn by_name(self) -> Self {
        self.query(PAGE_BY_NAME)
    }

    pub(crate) fn query(self, query: &'static [Parameter]) -> Self {
        Self { query, ..self }
    }
}

fn is<A: 'static, B: 'static>() -> bool {
    std::any::TypeId::of::<A>() == std::any::TypeId::of::<B>()
}

pub(crate) fn doc<T: ToSchema>() -> BodyDoc {
    BodyDoc {
        name: <T as ToSchema>::name,
        schema: <T as PartialSchema>::schema,
        dependencies: <T as ToSchema>::schemas,
    }
}

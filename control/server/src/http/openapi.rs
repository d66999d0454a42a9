//! The API's description, made from the same list of routes as the router.

use rap_control_core::Action;
use rap_proto::{
    PlatformRole,
    api::{
        API_PREFIX, IDEMPOTENCY_KEY_HEADER, MAX_IDEMPOTENCY_KEY, MAX_PAGE_SIZE, POSITION_HEADER,
        PROBLEM_CONTENT_TYPE, Problem,
    },
    name::NAME_PATTERN,
    week_hour::WEEK_HOUR_PATTERN,
};
use utoipa::openapi::{
    Components, Content, HttpMethod, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, PathItem,
    Paths, Ref, RefOr, Required,
    header::HeaderBuilder,
    path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
    response::{Response, ResponseBuilder},
    schema::{ArrayBuilder, KnownFormat, Schema, SchemaFormat, Type},
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};

use super::{
    call::MAX_POSITION,
    endpoint::{AnswerDoc, BodyDoc, Condition, Endpoint, Form, Guard, Kind, doc},
};

/// A tile's path behind its prefix, as C2SP `tlog-tiles` writes it.
const TILE_PATTERN: &str = "^(([0-7]|entries)/)?(x[0-9]{3}/)*[0-9]{3}([.]p/[0-9]{1,3})?$";
/// A cluster, a position, and mostly an imprint.
const EVENT_ID_PATTERN: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}:\
     [0-9]{1,18}(:[0-9a-f]{16})?$";

/// The document of all routes under `/api/v1`.
pub(crate) fn document(endpoints: &[Endpoint]) -> OpenApi {
    let mut components = Components::new();
    components.add_security_scheme(
        "bearer",
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("A login (`raps_…`) or an API token (`rapa_…`)."))
                .build(),
        ),
    );
    let mut paths = Paths::new();
    register(&mut components, &doc::<Problem>());
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.path.starts_with(API_PREFIX)) {
        let operation = operation(endpoint, &mut components);
        let item = PathItem::new(method_of(endpoint), operation);
        match paths.paths.get_mut(endpoint.path) {
            Some(present) => present.merge_operations(item),
            None => {
                paths.paths.insert(endpoint.path.to_owned(), item);
            }
        }
    }
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Secure Access Fabric")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some("The control plane's API.")),
        )
        .paths(paths)
        .components(Some(components))
        .build()
}

fn operation(endpoint: &Endpoint, components: &mut Components) -> Operation {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(operation_id(endpoint)))
        .summary(Some(endpoint.summary))
        .tag(tag_of(endpoint.path));
    for name in path_parameters(endpoint.path) {
        let schema = schema_of(form_of(&name));
        operation = operation.parameter(parameter(ParameterIn::Path, &name, schema).build());
    }
    for query in endpoint.query {
        let parameter = parameter(ParameterIn::Query, query.name, schema_of(query.form));
        operation = operation.parameter(parameter.description(Some(query.description)).build());
    }
    for header in endpoint.headers {
        let parameter = parameter(ParameterIn::Header, header.name, schema_of(header.form));
        operation = operation.parameter(parameter.description(Some(header.description)).build());
    }
    operation = match endpoint.kind {
        Kind::Read => {
            let schema = schema_of(Form::Position);
            let position = parameter(ParameterIn::Query, "min_position", schema)
                .description(Some("Answer only once this log position is reflected."));
            operation.parameter(position.build())
        }
        Kind::Command(condition) => command_headers(operation, condition),
    };
    if let Some(body) = &endpoint.request {
        let content = Content::new(Some(register(components, body)));
        let required = if needs_fields(body) { Required::True } else { Required::False };
        let request =
            RequestBodyBuilder::new().content("application/json", content).required(Some(required));
        operation = operation.request_body(Some(request.build()));
    }
    if endpoint.guard == Guard::Caller {
        operation = operation.security(SecurityRequirement::new("bearer", Vec::<String>::new()));
    }
    operation
        .response(endpoint.status.to_string(), success(endpoint, components))
        .response("default", failure())
        .build()
}

fn command_headers(operation: OperationBuilder, condition: Condition) -> OperationBuilder {
    let description =
        format!("Of your own choice, at most {MAX_IDEMPOTENCY_KEY} characters, one per command.");
    let key =
        parameter(ParameterIn::Header, IDEMPOTENCY_KEY_HEADER, schema_of(Form::IdempotencyKey))
            .required(Required::True)
            .description(Some(description));
    let operation = operation.parameter(key.build());
    if condition == Condition::None {
        return operation;
    }
    let required = if condition == Condition::Required { Required::True } else { Required::False };
    let if_match = parameter(ParameterIn::Header, "If-Match", schema_of(Form::Revision))
        .required(required)
        .description(Some("The `ETag` of what you read."));
    operation.parameter(if_match.build())
}

fn success(endpoint: &Endpoint, components: &mut Components) -> Response {
    let position = HeaderBuilder::new()
        .schema(ObjectBuilder::new().schema_type(Type::Integer))
        .description(Some("The log position that the reply reflects."));
    let response =
        ResponseBuilder::new().description("Done.").header(POSITION_HEADER, position.build());
    match &endpoint.answer {
        AnswerDoc::Empty => response.build(),
        AnswerDoc::One(body) => {
            let content = Content::new(Some(register(components, body)));
            response.content("application/json", content).build()
        }
        AnswerDoc::PageOf(body) => {
            let items = ArrayBuilder::new().items(register(components, body));
            let page = ObjectBuilder::new()
                .property("items", items)
                .required("items")
                .property("next", ObjectBuilder::new().schema_type(Type::String));
            let content = Content::new(Some(RefOr::T(Schema::Object(page.build()))));
            response.content("application/json", content).build()
        }
        AnswerDoc::Other(content_type) => {
            let mut shown = ObjectBuilder::new().schema_type(Type::Object);
            if *content_type == "text/event-stream" {
                // One message: its fields, as they are named in the stream.
                for field in ["id", "event", "data"] {
                    shown = shown.property(field, ObjectBuilder::new().schema_type(Type::String));
                }
            }
            let content = Content::new(Some(RefOr::T(Schema::Object(shown.build()))));
            response.content(*content_type, content).build()
        }
    }
}

fn failure() -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new()
        .description("A problem document (RFC 9457).")
        .content(PROBLEM_CONTENT_TYPE, content)
        .build()
}

/// Whether a body must be sent: none is read as one without fields.
fn needs_fields(body: &BodyDoc) -> bool {
    !matches!((body.schema)(), RefOr::T(Schema::Object(object)) if object.required.is_empty())
}

/// Puts the body's schema and all that it refers to into the document.
fn register(components: &mut Components, body: &BodyDoc) -> RefOr<Schema> {
    let mut schemas = vec![((body.name)().into_owned(), (body.schema)())];
    (body.dependencies)(&mut schemas);
    for (name, schema) in schemas {
        components.schemas.entry(name).or_insert(schema);
    }
    Ref::from_schema_name((body.name)()).into()
}

/// A parameter; only those of a path are required, unless said otherwise.
fn parameter(place: ParameterIn, name: &str, schema: ObjectBuilder) -> ParameterBuilder {
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(Some(schema))
}

/// The form of what a path names.
fn form_of(path_parameter: &str) -> Form {
    match path_parameter {
        "session" | "token" => Form::Id,
        "role" => Form::PlatformRole,
        "position" => Form::Position,
        "tile" => Form::Tile,
        "action" => Form::Action,
        _ => Form::Reference,
    }
}

fn schema_of(form: Form) -> ObjectBuilder {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let number = ObjectBuilder::new().schema_type(Type::Integer);
    match form {
        Form::Id => text.format(Some(SchemaFormat::Custom("uuid".to_owned()))),
        Form::Reference | Form::Name => text.pattern(Some(NAME_PATTERN)),
        Form::PlatformRole => {
            text.enum_values(Some(PlatformRole::ALL.iter().map(|role| role.as_str())))
        }
        Form::Action => text.enum_values(Some(Action::ALL.iter().map(|action| action.as_str()))),
        Form::WeekHour => text.pattern(Some(WEEK_HOUR_PATTERN)),
        Form::Position => number.minimum(Some(0)).maximum(Some(MAX_POSITION)),
        Form::PageSize => number.minimum(Some(1)).maximum(Some(MAX_PAGE_SIZE)),
        Form::Time => text.format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))),
        Form::IdempotencyKey => {
            text.pattern(Some("^[!-~]+$")).min_length(Some(1)).max_length(Some(MAX_IDEMPOTENCY_KEY))
        }
        Form::EventId => text.pattern(Some(EVENT_ID_PATTERN)),
        Form::Tile => text.pattern(Some(TILE_PATTERN)),
        Form::Flag => ObjectBuilder::new().schema_type(Type::Boolean),
        Form::Revision => text.pattern(Some(r#"^("[0-9]{1,18}"|[0-9]{1,18})$"#)),
    }
}

fn method_of(endpoint: &Endpoint) -> HttpMethod {
    match endpoint.method.as_str() {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn path_parameters(path: &str) -> Vec<String> {
    path.split('/')
        .filter_map(|part| Some(part.strip_prefix('{')?.strip_suffix('}')?.to_owned()))
        .collect()
}

/// The first word behind the prefix, or what an organization's path leads to.
fn tag_of(path: &str) -> &str {
    let mut parts = path.trim_start_matches(API_PREFIX).split('/').filter(|part| !part.is_empty());
    let first = parts.next().unwrap_or("api");
    parts.nth(1).filter(|_| first == "organizations").unwrap_or(first)
}

fn operation_id(endpoint: &Endpoint) -> String {
    let mut id = endpoint.method.as_str().to_ascii_lowercase();
    for part in endpoint.path.trim_start_matches(API_PREFIX).split('/') {
        let word = part.trim_matches(|c| c == '{' || c == '}').replace(['-', '.'], "_");
        if !word.is_empty() {
            id.push('_');
            id.push_str(if part.starts_with('{') { "by_" } else { "" });
            id.push_str(&word);
        }
    }
    id
}

//! The API's description, made from the same list of routes as the router.

use rap_proto::api::{
    API_PREFIX, IDEMPOTENCY_KEY_HEADER, MAX_IDEMPOTENCY_KEY, POSITION_HEADER, PROBLEM_CONTENT_TYPE,
    Problem,
};
use utoipa::openapi::{
    Components, Content, HttpMethod, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, PathItem,
    Paths, Ref, RefOr, Required,
    header::HeaderBuilder,
    path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
    response::{Response, ResponseBuilder},
    schema::{ArrayBuilder, Schema, Type},
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};

use super::endpoint::{AnswerDoc, BodyDoc, Condition, Endpoint, Guard, Kind, doc};

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
        operation = operation.parameter(parameter(ParameterIn::Path, &name, None, true));
    }
    for query in endpoint.query {
        let description = Some(query.description);
        operation =
            operation.parameter(parameter(ParameterIn::Query, query.name, description, false));
    }
    operation = match endpoint.kind {
        Kind::Read => operation.parameter(parameter(
            ParameterIn::Query,
            "min_position",
            Some("Answer only once this log position is reflected."),
            false,
        )),
        Kind::Command(condition) => command_headers(operation, condition),
    };
    if let Some(body) = &endpoint.request {
        let content = Content::new(Some(register(components, body)));
        let request = RequestBodyBuilder::new()
            .content("application/json", content)
            .required(Some(Required::True));
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
    let key = parameter(ParameterIn::Header, IDEMPOTENCY_KEY_HEADER, Some(&description), true);
    let operation = operation.parameter(key);
    if condition == Condition::None {
        return operation;
    }
    let required = condition == Condition::Required;
    let description = Some("The `ETag` of what you read.");
    operation.parameter(parameter(ParameterIn::Header, "If-Match", description, required))
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
            let any = ObjectBuilder::new().schema_type(Type::String).build();
            let content = Content::new(Some(RefOr::T(Schema::Object(any))));
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

/// Puts the body's schema and all that it refers to into the document.
fn register(components: &mut Components, body: &BodyDoc) -> RefOr<Schema> {
    let mut schemas = vec![((body.name)().into_owned(), (body.schema)())];
    (body.dependencies)(&mut schemas);
    for (name, schema) in schemas {
        components.schemas.entry(name).or_insert(schema);
    }
    Ref::from_schema_name((body.name)()).into()
}

fn parameter(
    place: ParameterIn,
    name: &str,
    description: Option<&str>,
    required: bool,
) -> utoipa::openapi::path::Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .description(description)
        .required(if required { Required::True } else { Required::False })
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
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

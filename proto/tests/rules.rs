//! The `.proto` files follow the API's own rules: comments, layout, paging, naming, and the table of services.
//!
//! Entry point: [`violations`], a pure function of a descriptor set, which is also tested on small APIs that break each
//! rule.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/compile.rs"]
mod compile;
#[path = "support/package.rs"]
mod package;
#[path = "support/source.rs"]
mod source;
#[path = "support/symbols.rs"]
mod symbols;
#[path = "support/types.rs"]
mod types;

use std::collections::{BTreeMap, BTreeSet};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
};

use compile::compile_package;
use package::{PACKAGE, package_files};
use source::compile_source;
use symbols::symbols;
use types::type_text;

const TIMESTAMP: &str = ".google.protobuf.Timestamp";
/// How names of fields that hold a point in time end, and no others.
const TIME_SUFFIXES: [&str; 4] = ["_at", "_through", "_until", "_since"];

/// Every breach of a rule, in words that name the symbol; empty when all is well.
fn violations(descriptors: &FileDescriptorSet) -> Vec<String> {
    let messages: BTreeMap<String, &DescriptorProto> = package_files(descriptors)
        .flat_map(|file| &file.message_type)
        .map(|message| (format!(".{PACKAGE}.{}", message.name()), message))
        .collect();
    let mut found: Vec<String> = symbols(descriptors)
        .into_iter()
        .filter(|symbol| symbol.comment.is_empty())
        .map(|symbol| format!("{}: no comment", symbol.name))
        .collect();
    for message in messages.values() {
        for field in &message.field {
            found.extend(field_violation(message, field));
        }
    }
    for enumeration in package_files(descriptors).flat_map(|file| &file.enum_type) {
        found.extend(enum_violations(enumeration));
    }
    for rpc in package_files(descriptors).flat_map(|file| &file.service).flat_map(|service| &service.method) {
        found.extend(rpc_violations(rpc, &messages));
    }
    found.extend(unreachable(descriptors, &messages));
    found
}

fn field_violation(message: &DescriptorProto, field: &FieldDescriptorProto) -> Option<String> {
    let timely_name = TIME_SUFFIXES.iter().any(|suffix| field.name().ends_with(suffix));
    if timely_name != (field.type_name() == TIMESTAMP) {
        return Some(format!("{}.{}: times, and only times, end in {TIME_SUFFIXES:?}", message.name(), field.name()));
    }
    // A `repeated bool` or a map has never been needed; both are hard to evolve.
    let repeated_flag = field.label() == Label::Repeated && field.r#type() == Type::Bool;
    repeated_flag.then(|| format!("{}.{}: repeated bool", message.name(), field.name()))
}

fn enum_violations(enumeration: &EnumDescriptorProto) -> Vec<String> {
    let prefix = upper_snake(enumeration.name());
    let mut found = Vec::new();
    for value in &enumeration.value {
        if !value.name().starts_with(&format!("{prefix}_")) {
            found.push(format!("{}: does not begin with {prefix}_", value.name()));
        }
        if (value.number() == 0) != (value.name() == format!("{prefix}_UNSPECIFIED")) {
            found.push(format!("{}: 0 is {prefix}_UNSPECIFIED and nothing else is", value.name()));
        }
    }
    found
}

fn rpc_violations(rpc: &MethodDescriptorProto, messages: &BTreeMap<String, &DescriptorProto>) -> Vec<String> {
    let mut found = Vec::new();
    for (type_name, suffix) in [(rpc.input_type(), "Request"), (rpc.output_type(), "Response")] {
        if type_name != format!(".{PACKAGE}.{}{suffix}", rpc.name()) {
            found.push(format!("{}: {type_name} is not its own {suffix}", rpc.name()));
        }
    }
    let (Some(request), Some(response)) = (messages.get(rpc.input_type()), messages.get(rpc.output_type())) else {
        return found;
    };
    let has = |message: &DescriptorProto, name: &str, number: i32, type_name: &str| {
        message.field.iter().any(|f| f.name() == name && f.number() == number && type_text(f) == type_name)
    };
    let named = |message: &DescriptorProto, name: &str| message.field.iter().any(|f| f.name() == name);
    if !has(request, "context", 1, "idmap.v1.RequestContext") {
        found.push(format!("{}: the request has no `RequestContext context = 1`", rpc.name()));
    }
    if !rpc.server_streaming() && !has(response, "meta", 1, "idmap.v1.ResponseMeta") {
        found.push(format!("{}: the response has no `ResponseMeta meta = 1`", rpc.name()));
    }
    let paged = has(request, "page_size", 2, "int32")
        && has(request, "page_token", 3, "string")
        && has(response, "next_page_token", 2, "string");
    let mentions_pages =
        named(request, "page_size") || named(request, "page_token") || named(response, "next_page_token");
    if !paged && (mentions_pages || rpc.name().starts_with("List")) {
        found.push(format!("{}: paging needs page_size = 2, page_token = 3, next_page_token = 2", rpc.name()));
    }
    found
}

/// Messages and enums that no rpc leads to: nobody could ever see them.
fn unreachable(descriptors: &FileDescriptorSet, messages: &BTreeMap<String, &DescriptorProto>) -> Vec<String> {
    let mut todo: Vec<String> = package_files(descriptors)
        .flat_map(|file| &file.service)
        .flat_map(|service| &service.method)
        .flat_map(|rpc| [rpc.input_type().to_owned(), rpc.output_type().to_owned()])
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = todo.pop() {
        if seen.insert(name.clone()) {
            let fields = messages.get(&name).into_iter().flat_map(|message| &message.field);
            todo.extend(fields.map(|field| field.type_name().to_owned()));
        }
    }
    let enums = package_files(descriptors).flat_map(|file| &file.enum_type);
    let enum_names = enums.map(|enumeration| format!(".{PACKAGE}.{}", enumeration.name()));
    let all = messages.keys().cloned().chain(enum_names);
    all.filter(|name| !seen.contains(name)).map(|name| format!("{name}: no rpc leads to it")).collect()
}

fn upper_snake(camel: &str) -> String {
    let mut snake = String::new();
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_uppercase());
    }
    snake
}

#[test]
fn the_api_breaks_no_rule() {
    let found = violations(&compile_package().file_descriptor_set());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_services_are_those_of_the_specification() {
    let expected = "\
        Lookup.ResolveAccount Lookup.BatchResolve Lookup.ResolveAcl Lookup.ExpandUser Lookup.GetUser \
        Lookup.ListUserAccounts Lookup.ListUserGroups Lookup.CheckAppMembership Lookup.ListApps Lookup.ListAppUsers \
        Lookup.ListGroups Lookup.ListGroupMembers Lookup.ListAppGroups Lookup.Explain Search.Search Search.Suggest \
        Changes.Watch Changes.ListChanges Coverage.GetStatus Coverage.ListScopes Coverage.ListGaps \
        Coverage.ListAmbiguities Coverage.ListQuarantined Coverage.ListOverrides Admin.TriggerSync Admin.ReleaseHold \
        Admin.Reindex Admin.SetOverride Admin.DeleteOverride";
    let set = compile_package().file_descriptor_set();
    let mut streams = Vec::new();
    let mut names = BTreeSet::new();
    for service in package_files(&set).flat_map(|file| &file.service) {
        for rpc in &service.method {
            let name = format!("{}.{}", service.name(), rpc.name());
            assert!(!rpc.client_streaming(), "{name} streams from the client");
            streams.extend(rpc.server_streaming().then(|| name.clone()));
            names.insert(name);
        }
    }
    assert_eq!(names, expected.split_whitespace().map(String::from).collect());
    assert_eq!(streams, ["Changes.Watch"]);
}

/// An API that breaks no rule; `check` breaks it at one place.
const SOUND: &str = "
// A service.
service Things {
  // An rpc.
  rpc ListThings(ListThingsRequest) returns (ListThingsResponse);
}
// A message.
message ListThingsRequest {
  // Context.
  RequestContext context = 1;
  // Size.
  int32 page_size = 2;
  // Token.
  string page_token = 3;
  // Colours.
  repeated ThingColor colors = 4;
}
// A message.
message ListThingsResponse {
  // Meta.
  ResponseMeta meta = 1;
  // Token.
  string next_page_token = 2;
  // One of two.
  oneof case {
    // Name.
    string name = 3;
    // Time.
    google.protobuf.Timestamp made_at = 4;
  }
}
// A message.
message RequestContext {}
// A message.
message ResponseMeta {}
// An enum.
enum ThingColor {
  // None.
  THING_COLOR_UNSPECIFIED = 0;
  // Red.
  THING_COLOR_RED = 1;
}
";

#[track_caller]
fn check(from: &str, to: &str, expected: &[&str]) {
    assert!(SOUND.contains(from), "the sample does not contain {from:?}");
    let found = violations(&compile_source(&SOUND.replacen(from, to, 1)));
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (violation, part) in found.iter().zip(expected) {
        assert!(violation.contains(part), "{violation:?} does not contain {part:?}");
    }
}

#[test]
fn missing_comments_are_found() {
    check("A service.", "A service.", &[]);
    check("// A service.\n", "", &["idmap.v1.Things: no comment"]);
    check("// An rpc.\n", "", &["idmap.v1.Things.ListThings: no comment"]);
    check("// A message.\nmessage RequestContext", "message RequestContext", &["RequestContext: no comment"]);
    check("// Token.\n", "", &["ListThingsRequest.page_token: no comment"]);
    check("// One of two.\n", "", &["ListThingsResponse.case: no comment"]);
    check("// Name.\n", "//\n", &["ListThingsResponse.name: no comment"]);
    check("// An enum.\n", "", &["idmap.v1.ThingColor: no comment"]);
    check("// Red.\n", "", &["ThingColor.THING_COLOR_RED: no comment"]);
    check("string page_token", "optional string page_token", &[]);
}

#[test]
fn wrong_layout_is_found() {
    check("RequestContext context = 1", "RequestContext context = 9", &["no `RequestContext context = 1`"]);
    check("RequestContext context = 1", "ResponseMeta context = 1", &["no `RequestContext", "RequestContext: no rpc"]);
    check("ResponseMeta meta = 1", "ResponseMeta about = 1", &["no `ResponseMeta meta = 1`"]);
    check("int32 page_size = 2", "int64 page_size = 2", &["paging needs"]);
    check("int32 page_size = 2", "int32 page_size = 5", &["paging needs"]);
    check("string page_token = 3", "string after = 3", &["paging needs"]);
    check("string next_page_token = 2", "string rest = 2", &["paging needs"]);
    check("returns (ListThingsResponse)", "returns (stream ListThingsResponse)", &[]);
}

#[test]
fn wrong_names_are_found() {
    check("rpc ListThings(", "rpc ListTheThings(", &["is not its own Request", "is not its own Response"]);
    check("THING_COLOR_RED", "RED", &["RED: does not begin with THING_COLOR_"]);
    check("THING_COLOR_UNSPECIFIED", "THING_COLOR_NONE", &["0 is THING_COLOR_UNSPECIFIED"]);
    check("THING_COLOR_UNSPECIFIED = 0", "THING_COLOR_NONE = 0", &["0 is THING_COLOR_UNSPECIFIED"]);
    check("Timestamp made_at", "Timestamp made", &["ListThingsResponse.made: times"]);
    check("string name = 3", "string seen_at = 3", &["ListThingsResponse.seen_at: times"]);
    check("string name = 3", "string format = 3", &[]);
    check("repeated ThingColor colors", "repeated bool colors", &["repeated bool", "ThingColor: no rpc leads to it"]);
}

//! Messages of the API as JSON, by the descriptors that the server's reflection serves. Entry point: [`to_json`].
//!
//! One mapping for every message, so that a new field is shown without a line of code here:
//! - names are those of the `.proto` files; enum values are their names without the prefix; UNSPECIFIED is `null`;
//! - times are ISO 8601 with milliseconds, durations are seconds (`"1.500s"`); numbers are numbers;
//! - a field that is not set is there all the same: `""`, `0`, `false`, `[]`, and `null` where absence has a meaning;
//!   only of a choice between fields the unchosen ones are left out.
//!
//! Invariant: no input makes it panic; what a descriptor does not know is left out.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use okta_idmap_proto::{FILE_DESCRIPTOR_SET, v1};
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};
use serde_json::{Map, Value};

use crate::core::ids::Timestamp;

/// Messages within messages that are followed. The deepest of the API has 6; a descriptor cannot be cyclic in our files,
/// and if it were, this ends it.
const DEPTH_MAX: usize = 32;
const ENUM_ZERO: &str = "UNSPECIFIED";

/// A message that knows its name in the descriptors.
pub(in crate::cli) trait Named: Message {
    /// Its full name.
    const NAME: &'static str;
}

macro_rules! named {
    ($($message:ident),* $(,)?) => {
        $(impl Named for v1::$message {
            const NAME: &'static str = concat!("idmap.v1.", stringify!($message));
        })*

        #[cfg(test)]
        const NAMES: &[&str] = &[$(<v1::$message as Named>::NAME),*];
    };
}

named!(
    Account,
    Ambiguity,
    App,
    AppGroupEntry,
    AppSubject,
    BatchResolveResult,
    ChangeEvent,
    CheckAppMembershipResponse,
    ExpandUserResponse,
    ExplainResponse,
    Gap,
    GetStatusResponse,
    GetUserResponse,
    Group,
    GroupMemberEntry,
    GroupSubject,
    IndexStatus,
    OperatorOverride,
    Override,
    QuarantinedRecord,
    ResolveAccountResponse,
    ResolveAclResponse,
    ResponseMeta,
    Row,
    RowCount,
    ScopeStatus,
    SearchHit,
    Suggestion,
    UserGroup,
    UserSubject,
);

/// The message as JSON.
pub(in crate::cli) fn to_json<M: Named>(message: &M) -> Value {
    SCHEMA.message(M::NAME, &message.encode_to_vec(), 0)
}

/// What a field of a message is, for a table with types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum CellType {
    /// Text; the name of an enum's value.
    Text,
    /// Several texts.
    Texts,
    /// Yes or no.
    Flag,
    /// A whole number.
    Number,
    /// Milliseconds since the Unix epoch.
    Time,
}

/// The fields of a kind of rows in their order, with what they are and whether they can be `null`. What has no type here is
/// text, as JSON.
pub(in crate::cli) fn row_columns(kind: &str) -> Vec<(String, CellType, bool)> {
    let kinds = SCHEMA.messages.get("idmap.v1.Row").into_iter().flatten();
    let found =
        kinds.into_iter().find(|field| field.name == kind).and_then(|field| SCHEMA.messages.get(&field.type_name));
    let columns = found.into_iter().flatten().map(|field| {
        let cell = match (field.repeated, field.kind) {
            (true, _) => CellType::Texts,
            (false, Type::Bool) => CellType::Flag,
            (false, Type::Int32 | Type::Int64 | Type::Uint32) => CellType::Number,
            (false, Type::Message) if field.type_name == "google.protobuf.Timestamp" => CellType::Time,
            (false, _) => CellType::Text,
        };
        let can_be_null = field.presence != Presence::Implicit || field.kind == Type::Enum;
        (field.name.clone(), cell, can_be_null)
    });
    columns.collect()
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    // What is compiled in decodes: a test says so. An empty schema would show `null`s rather than stop a look-up.
    Schema::new(&FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default())
});

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Always shown; what is not on the wire has its default.
    Implicit,
    /// `null` when it is not set.
    Explicit,
    /// One of several: shown only when it is set.
    Chosen,
}

#[derive(Debug)]
struct Field {
    number: u32,
    name: String,
    kind: Type,
    /// Full name of the message or enum.
    type_name: String,
    repeated: bool,
    presence: Presence,
}

#[derive(Debug, Default)]
struct Schema {
    messages: HashMap<String, Vec<Field>>,
    enums: HashMap<String, BTreeMap<i32, String>>,
}

impl Schema {
    fn new(files: &FileDescriptorSet) -> Self {
        let mut schema = Self::default();
        for file in &files.file {
            let package = format!("{}.", file.package());
            for message in &file.message_type {
                schema.add_message(&package, message, 0);
            }
            for described in &file.enum_type {
                schema.add_enum(&package, described);
            }
        }
        schema
    }

    fn add_message(&mut self, prefix: &str, message: &DescriptorProto, depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        let name = format!("{prefix}{}", message.name());
        let inner = format!("{name}.");
        for nested in &message.nested_type {
            self.add_message(&inner, nested, depth + 1);
        }
        for described in &message.enum_type {
            self.add_enum(&inner, described);
        }
        let fields = message.field.iter().map(|field| Field {
            number: u32::try_from(field.number()).unwrap_or_default(),
            name: field.name().to_owned(),
            kind: field.r#type(),
            type_name: field.type_name().trim_start_matches('.').to_owned(),
            repeated: field.label() == Label::Repeated,
            presence: match (field.oneof_index, field.proto3_optional(), field.r#type()) {
                (_, true, _) => Presence::Explicit,
                (Some(_), false, _) => Presence::Chosen,
                (None, false, Type::Message) => Presence::Explicit,
                (None, false, _) => Presence::Implicit,
            },
        });
        let fields = fields.collect();
        self.messages.insert(name, fields);
    }

    fn add_enum(&mut self, prefix: &str, described: &EnumDescriptorProto) {
        let value_prefix = format!("{}_", screaming(described.name()));
        let values = described.value.iter().map(|value| {
            let name = value.name();
            (value.number(), name.strip_prefix(&value_prefix).unwrap_or(name).to_owned())
        });
        self.enums.insert(format!("{prefix}{}", described.name()), values.collect());
    }

    fn message(&self, name: &str, bytes: &[u8], depth: usize) -> Value {
        match name {
            "google.protobuf.Timestamp" => return timestamp(bytes),
            "google.protobuf.Duration" => return duration(bytes),
            _ => {}
        }
        let Some(fields) = self.messages.get(name).filter(|_| depth <= DEPTH_MAX) else { return Value::Null };
        let on_wire = read_wire(bytes);
        let mut object = Map::new();
        for field in fields {
            let mut found = on_wire.iter().filter(|(number, _)| *number == field.number).map(|(_, value)| value);
            let value = if field.repeated {
                Some(Value::Array(found.flat_map(|value| self.elements(field, value, depth)).collect()))
            } else {
                match (found.next_back(), field.presence) {
                    (Some(value), _) => Some(self.value(field, value, depth)),
                    (None, Presence::Implicit) => Some(self.unset(field)),
                    (None, Presence::Explicit) => Some(Value::Null),
                    (None, Presence::Chosen) => None,
                }
            };
            if let Some(value) = value {
                object.insert(field.name.clone(), value);
            }
        }
        Value::Object(object)
    }

    fn unset(&self, field: &Field) -> Value {
        match field.kind {
            Type::String | Type::Bytes => Value::from(""),
            Type::Message => Value::Null,
            Type::Double | Type::Float => Value::from(0.0),
            _ => self.value(field, &Wire::Varint(0), 0),
        }
    }

    /// The elements of a repeated field: numbers may be packed into one.
    fn elements(&self, field: &Field, value: &Wire<'_>, depth: usize) -> Vec<Value> {
        let packable = !matches!(
            field.kind,
            Type::String | Type::Bytes | Type::Message | Type::Double | Type::Float | Type::Group
        );
        match value {
            Wire::Bytes(packed) if packable => {
                let mut rest = *packed;
                std::iter::from_fn(|| take_varint(&mut rest))
                    .map(|number| self.value(field, &Wire::Varint(number), depth))
                    .collect()
            }
            value => vec![self.value(field, value, depth)],
        }
    }

    fn value(&self, field: &Field, value: &Wire<'_>, depth: usize) -> Value {
        match (field.kind, value) {
            (Type::Message, Wire::Bytes(bytes)) => self.message(&field.type_name, bytes, depth + 1),
            (Type::String, Wire::Bytes(bytes)) => Value::from(String::from_utf8_lossy(bytes)),
            (Type::Bool, Wire::Varint(number)) => Value::from(*number != 0),
            (Type::Uint32 | Type::Uint64, Wire::Varint(number)) => Value::from(*number),
            // Negative numbers are on the wire as their 64-bit complement, those of 32 bits too.
            (Type::Int32 | Type::Int64, Wire::Varint(number)) => Value::from(number.cast_signed()),
            (Type::Float, Wire::Fixed32(bits)) => float(f64::from(f32::from_bits(*bits))),
            (Type::Double, Wire::Fixed64(bits)) => float(f64::from_bits(*bits)),
            (Type::Enum, Wire::Varint(number)) => {
                let number = i32::try_from(number.cast_signed()).unwrap_or(i32::MAX);
                match self.enums.get(&field.type_name).and_then(|values| values.get(&number)) {
                    Some(name) if name == ENUM_ZERO => Value::Null,
                    Some(name) => Value::from(name.as_str()),
                    // A newer server's value: its number is all we know of it.
                    None => Value::from(number),
                }
            }
            _ => Value::Null,
        }
    }
}

/// Six digits are what a 32-bit score has; without rounding it would be shown with the noise of the conversion.
fn float(value: f64) -> Value {
    let rounded = (value * 1e6).round() / 1e6;
    serde_json::Number::from_f64(rounded).map_or(Value::Null, Value::Number)
}

fn timestamp(bytes: &[u8]) -> Value {
    let Ok(time) = prost_types::Timestamp::decode(bytes) else { return Value::Null };
    let millis = time.seconds.saturating_mul(1_000).saturating_add(i64::from(time.nanos / 1_000_000));
    Value::from(Timestamp::from_millis(millis).to_iso())
}

fn duration(bytes: &[u8]) -> Value {
    let Ok(span) = prost_types::Duration::decode(bytes) else { return Value::Null };
    let sign = if span.seconds < 0 || span.nanos < 0 { "-" } else { "" };
    let millis = span.nanos.unsigned_abs() / 1_000_000;
    Value::from(format!("{sign}{}.{millis:03}s", span.seconds.unsigned_abs()))
}

/// A value on the wire.
#[derive(Clone, Copy, Debug)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of an encoded message in their order; ends at the first byte that makes no sense.
fn read_wire(mut bytes: &[u8]) -> Vec<(u32, Wire<'_>)> {
    let mut fields = Vec::new();
    while let Some(field) = take_field(&mut bytes) {
        fields.push(field);
    }
    fields
}

fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, Wire<'a>)> {
    let key = take_varint(bytes)?;
    let value = match key & 7 {
        0 => Wire::Varint(take_varint(bytes)?),
        1 => Wire::Fixed64(u64::from_le_bytes(*bytes.split_first_chunk().map(|(head, rest)| {
            *bytes = rest;
            head
        })?)),
        2 => {
            let length = usize::try_from(take_varint(bytes)?).ok()?;
            let (head, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Wire::Bytes(head)
        }
        5 => Wire::Fixed32(u32::from_le_bytes(*bytes.split_first_chunk().map(|(head, rest)| {
            *bytes = rest;
            head
        })?)),
        _ => return None,
    };
    Some((u32::try_from(key >> 3).ok()?, value))
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// `AppUserStatus` as `APP_USER_STATUS`.
fn screaming(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for (index, c) in name.chars().enumerate() {
        if index > 0 && c.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text
}

/// The short name of an enum value: `as_str_name` without the enum's own name.
pub(in crate::cli) fn short(name: &'static str, prefix: &str) -> &'static str {
    match name.strip_prefix(prefix) {
        Some(ENUM_ZERO) => "",
        Some(short) => short,
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PACKAGE: &str = "idmap.v1.";

    #[test]
    fn every_field_of_the_api_can_be_shown() {
        let known = [
            Type::String,
            Type::Bool,
            Type::Uint32,
            Type::Uint64,
            Type::Int32,
            Type::Int64,
            Type::Float,
            Type::Double,
            Type::Enum,
            Type::Message,
        ];
        assert!(SCHEMA.messages.len() > 80);
        for (message, fields) in SCHEMA.messages.iter().filter(|(name, _)| name.starts_with(PACKAGE)) {
            for field in fields {
                assert!(known.contains(&field.kind), "{message}.{} is a {:?}", field.name, field.kind);
                let is_there = match field.kind {
                    Type::Message => {
                        field.type_name.starts_with("google.protobuf.")
                            || SCHEMA.messages.contains_key(&field.type_name)
                    }
                    Type::Enum => SCHEMA.enums.contains_key(&field.type_name),
                    _ => true,
                };
                assert!(is_there, "{message}.{} has an unknown type", field.name);
            }
        }
        for values in SCHEMA.enums.iter().filter(|(name, _)| name.starts_with(PACKAGE)).map(|(_, values)| values) {
            assert_eq!(values.get(&0).map(String::as_str), Some(ENUM_ZERO), "{values:?}");
        }
        for name in NAMES {
            assert!(SCHEMA.messages.contains_key(*name), "{name}");
        }
    }

    #[test]
    fn a_message_is_shown_whole() {
        let hit = v1::SearchHit {
            score: 1.1,
            row: Some(v1::search_hit::Row::Account(v1::Account {
                app: Some(v1::AppRef { id: "0oa1".into(), ..Default::default() }),
                user: None,
                app_user: Some(v1::AppUser {
                    user_name: "jdoe".into(),
                    status: v1::AppUserStatus::Provisioned.into(),
                    scope: 77,
                    created_at: Some(prost_types::Timestamp { seconds: 1_772_600_767, nanos: 5_000_000 }),
                    stale: true,
                    ..Default::default()
                }),
            })),
        };
        let shown = to_json(&hit);
        assert_eq!(shown["score"], json!(1.1));
        assert!(shown.get("user").is_none(), "an unchosen alternative is left out");
        let account = &shown["account"];
        assert_eq!(account["user"], Value::Null);
        assert_eq!(account["app"]["id"], "0oa1");
        assert_eq!(account["app"]["status"], Value::Null);
        let app_user = &account["app_user"];
        assert_eq!(app_user["user_name"], "jdoe");
        assert_eq!(app_user["external_id"], "");
        assert_eq!(app_user["status"], "PROVISIONED");
        assert_eq!(app_user["scope"], 77);
        assert_eq!(app_user["created_at"], "2026-03-04T05:06:07.005Z");
        assert_eq!(app_user["last_updated_at"], Value::Null);
        assert_eq!((&app_user["stale"], &app_user["status_grants"]), (&json!(true), &json!(false)));
    }

    #[test]
    fn numbers_lists_and_optional_fields() {
        let entry = |priority| v1::AppGroupEntry {
            app_group: Some(v1::AppGroup { priority, ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(to_json(&entry(None))["app_group"]["priority"], Value::Null);
        assert_eq!(to_json(&entry(Some(0)))["app_group"]["priority"], 0);
        assert_eq!(to_json(&entry(Some(-3)))["app_group"]["priority"], -3);
        let meta = v1::ResponseMeta { revision: u64::MAX, gap_ids: vec!["a".into(), "b".into()], ..Default::default() };
        let shown = to_json(&meta);
        assert_eq!((&shown["revision"], &shown["gap_ids"]), (&json!(u64::MAX), &json!(["a", "b"])));
        // The only repeated enum: packed on the wire.
        let resolution = v1::Resolution {
            warnings: vec![v1::ResolutionWarning::Confusable.into(), v1::ResolutionWarning::Stale.into()],
            ..Default::default()
        };
        let response = v1::ResolveAccountResponse { meta: None, resolution: Some(resolution) };
        assert_eq!(to_json(&response)["resolution"]["warnings"], json!(["CONFUSABLE", "STALE"]));
    }

    #[test]
    fn durations_are_seconds() {
        #[track_caller]
        fn check(seconds: i64, nanos: i32, expected: &str) {
            assert_eq!(duration(&prost_types::Duration { seconds, nanos }.encode_to_vec()), expected);
        }
        check(0, 0, "0.000s");
        check(90, 500_000_000, "90.500s");
        check(0, -500_000_000, "-0.500s");
    }

    #[test]
    fn nonsense_ends_quietly() {
        for bytes in [&[0xff_u8; 12][..], &[0x0a, 0xff, 0xff, 0x03], &[0x09, 1, 2], &[0x0d, 1], &[0x0b], &[0x80]] {
            assert!(SCHEMA.message("idmap.v1.User", bytes, 0).is_object());
        }
    }
}

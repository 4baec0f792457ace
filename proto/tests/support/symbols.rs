//! Everything that has a name in a descriptor set, with its comment. Entry point: [`symbols`].
//!
//! Invariant: only files of the package `idmap.v1` are walked, not what they import; nested declarations are refused,
//! so that nothing can hide from the walk.

use std::collections::BTreeMap;

use prost_types::{FileDescriptorProto, FileDescriptorSet};

use crate::package::{PACKAGE, package_files};

/// Something that has a name.
pub(crate) struct Symbol {
    /// Full name, e.g. `idmap.v1.User.id`.
    pub(crate) name: String,
    /// Leading comment, trimmed; empty if there is none.
    pub(crate) comment: String,
}

/// All messages, fields, oneofs, enums, enum values, services and rpcs.
pub(crate) fn symbols(descriptors: &FileDescriptorSet) -> Vec<Symbol> {
    package_files(descriptors).flat_map(symbols_of_file).collect()
}

// Numbers of the fields in `FileDescriptorProto`, `DescriptorProto`, `EnumDescriptorProto` and `ServiceDescriptorProto`
// that make up the paths of source locations.
const FILE_MESSAGES: i32 = 4;
const FILE_ENUMS: i32 = 5;
const FILE_SERVICES: i32 = 6;
const MESSAGE_FIELDS: i32 = 2;
const MESSAGE_ONEOFS: i32 = 8;
const ENUM_VALUES: i32 = 2;
const SERVICE_RPCS: i32 = 2;

fn symbols_of_file(file: &FileDescriptorProto) -> Vec<Symbol> {
    let comments: BTreeMap<&[i32], &str> = file
        .source_code_info
        .iter()
        .flat_map(|info| &info.location)
        .map(|location| (location.path.as_slice(), location.leading_comments()))
        .collect();
    let mut found = Vec::new();
    let mut add = |name: String, path: &[i32]| {
        let comment = comments.get(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        found.push(Symbol { name, comment });
    };
    for (index, message) in (0..).zip(&file.message_type) {
        let name = format!("{PACKAGE}.{}", message.name());
        let nested = message.nested_type.len() + message.enum_type.len();
        assert_eq!(nested, 0, "{name} has nested declarations, which this API does not use");
        for (field_index, field) in (0..).zip(&message.field) {
            add(format!("{name}.{}", field.name()), &[FILE_MESSAGES, index, MESSAGE_FIELDS, field_index]);
        }
        for (oneof_index, oneof) in (0..).zip(&message.oneof_decl) {
            // The compiler makes a oneof of its own for every `optional` field: that is nothing to comment on.
            let synthetic = message.field.iter().any(|f| f.proto3_optional() && f.oneof_index == Some(oneof_index));
            if !synthetic {
                add(format!("{name}.{}", oneof.name()), &[FILE_MESSAGES, index, MESSAGE_ONEOFS, oneof_index]);
            }
        }
        add(name, &[FILE_MESSAGES, index]);
    }
    for (index, enumeration) in (0..).zip(&file.enum_type) {
        let name = format!("{PACKAGE}.{}", enumeration.name());
        for (value_index, value) in (0..).zip(&enumeration.value) {
            add(format!("{name}.{}", value.name()), &[FILE_ENUMS, index, ENUM_VALUES, value_index]);
        }
        add(name, &[FILE_ENUMS, index]);
    }
    for (index, service) in (0..).zip(&file.service) {
        let name = format!("{PACKAGE}.{}", service.name());
        for (rpc_index, rpc) in (0..).zip(&service.method) {
            add(format!("{name}.{}", rpc.name()), &[FILE_SERVICES, index, SERVICE_RPCS, rpc_index]);
        }
        add(name, &[FILE_SERVICES, index]);
    }
    found
}

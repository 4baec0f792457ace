//! The numbers of an API as text, and what may change about them. Entry points: [`contract_of`] and [`compare`].
//!
//! A line is `name = what the wire depends on`: number, type and oneof of a field, number of an enum value, types of an
//! rpc. Invariant: a line that was ever committed stays; its symbol keeps it, or is removed with number and name
//! reserved.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::field_descriptor_proto::Label;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
};

use crate::package::{PACKAGE, package_files};
use crate::types::type_text;

/// Everything about an API that must not change.
#[derive(Default)]
pub(crate) struct Contract {
    /// By full name, what the wire depends on; begins with the number for fields and enum values.
    lines: BTreeMap<String, String>,
    /// Names that are reserved in their message or enum, in full.
    reserved_names: BTreeSet<String>,
    /// Reserved numbers by message or enum: inclusive ranges.
    reserved_ranges: Vec<(String, i32, i32)>,
}

/// Reads the contract off a descriptor set.
pub(crate) fn contract_of(descriptors: &FileDescriptorSet) -> Contract {
    let mut contract = Contract::default();
    for file in package_files(descriptors) {
        file.message_type.iter().for_each(|message| contract.add_message(message));
        file.enum_type.iter().for_each(|enumeration| contract.add_enum(enumeration));
        for service in &file.service {
            for rpc in &service.method {
                contract.lines.insert(format!("{PACKAGE}.{}.{}", service.name(), rpc.name()), rpc_text(rpc));
            }
        }
    }
    contract
}

impl Contract {
    fn add_message(&mut self, message: &DescriptorProto) {
        let name = format!("{PACKAGE}.{}", message.name());
        for field in &message.field {
            self.lines.insert(format!("{name}.{}", field.name()), field_text(message, field));
        }
        self.reserved_names.extend(message.reserved_name.iter().map(|reserved| format!("{name}.{reserved}")));
        // The end of a reserved range is exclusive in messages and inclusive in enums.
        let ranges = message.reserved_range.iter().map(|range| (name.clone(), range.start(), range.end() - 1));
        self.reserved_ranges.extend(ranges);
    }

    fn add_enum(&mut self, enumeration: &EnumDescriptorProto) {
        let name = format!("{PACKAGE}.{}", enumeration.name());
        for value in &enumeration.value {
            self.lines.insert(format!("{name}.{}", value.name()), value.number().to_string());
        }
        self.reserved_names.extend(enumeration.reserved_name.iter().map(|reserved| format!("{name}.{reserved}")));
        let ranges = enumeration.reserved_range.iter().map(|range| (name.clone(), range.start(), range.end()));
        self.reserved_ranges.extend(ranges);
    }

    /// Whether the symbol is gone for good: its name and its number are reserved.
    fn retires(&self, symbol: &str, text: &str) -> bool {
        let owner = owner_of(symbol);
        let reserves = |number| {
            self.reserved_ranges.iter().any(|(name, low, high)| name == owner && (*low..=*high).contains(&number))
        };
        self.reserved_names.contains(symbol) && number_of(text).is_some_and(reserves)
    }
}

/// What comparing with the committed lines comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Breaches, in words; no update may heal them.
    pub(crate) broken: Vec<String>,
    /// What is to be committed when nothing is broken: the old lines and the new ones, sorted.
    pub(crate) text: String,
}

/// Compares a contract with the lines that were committed.
pub(crate) fn compare(committed: &str, contract: &Contract) -> Comparison {
    let mut result = Comparison::default();
    let mut lines = contract.lines.clone();
    for line in committed.lines() {
        let Some((symbol, text)) = line.split_once(" = ") else {
            result.broken.push(format!("not a line of this file: {line:?}"));
            continue;
        };
        match contract.lines.get(symbol) {
            Some(now) if now == text => {}
            Some(now) => result.broken.push(format!("{symbol}: was `{text}`, is `{now}`")),
            None if contract.retires(symbol, text) => {
                lines.insert(symbol.to_owned(), text.to_owned());
            }
            None => result.broken.push(format!("{symbol}: removed without reserving its name and number")),
        }
    }
    result.text = lines.iter().map(|(symbol, text)| format!("{symbol} = {text}\n")).collect();
    result
}

fn owner_of(symbol: &str) -> &str {
    symbol.rsplit_once('.').map_or("", |(owner, _)| owner)
}

fn number_of(text: &str) -> Option<i32> {
    text.split(' ').next().and_then(|number| number.parse().ok())
}

fn field_text(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let oneof = field.oneof_index.and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
    let presence = match oneof {
        _ if field.proto3_optional() => "optional ".to_owned(),
        Some(oneof) => format!("oneof {} ", oneof.name()),
        None if field.label() == Label::Repeated => "repeated ".to_owned(),
        None => String::new(),
    };
    format!("{} {presence}{}", field.number(), type_text(field))
}

fn rpc_text(rpc: &MethodDescriptorProto) -> String {
    let stream = if rpc.server_streaming() { "stream " } else { "" };
    let [input, output] = [rpc.input_type(), rpc.output_type()].map(|name| name.trim_start_matches('.'));
    format!("({input}) returns ({stream}{output})")
}

//! How the type of a field is written. Entry point: [`type_text`].

use prost_types::FieldDescriptorProto;
use prost_types::field_descriptor_proto::Type;

/// The type of a field without its label: a scalar as in a `.proto` file, or the full name of a message or enum.
pub(crate) fn type_text(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase(),
    }
}

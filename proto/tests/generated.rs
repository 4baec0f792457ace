//! The committed generated code is what the `.proto` files generate, byte by byte.
//!
//! `UPDATE_GENERATED=1 cargo test -p okta-idmap-proto` rewrites `src/generated/` instead of failing.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/compile.rs"]
mod compile;
#[path = "support/update.rs"]
mod update;

use okta_idmap_proto::{FILE_DESCRIPTOR_SET, v1};
use prost::Message as _;
use prost_types::FileDescriptorSet;

use compile::compile_package;
use update::check_committed;

/// Reflection serves the comments, too, as long as the set stays small beside the binary.
const DESCRIPTOR_BYTES_MAX: usize = 400 << 10;

fn generate_rust(descriptors: FileDescriptorSet) -> Vec<u8> {
    let out_dir = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .codec_path("crate::codec::SmallCodec")
        .emit_rerun_if_changed(false)
        .out_dir(out_dir.path())
        .compile_fds(descriptors)
        .unwrap();
    std::fs::read(out_dir.path().join("idmap.v1.rs")).unwrap()
}

#[test]
fn committed_rust_is_what_the_proto_files_generate() {
    check_committed("src/generated/idmap.v1.rs", &generate_rust(compile_package().file_descriptor_set()));
}

#[test]
fn committed_descriptor_set_is_what_the_proto_files_compile_to() {
    let encoded = compile_package().encode_file_descriptor_set();
    assert!(encoded.len() < DESCRIPTOR_BYTES_MAX, "{} bytes: leave the comments out", encoded.len());
    check_committed("src/generated/descriptor.bin", &encoded);
}

#[test]
fn reflection_can_resolve_every_import() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let names: Vec<&str> = set.file.iter().map(|file| file.name()).collect();
    for file in &set.file {
        for import in &file.dependency {
            assert!(names.contains(&import.as_str()), "{} imports {import}, which is not in the set", file.name());
        }
    }
    assert!(
        names.contains(&"google/protobuf/timestamp.proto") && names.contains(&"idmap/v1/lookup.proto"),
        "{names:?}"
    );
}

#[test]
fn the_services_have_the_names_that_health_and_reflection_use() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut described: Vec<String> = set
        .file
        .iter()
        .flat_map(|file| file.service.iter().map(|service| format!("{}.{}", file.package(), service.name())))
        .collect();
    described.sort();
    let generated = [
        v1::admin_server::SERVICE_NAME,
        v1::changes_server::SERVICE_NAME,
        v1::coverage_server::SERVICE_NAME,
        v1::lookup_server::SERVICE_NAME,
        v1::search_server::SERVICE_NAME,
    ];
    assert_eq!(described, generated);
}

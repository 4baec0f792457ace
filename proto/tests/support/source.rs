//! Small made-up APIs for testing the checks themselves. Entry point: [`compile_source`].

use prost_types::FileDescriptorSet;

use crate::compile::{PROTO_DIR, compile};

/// Compiles one `.proto` file of the package `idmap.v1` with this body.
pub(crate) fn compile_source(body: &str) -> FileDescriptorSet {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join(PROTO_DIR)).unwrap();
    let head = "syntax = \"proto3\";\npackage idmap.v1;\nimport \"google/protobuf/timestamp.proto\";\n";
    std::fs::write(dir.path().join(PROTO_DIR).join("sample.proto"), format!("{head}{body}")).unwrap();
    compile(dir.path()).file_descriptor_set()
}

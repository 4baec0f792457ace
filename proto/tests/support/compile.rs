//! Compiling `.proto` files without protoc. Entry point: [`compile_package`].

use std::path::{Path, PathBuf};

/// Where the `.proto` files are, below the directory of this package; the path is that of the package name.
pub(crate) const PROTO_DIR: &str = "idmap/v1";

/// Compiles the `.proto` files of this package.
pub(crate) fn compile_package() -> protox::Compiler {
    compile(Path::new(env!("CARGO_MANIFEST_DIR")))
}

/// Compiles every `.proto` file of [`PROTO_DIR`] below `include`, in the order of their names, so that the result is
/// the same everywhere; with what they import and with comments.
pub(crate) fn compile(include: &Path) -> protox::Compiler {
    let mut names: Vec<PathBuf> = std::fs::read_dir(include.join(PROTO_DIR))
        .unwrap()
        .map(|entry| Path::new(PROTO_DIR).join(entry.unwrap().file_name()))
        .filter(|name| name.extension().is_some_and(|extension| extension == "proto"))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no .proto files in {PROTO_DIR}");
    let mut compiler = protox::Compiler::new([include]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    if let Err(error) = compiler.open_files(&names) {
        panic!("{error:?}");
    }
    compiler
}

//! The files of the repository. Entry point: [`read`].

use std::fs;
use std::path::Path;

use super::code::{code_only, without_tests};

/// Not part of the repository, although they may lie in the checkout; and inputs of fuzz targets, which may be anything.
const SKIPPED: [&str; 6] = [".git", "target", "okta-idmap-data", "okta-idmap.toml", "__pycache__", "corpus"];

/// Not text, or written by a tool that has its own idea of a line.
const BINARY: [&str; 5] = [".bin", ".sqlite", ".proptest-regressions", ".png", ".profraw"];

/// One text file.
#[derive(Debug)]
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Rust only: without comments and literals.
    pub(crate) code: String,
    /// Rust only: without tests as well; empty for a file of tests.
    pub(crate) shipped: String,
}

impl File {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let code = if path.ends_with(".rs") { code_only(&text) } else { String::new() };
        let shipped = if is_test(&path) { String::new() } else { without_tests(&code) };
        Self { path, text, code, shipped }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn is_generated(&self) -> bool {
        self.path.starts_with("proto/src/generated/")
    }

    pub(crate) fn is_test(&self) -> bool {
        is_test(&self.path)
    }

    pub(crate) fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

/// Whether a file holds tests only: by its own name or that of a directory above it.
fn is_test(path: &str) -> bool {
    let names = path.trim_end_matches(".rs").split('/');
    names.into_iter().any(|name| matches!(name, "tests" | "benches") || name.ends_with("_tests"))
}

/// All text files of the repository, by path.
pub(crate) fn read() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(root, "", &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 100, "these are not the files of the repository: {}", files.len());
    files
}

fn collect(dir: &Path, prefix: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().unwrap();
        if SKIPPED.contains(&name.as_str()) || BINARY.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files);
        } else if kind.is_file() {
            let text = fs::read_to_string(entry.path()).unwrap_or_else(|error| panic!("{path}: {error}"));
            files.push(File::new(path, text));
        }
    }
}

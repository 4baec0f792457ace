//! Committed files that a test compares and, when asked to, rewrites. Entry point: [`check_committed`].

use std::path::Path;

/// Set to `1` to rewrite committed files instead of failing on a difference.
pub(crate) const UPDATE_VARIABLE: &str = "UPDATE_GENERATED";

/// Fails if the file `name` of this package differs from `expected`; rewrites it first if [`UPDATE_VARIABLE`] says so.
#[track_caller]
pub(crate) fn check_committed(name: &str, expected: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let committed = std::fs::read(&path).unwrap_or_default();
    if committed == expected {
        return; // An equal file is left alone even when updating, so that nothing is compiled again for it.
    }
    if std::env::var_os(UPDATE_VARIABLE).is_some_and(|value| value == "1") {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    panic!("{name} is out of date: run `{UPDATE_VARIABLE}=1 cargo test -p okta-idmap-proto` and commit it");
}

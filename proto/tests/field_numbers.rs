//! No number, type or rpc that was ever committed changes: `field_numbers.txt` is compared with the `.proto` files.
//!
//! `UPDATE_GENERATED=1 cargo test -p okta-idmap-proto` adds what is new. Changes and removals fail in any case; a
//! removed field or enum value must leave its number and name reserved, and its line stays.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/compile.rs"]
mod compile;
#[path = "support/numbers.rs"]
mod numbers;
#[path = "support/package.rs"]
mod package;
#[path = "support/source.rs"]
mod source;
#[path = "support/types.rs"]
mod types;
#[path = "support/update.rs"]
mod update;

use compile::compile_package;
use numbers::{compare, contract_of};
use source::compile_source;
use update::check_committed;

const FILE_NAME: &str = "field_numbers.txt";

#[test]
fn nothing_that_was_committed_has_changed() {
    let committed = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE_NAME)).unwrap();
    let comparison = compare(&committed, &contract_of(&compile_package().file_descriptor_set()));
    assert!(comparison.broken.is_empty(), "{}", comparison.broken.join("\n"));
    check_committed(FILE_NAME, comparison.text.as_bytes());
}

const COMMITTED: &str = "\
idmap.v1.Color.COLOR_RED = 1
idmap.v1.Color.COLOR_UNSPECIFIED = 0
idmap.v1.Thing.colors = 2 repeated idmap.v1.Color
idmap.v1.Thing.made_at = 4 oneof case google.protobuf.Timestamp
idmap.v1.Thing.name = 1 string
idmap.v1.Thing.size = 3 optional int64
idmap.v1.Things.Follow = (idmap.v1.Thing) returns (stream idmap.v1.Thing)
idmap.v1.Things.Get = (idmap.v1.Thing) returns (idmap.v1.Thing)
";

const SOURCE: &str = "
service Things {
  rpc Get(Thing) returns (Thing);
  rpc Follow(Thing) returns (stream Thing);
}
message Thing {
  string name = 1;
  repeated Color colors = 2;
  optional int64 size = 3;
  oneof case { google.protobuf.Timestamp made_at = 4; }
}
enum Color { COLOR_UNSPECIFIED = 0; COLOR_RED = 1; }
";

/// Edits the source and compares it with the committed lines; `expected` is what is broken.
#[track_caller]
fn check(from: &str, to: &str, expected: &[&str]) -> String {
    assert!(SOURCE.contains(from), "the sample does not contain {from:?}");
    let comparison = compare(COMMITTED, &contract_of(&compile_source(&SOURCE.replacen(from, to, 1))));
    assert_eq!(comparison.broken, expected);
    comparison.text
}

#[test]
fn additions_are_allowed() {
    assert_eq!(check("", "", &[]), COMMITTED);
    let text = check("string name = 1;", "string name = 1; bool old = 5;", &[]);
    assert_eq!(text.replace("idmap.v1.Thing.old = 5 bool\n", ""), COMMITTED);
    let text = check("COLOR_RED = 1;", "COLOR_RED = 1; COLOR_BLUE = 2;", &[]);
    assert_eq!(text.replace("idmap.v1.Color.COLOR_BLUE = 2\n", ""), COMMITTED);
    let text = check("service Things {", "service Things { rpc Put(Thing) returns (Thing);", &[]);
    assert_eq!(text.replace("idmap.v1.Things.Put = (idmap.v1.Thing) returns (idmap.v1.Thing)\n", ""), COMMITTED);
}

#[test]
fn changes_are_refused() {
    check("string name = 1", "string name = 7", &["idmap.v1.Thing.name: was `1 string`, is `7 string`"]);
    check("string name = 1", "bytes name = 1", &["idmap.v1.Thing.name: was `1 string`, is `1 bytes`"]);
    check("optional int64 size", "int64 size", &["idmap.v1.Thing.size: was `3 optional int64`, is `3 int64`"]);
    check("COLOR_RED = 1", "COLOR_RED = 2", &["idmap.v1.Color.COLOR_RED: was `1`, is `2`"]);
    check(
        "oneof case { google.protobuf.Timestamp made_at = 4; }",
        "google.protobuf.Timestamp made_at = 4;",
        &["idmap.v1.Thing.made_at: was `4 oneof case google.protobuf.Timestamp`, is `4 google.protobuf.Timestamp`"],
    );
    check(
        "rpc Get(Thing) returns (Thing)",
        "rpc Get(Thing) returns (stream Thing)",
        &["idmap.v1.Things.Get: was `(idmap.v1.Thing) returns (idmap.v1.Thing)`, \
           is `(idmap.v1.Thing) returns (stream idmap.v1.Thing)`"],
    );
}

#[test]
fn removals_must_leave_a_reservation() {
    let removed = "removed without reserving its name and number";
    let gone = |symbol: &str| format!("idmap.v1.{symbol}: {removed}");
    check("string name = 1;", "", &[&gone("Thing.name")]);
    check("string name = 1;", "reserved 1;", &[&gone("Thing.name")]);
    check("string name = 1;", "reserved \"name\";", &[&gone("Thing.name")]);
    check("string name = 1;", "reserved 5 to 9; reserved \"name\";", &[&gone("Thing.name")]);
    check("string name = 1;", "string title = 1;", &[&gone("Thing.name")]);
    check("rpc Get(Thing) returns (Thing);", "", &[&gone("Things.Get")]);
    check("COLOR_RED = 1;", "reserved 1;", &[&gone("Color.COLOR_RED")]);
    // Reserved by number and name: allowed, and the line stays, so that dropping the reservation later is noticed.
    assert_eq!(check("string name = 1;", "reserved 1; reserved \"name\";", &[]), COMMITTED);
    assert_eq!(check("COLOR_RED = 1;", "reserved 1; reserved \"COLOR_RED\";", &[]), COMMITTED);
}

#[test]
fn a_damaged_file_is_refused() {
    let contract = contract_of(&compile_source(SOURCE));
    assert_eq!(compare("nonsense\n", &contract).broken, ["not a line of this file: \"nonsense\""]);
    assert_eq!(compare("", &contract).text, COMMITTED);
}

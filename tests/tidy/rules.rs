//! The rules that look at one file at a time. Entry point: [`RULES`].
//!
//! Adding a rule = one line in [`RULES`] and one in [`SAMPLES`], which shows that it can fail.

use super::code::{Path, paths};
use super::tree::File;

/// One rule: what it finds in a file, as line numbers with what stands there.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    /// What to do instead, and why.
    pub(crate) advice: &'static str,
    find: fn(&File) -> Vec<(usize, String)>,
}

impl Rule {
    /// Every place where the file breaks the rule.
    pub(crate) fn check(&self, file: &File) -> Vec<String> {
        let found = (self.find)(file).into_iter();
        found.map(|(line, what)| format!("{}:{line}: {}: {what}: {}", file.path, self.name, self.advice)).collect()
    }
}

/// Longest file, in lines: more is no longer read as one thing.
const FILE_LINES_MAX: usize = 600;

/// Longer files that are one thing nevertheless.
pub(crate) const LONG_FILES: [(&str, &str); 1] =
    [("src/core/sync/mod.rs", "one state machine, whose transitions are read side by side")];

pub(crate) const RULES: [Rule; 11] = [
    Rule {
        name: "pure core",
        advice: "core decides on what it is handed; the shell does IO and reads clocks",
        find: impure,
    },
    Rule { name: "rooms", advice: "each library has one room; the others use that room's interface", find: strangers },
    Rule {
        name: "read-only",
        advice: "the transport has no way to send anything but GET, and the one token request",
        find: verbs,
    },
    Rule {
        name: "environment",
        advice: "only config reads it, so that a run has one configuration",
        find: environment,
    },
    Rule { name: "long file", advice: "split it, or name it in LONG_FILES with the reason", find: long },
    Rule { name: "head", advice: "begin with a `//!` sentence, entry points, invariants", find: headless },
    Rule {
        name: "allow",
        advice: "use #[expect(.., reason = \"..\")], which ends when it is not needed",
        find: allows,
    },
    Rule { name: "ignored test", advice: "a test that does not run proves nothing", find: ignored },
    Rule { name: "unfinished", advice: "finish it or leave it out", find: unfinished },
    Rule { name: "unwrap", advice: "return an error; input is never a reason to stop", find: unwraps },
    Rule {
        name: "text",
        advice: "no tabs, no CR, no space at the end of a line, one newline at the end of the file",
        find: untidy,
    },
];

/// What reads the outside, by first segments.
const IMPURE: [&str; 22] = [
    "tokio",
    "tokio_util",
    "futures_util",
    "async_stream",
    "reqwest",
    "hyper",
    "rusqlite",
    "tantivy",
    "okta_idmap_index",
    "okta_idmap_proto",
    "tonic",
    "fastrand",
    "rand",
    "getrandom",
    "tracing",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
];

/// Clocks, by last segments: `use chrono::Utc` makes `Utc::now` of it.
const CLOCKS: [&str; 4] = ["Instant", "SystemTime", "Utc::now", "Local::now"];

/// The rooms of the library outside `core`.
const ROOMS: [&str; 7] = ["cli", "client", "config", "engine", "okta", "serve", "store"];

fn impure(file: &File) -> Vec<(usize, String)> {
    if !file.is_in(&["src/core/"]) {
        return Vec::new();
    }
    let is_impure = |path: &Path| {
        let text = path.text.as_str();
        let inside = text.trim_start_matches("super::").trim_start_matches("crate::").trim_start_matches("self::");
        let first = inside.split("::").next().unwrap_or_default();
        text == "async"
            || IMPURE.iter().any(|start| is_within(text, start))
            || CLOCKS.iter().any(|end| format!("::{text}::").contains(&format!("::{end}::")))
            || (inside != text && ROOMS.contains(&first))
    };
    named(paths(&file.shipped).into_iter().filter(is_impure))
}

/// Library, where it may be named (tests and benches aside, except where they stand here).
const LIBRARIES: [(&str, &[&str]); 12] = [
    ("reqwest", &["src/okta/transport.rs"]),
    ("rusqlite", &["src/store/"]),
    ("tantivy", &["index/"]),
    ("tantivy_fst", &["index/"]),
    ("tonic", &["src/serve/", "src/cli/", "src/client/", "proto/"]),
    ("axum", &["src/serve/"]),
    ("clap", &["src/cli/", "examples/", "tests/okta-sim/"]),
    ("clap_complete", &["src/cli/"]),
    ("clap_mangen", &["src/cli/manual.rs"]),
    ("parquet", &["src/cli/export/"]),
    ("anyhow", &["src/cli/", "src/main.rs", "examples/"]),
    ("okta_sim", &["tests/", "examples/", "benches/"]),
];

fn strangers(file: &File) -> Vec<(usize, String)> {
    let is_stranger = |path: &Path| {
        let has_room = |(library, places): &(&str, &[&str])| is_within(&path.text, library) && !file.is_in(places);
        LIBRARIES.iter().any(has_room)
    };
    named(paths(&file.shipped).into_iter().filter(is_stranger))
}

/// Ways to send something else than GET, or to choose the method at run time.
const VERBS: [&str; 10] =
    [".post(", ".put(", ".patch(", ".delete(", ".head(", ".request(", ".execute(", ".body(", ".json(", ".form("];

/// The one exception, once, and the place that it goes to.
const TOKEN_REQUEST: &str = "self.client.post(org.join(TOKEN_PATH)).body(form.expose().to_owned())";
const TOKEN_PATH: &str = "const TOKEN_PATH: &str = \"/oauth2/v1/token\";";

fn verbs(file: &File) -> Vec<(usize, String)> {
    if file.path != "src/okta/transport.rs" {
        return Vec::new();
    }
    let is_method = |path: &Path| path.text.contains("Method") && !path.text.ends_with("Method::GET");
    let mut found = named(paths(&file.shipped).into_iter().filter(is_method));
    let excused = if file.text.contains(TOKEN_PATH) { TOKEN_REQUEST } else { "\0" };
    found.extend(containing(&file.shipped.replacen(excused, "", 1), &VERBS));
    found
}

fn environment(file: &File) -> Vec<(usize, String)> {
    // The log looks at NO_COLOR, which is about the terminal and no configuration.
    if !file.is_in(&["src/"]) || file.is_in(&["src/config/", "src/cli/logging.rs"]) {
        return Vec::new();
    }
    let reads = ["env::var", "env::vars", "env::var_os", "env::vars_os"];
    let is_read = |path: &Path| reads.iter().any(|end| path.text.ends_with(end));
    named(paths(&file.shipped).into_iter().filter(is_read))
}

fn long(file: &File) -> Vec<(usize, String)> {
    let lines = file.text.lines().count();
    let is_excused = file.is_generated() || file.is_test() || LONG_FILES.iter().any(|(path, _)| *path == file.path);
    let is_long = file.is_rust() && lines > FILE_LINES_MAX && !is_excused;
    if is_long { vec![(lines, format!("{lines} lines"))] } else { Vec::new() }
}

fn headless(file: &File) -> Vec<(usize, String)> {
    let is_headless = file.is_rust() && !file.is_generated() && !file.text.starts_with("//! ");
    if is_headless { vec![(1, "no module head".to_owned())] } else { Vec::new() }
}

fn allows(file: &File) -> Vec<(usize, String)> {
    if file.is_generated() { Vec::new() } else { containing(&file.code, &["[allow("]) }
}

fn ignored(file: &File) -> Vec<(usize, String)> {
    containing(&file.code, &["#[ignore", "should_panic"])
}

fn unfinished(file: &File) -> Vec<(usize, String)> {
    let macros = containing(&file.code, &["todo!", "unimplemented!", "dbg!"]);
    let notes =
        if file.is_rust() { containing(&file.text, &[concat!("TO", "DO"), concat!("FIX", "ME")]) } else { vec![] };
    macros.into_iter().chain(notes).collect()
}

fn unwraps(file: &File) -> Vec<(usize, String)> {
    if file.is_generated() { Vec::new() } else { containing(&file.shipped, &[".unwrap()", ".unwrap_err()"]) }
}

fn untidy(file: &File) -> Vec<(usize, String)> {
    if file.is_generated() {
        return Vec::new();
    }
    let is_untidy = |line: &str| line.contains(['\t', '\r']) || line.trim_end() != line;
    let mut found: Vec<_> = (1..)
        .zip(file.text.split('\n'))
        .filter(|(_, line)| is_untidy(line))
        .map(|(number, line)| (number, format!("{line:?}")))
        .collect();
    if !file.text.ends_with('\n') || file.text.ends_with("\n\n") {
        found.push((file.text.lines().count(), "end of file".to_owned()));
    }
    found
}

/// Whether `path` is `start` or leads into it.
fn is_within(path: &str, start: &str) -> bool {
    path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn named(paths: impl Iterator<Item = Path>) -> Vec<(usize, String)> {
    paths.map(|path| (path.line, path.text)).collect()
}

fn containing(code: &str, needles: &[&str]) -> Vec<(usize, String)> {
    let has = |(_, line): &(usize, &str)| needles.iter().any(|needle| line.contains(needle));
    (1..).zip(code.lines()).filter(has).map(|(number, line)| (number, line.trim().to_owned())).collect()
}

/// Rule, path, text, lines that break the rule.
const SAMPLES: &[(&str, &str, &str, &[usize])] = &[
    ("pure core", "src/core/a.rs", "use std::{collections::BTreeMap, fs};", &[1]),
    ("pure core", "src/core/a.rs", "use std::time::Duration;\nlet t = std::time::Instant::now();", &[2]),
    ("pure core", "src/core/a.rs", "use chrono::{DateTime, Utc};\nUtc::now()", &[2]),
    ("pure core", "src/core/a.rs", "// tokio\n\"std::fs\"\nuse tokio::sync::watch;", &[3]),
    ("pure core", "src/core/a.rs", "async fn f() {}", &[1]),
    ("pure core", "src/core/a.rs", "use crate::store::Reader;\nuse super::super::okta::Client;", &[1, 2]),
    ("pure core", "src/core/a.rs", "use super::ids::AppId;\nlet rand_store = operand::okta();", &[]),
    ("pure core", "src/core/a.rs", "#[cfg(test)]\nmod tests { use std::fs; }", &[]),
    ("pure core", "src/engine/a.rs", "use std::fs;", &[]),
    ("rooms", "src/okta/client.rs", "use reqwest::Client;", &[1]),
    ("rooms", "src/okta/transport.rs", "use reqwest::Client;", &[]),
    (
        "rooms",
        "src/engine/a.rs",
        "use rusqlite::Connection;\nfn f(q: &tantivy::Index) {}\ntonic::Status::ok()",
        &[1, 2, 3],
    ),
    ("rooms", "src/store/a.rs", "use rusqlite::{Connection, params};", &[]),
    ("rooms", "src/engine/a.rs", "use okta_sim::Org;", &[1]),
    ("rooms", "src/engine/a.rs", "#[cfg(test)]\nmod tests { use okta_sim::Org; }", &[]),
    ("read-only", "src/okta/transport.rs", "self.client.get(url)\nself.client.post(url)", &[2]),
    ("read-only", "src/okta/transport.rs", "a.request(Method::GET)\nreqwest::Method::POST", &[1, 2]),
    ("read-only", "src/okta/limiter.rs", "map.delete(x)", &[]),
    (
        "read-only",
        "src/okta/transport.rs",
        "const TOKEN_PATH: &str = \"/oauth2/v1/token\";\n\
         self.client.post(org.join(TOKEN_PATH)).body(form.expose().to_owned())\n\
         self.client.post(org.join(TOKEN_PATH)).body(form.expose().to_owned())\nself.client.post(url)",
        &[3, 4],
    ),
    (
        "read-only",
        "src/okta/transport.rs",
        "const TOKEN_PATH: &str = \"/api/v1/users\";\n\
         self.client.post(org.join(TOKEN_PATH)).body(form.expose().to_owned())",
        &[2],
    ),
    ("environment", "src/cli/a.rs", "std::env::var(name)\nenv::var_os(name)", &[1, 2]),
    ("environment", "src/cli/a.rs", "env!(name)\nstd::env::args()", &[]),
    ("environment", "src/config/process.rs", "std::env::vars_os()", &[]),
    ("head", "src/a.rs", "use std::fmt;", &[1]),
    ("head", "src/a.rs", "//! What it is.", &[]),
    ("allow", "src/a.rs", "// #[allow(x)]\n#[allow(dead_code)]\n#![allow(unused)]", &[2, 3]),
    ("allow", "src/a.rs", "#[expect(dead_code, reason = \"no #[allow(x)]\")]", &[]),
    ("ignored test", "tests/a.rs", "#[ignore]\n#[test]\n#[should_panic]", &[1, 3]),
    ("unfinished", "tests/a.rs", "todo!()\nlet todo = 1;\ndbg!(x)", &[1, 3]),
    ("unfinished", "tests/a.rs", concat!("// TO", "DO: later"), &[1]),
    ("unwrap", "src/a.rs", "a.unwrap()\nb.unwrap_or(c)\n#[cfg(test)]\nmod tests { d.unwrap() }", &[1]),
    ("unwrap", "src/a/tests.rs", "a.unwrap()", &[]),
    ("unwrap", "src/a_tests/b.rs", "a.unwrap()", &[]),
    ("text", "a.md", "a\nb \n\tc\n", &[2, 3]),
    ("text", "a.md", "a\r\n", &[1]),
    ("text", "a.md", "a", &[1]),
    ("text", "a.md", "a\n\n", &[2]),
    ("text", "a.md", "a\n\nb\n", &[]),
];

#[test]
fn every_rule_finds_what_it_should() {
    for (name, path, text, expected) in SAMPLES {
        let rule = RULES.iter().find(|rule| rule.name == *name).unwrap_or_else(|| panic!("no rule {name}"));
        let mut lines: Vec<_> = (rule.find)(&File::new(*path, *text)).into_iter().map(|(line, _)| line).collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines, *expected, "{name}: {path}: {text}");
    }
}

#[test]
fn long_files_are_found() {
    let lines = |count: usize| "x\n".repeat(count);
    assert_eq!(long(&File::new("src/a.rs", lines(FILE_LINES_MAX))), []);
    assert_eq!(long(&File::new("src/a.rs", lines(FILE_LINES_MAX + 1))).len(), 1);
    assert_eq!(long(&File::new("tests/a.rs", lines(FILE_LINES_MAX + 1))), []);
    assert_eq!(long(&File::new("a.md", lines(FILE_LINES_MAX + 1))), []);
}

#[test]
fn every_rule_can_fail() {
    for rule in RULES.iter().filter(|rule| rule.name != "long file") {
        let fails = SAMPLES.iter().any(|(name, _, _, expected)| *name == rule.name && !expected.is_empty());
        assert!(fails, "no sample fails the rule {}", rule.name);
    }
}

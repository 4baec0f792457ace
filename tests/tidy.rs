//! The habits of the repository as tests: what the architecture forbids, what a text file looks like, what the documents
//! must not get wrong.
//!
//! Entry points: [`every_file_keeps_the_rules`] for `tidy/rules.rs`; below it the rules that need several files. Every
//! rule is a pure function over texts, and each is shown to fail on a sample.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/tree.rs"]
mod tree;

use std::collections::BTreeSet;

use tree::File;

#[track_caller]
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

fn text<'a>(files: &'a [File], path: &str) -> &'a str {
    let found = files.iter().find(|file| file.path == path);
    &found.unwrap_or_else(|| panic!("{path} is missing")).text
}

#[test]
fn every_file_keeps_the_rules() {
    let files = tree::read();
    let findings: Vec<_> =
        files.iter().flat_map(|file| rules::RULES.iter().flat_map(|rule| rule.check(file))).collect();
    assert_none(&findings);
}

#[test]
fn exceptions_are_needed() {
    let files = tree::read();
    for (path, reason) in rules::LONG_FILES {
        let lines = text(&files, path).lines().count();
        assert!(lines > 500, "{path} has {lines} lines and needs no exception ({reason})");
    }
}

/// Files that no `mod` leads to: rustc does not see them, so nothing in them is checked.
fn orphans(files: &[File]) -> Vec<String> {
    let mut reached = BTreeSet::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let (dir, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let children = match is_root(&file.path) || name == "mod.rs" {
            true => dir.to_owned(),
            false => file.path.trim_end_matches(".rs").to_owned(),
        };
        let words: Vec<&str> = file.code.split_whitespace().collect();
        for pair in words.windows(2).filter(|pair| pair[0] == "mod") {
            let Some(module) = pair[1].strip_suffix(';') else { continue };
            reached.extend([format!("{children}/{module}.rs"), format!("{children}/{module}/mod.rs")]);
        }
        let paths = file.text.lines().filter_map(|line| line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]"));
        reached.extend(paths.map(|path| format!("{dir}/{path}")));
    }
    let is_orphan =
        |file: &&File| file.is_rust() && !file.is_generated() && !is_root(&file.path) && !reached.contains(&file.path);
    files.iter().filter(is_orphan).map(|file| format!("{}: no mod leads here", file.path)).collect()
}

/// Whether Cargo compiles a file by itself.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [.., "src", "lib.rs" | "main.rs"] | [.., "tests" | "examples" | "benches", _, "main.rs"] => true,
        // Not the unit tests below `src`.
        [package @ .., "tests" | "examples" | "benches", file] => file.ends_with(".rs") && !package.contains(&"src"),
        _ => false,
    }
}

#[test]
fn every_file_is_compiled() {
    assert_none(&orphans(&tree::read()));
}

#[test]
fn orphans_are_found() {
    let file = |path: &str, text: &str| File::new(path, text);
    let files = [
        file("src/lib.rs", "pub mod a;\nmod b;\n// mod c;"),
        file("src/a/mod.rs", "mod x;"),
        file("src/a/x.rs", "#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;"),
        file("src/a/x_tests.rs", ""),
        file("src/b.rs", "mod y;"),
        file("src/b/y.rs", ""),
        file("src/c.rs", ""),
        file("src/y.rs", ""),
        file("tests/d.rs", ""),
        file("tests/e/main.rs", "mod f;"),
        file("tests/e/f.rs", ""),
        file("tests/e/g.rs", ""),
    ];
    let expected = ["src/c.rs", "src/y.rs", "tests/e/g.rs"].map(|path| format!("{path}: no mod leads here"));
    assert_eq!(orphans(&files), expected);
}

/// The simulated org and the product share nothing and are linked together in tests only.
fn manifest_findings(path: &str, manifest: &str) -> Vec<String> {
    let manifest: toml::Table = toml::from_str(manifest).unwrap();
    let mut findings = Vec::new();
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
    if lints != Some(true) {
        findings.push(format!("{path}: no `[lints] workspace = true`"));
    }
    let is_sim = path == "tests/okta-sim/Cargo.toml";
    let mut tables = vec![("dependencies", manifest.get("dependencies"))];
    tables.push(("build-dependencies", manifest.get("build-dependencies")));
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    tables.extend(targets.into_iter().flatten().map(|(_, target)| ("target dependencies", target.get("dependencies"))));
    if is_sim {
        tables.push(("dev-dependencies", manifest.get("dev-dependencies")));
    }
    for (table, names) in tables {
        for name in names.and_then(toml::Value::as_table).into_iter().flatten().map(|(name, _)| name) {
            if name == "okta-sim" || (is_sim && name.starts_with("okta-idmap")) {
                findings.push(format!("{path}: {name} must not be in [{table}]"));
            }
        }
    }
    findings
}

#[test]
fn the_simulated_org_stays_apart() {
    let files = tree::read();
    let manifests: Vec<_> = files.iter().filter(|file| file.path.ends_with("Cargo.toml")).collect();
    assert_eq!(manifests.len(), 4, "a new package: name it in ARCHITECTURE.md and here");
    let findings: Vec<_> = manifests.iter().flat_map(|file| manifest_findings(&file.path, &file.text)).collect();
    assert_none(&findings);
}

#[test]
fn wrong_manifests_are_found() {
    #[track_caller]
    fn check(path: &str, manifest: &str, expected: usize) {
        assert_eq!(manifest_findings(path, manifest).len(), expected, "{manifest}");
    }
    let lints = "[lints]\nworkspace = true\n";
    check("Cargo.toml", lints, 0);
    check("Cargo.toml", "", 1);
    check("Cargo.toml", &format!("{lints}[dev-dependencies]\nokta-sim = \"1\""), 0);
    check("Cargo.toml", &format!("{lints}[dependencies]\nokta-sim = \"1\""), 1);
    check("Cargo.toml", &format!("{lints}[target.'cfg(unix)'.dependencies]\nokta-sim = \"1\""), 1);
    check("tests/okta-sim/Cargo.toml", &format!("{lints}[dev-dependencies]\nokta-idmap = \"1\""), 1);
}

/// The version of the first section that has one, as in `## 0.1.0 (2026-11-22)`.
fn newest_change(changelog: &str) -> Option<&str> {
    changelog.lines().find_map(|line| line.strip_prefix("## ")?.split_whitespace().next())
}

#[test]
fn the_changelog_tells_of_this_version() {
    assert_eq!(newest_change("# Changes\n\n## 1.2.3 (x)\n\n## 1.2.2\n"), Some("1.2.3"));
    assert_eq!(newest_change("# Changes\n"), None);
    let files = tree::read();
    assert_eq!(newest_change(text(&files, "CHANGELOG.md")), Some(env!("CARGO_PKG_VERSION")));
}

/// Places of the repository that a document names, in backticks or as the target of a link.
fn places_named(document: &str) -> Vec<&str> {
    const ROOTS: [&str; 7] = ["src/", "tests/", "index/", "proto/", "examples/", "benches/", ".ci/"];
    let is_path = |span: &&str| span.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    // Odd pieces between backticks are inside; a block of code has three at each end and keeps the count even.
    let spans = document.split('`').skip(1).step_by(2);
    let spans = spans.filter(|span| ROOTS.iter().any(|root| span.starts_with(root)));
    let links = document.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let links = links.filter(|link| !link.is_empty() && !link.contains("://"));
    spans.filter(is_path).chain(links).collect()
}

fn missing_places(document: &str, files: &[File]) -> Vec<String> {
    let exists = |place: &str| {
        let dir = format!("{}/", place.trim_end_matches('/'));
        files.iter().any(|file| file.path == place || file.path.starts_with(&dir))
    };
    places_named(document).into_iter().filter(|place| !exists(place)).map(|place| format!("no {place}")).collect()
}

const DOCUMENTS: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/gaps.md"];

#[test]
fn documents_name_what_is_there() {
    let files = tree::read();
    for document in DOCUMENTS {
        let findings = missing_places(text(&files, document), &files);
        assert!(findings.is_empty(), "{document}: {}", findings.join(", "));
    }
}

#[test]
fn missing_places_are_found() {
    let files = [File::new("src/a/b.rs", ""), File::new("README.md", "")];
    let check =
        |document: &str, expected: &[&str]| assert_eq!(missing_places(document, &files), expected, "{document}");
    check("`src/a/b.rs`, `src/a/`, `src/a`, [here](README.md#top), [there](https://a.b/c), `x/y`", &[]);
    check("`src/a/c.rs` and `src/c/`", &["no src/a/c.rs", "no src/c/"]);
    check("[here](OTHER.md)", &["no OTHER.md"]);
    check("```text\nsrc/z\n``` and `src/z.rs`", &["no src/z.rs"]);
}

/// What a paragraph of `docs/gaps.md` has to say.
const OF_EVERY_GAP: [&str; 5] = ["**Seen:**", "**May hide:**", "**Closes**", "**To do:**", "**Look:**"];

/// Kinds of gaps without a paragraph, or with one that leaves something out.
fn gaps_not_told(document: &str, kinds: &[&str]) -> Vec<String> {
    let paragraphs: Vec<(&str, &str)> =
        document.split("\n### ").skip(1).filter_map(|paragraph| paragraph.split_once('\n')).collect();
    let mut findings = Vec::new();
    for kind in kinds {
        let told: Vec<&str> = paragraphs.iter().filter(|(head, _)| head == kind).map(|(_, body)| *body).collect();
        match told.as_slice() {
            [body] => {
                let lacks = OF_EVERY_GAP.iter().filter(|part| body.matches(**part).count() != 1);
                findings.extend(lacks.map(|part| format!("{kind}: not one {part}")));
            }
            other => findings.push(format!("{kind}: {} paragraphs", other.len())),
        }
    }
    findings
}

#[test]
fn every_kind_of_gap_is_told() {
    let whole = OF_EVERY_GAP.join(" a ");
    assert_eq!(gaps_not_told(&format!("x\n### A\n{whole}\n### B\n"), &["A"]), [""; 0]);
    assert_eq!(
        gaps_not_told("\n### A\n**Seen:** **May hide:** **Closes** **To do:**\n", &["A"]),
        ["A: not one **Look:**"]
    );
    assert_eq!(gaps_not_told("\n### A\n", &["B"]), ["B: 0 paragraphs"]);
    let files = tree::read();
    let document = text(&files, "docs/gaps.md");
    // The API names every kind; the store those that this version finds.
    let of_api = (1..).map_while(|number| okta_idmap_proto::v1::GapKind::try_from(number).ok());
    let mut kinds: Vec<&str> = of_api.map(|kind| kind.as_str_name().trim_start_matches("GAP_KIND_")).collect();
    kinds.extend(okta_idmap::core::coverage::GapKind::ALL.iter().map(|kind| kind.name()));
    kinds.sort_unstable();
    kinds.dedup();
    assert_none(&gaps_not_told(document, &kinds));
    assert!(text(&files, "README.md").contains("(docs/gaps.md)"), "README.md does not lead to docs/gaps.md");
}

/// Rooms and packages that ARCHITECTURE.md does not name.
fn rooms_not_named(architecture: &str, files: &[File]) -> Vec<String> {
    let rooms = files.iter().filter(|file| file.is_rust()).filter_map(|file| {
        let parts: Vec<&str> = file.path.split('/').collect();
        match parts.as_slice() {
            ["src", room, _, ..] => Some(format!("src/{room}/")),
            ["index" | "proto", ..] => Some(format!("{}/", parts[0])),
            _ => None,
        }
    });
    let rooms: BTreeSet<String> = rooms.collect();
    rooms.into_iter().filter(|room| !architecture.contains(&format!("`{room}`"))).collect()
}

#[test]
fn the_architecture_names_every_room() {
    let sample = [File::new("src/a/b.rs", ""), File::new("src/c.rs", ""), File::new("index/src/lib.rs", "")];
    assert_eq!(rooms_not_named("`index/`", &sample), ["src/a/"]);
    let files = tree::read();
    assert_none(&rooms_not_named(text(&files, "ARCHITECTURE.md"), &files));
}

/// The commands of the README's quick start: the indented `cargo` lines of its first block of code.
fn quick_start(readme: &str) -> Vec<&str> {
    let block = readme.split("```").nth(1).unwrap_or_default();
    let commands = block.lines().filter(|line| line.starts_with("cargo "));
    commands.map(|line| line.split('#').next().unwrap_or_default().trim()).collect()
}

#[test]
fn the_ci_runs_what_the_readme_says() {
    assert_eq!(
        quick_start("a\n```sh\ncargo run   # x\ncargo test\n```\n```sh\ncargo b\n```"),
        ["cargo run", "cargo test"]
    );
    let files = tree::read();
    assert_eq!(quick_start(text(&files, "README.md")), ["cargo run --example demo", "cargo test --workspace"]);
    let ci = text(&files, ".ci/run");
    for part in ["cargo test --workspace", "--example demo", "cargo fmt --all --check", "-D warnings"] {
        assert!(ci.contains(part), ".ci/run does not run {part}");
    }
}

#[test]
fn the_example_configuration_is_tested() {
    let files = tree::read();
    let tests = files.iter().filter(|file| file.path.starts_with("tests/config"));
    let reads = |file: &File| file.text.contains("include_str!") && file.text.contains("config.example.toml");
    assert!(tests.into_iter().any(reads), "nothing in tests/config reads config.example.toml");
}

//! `export`: everything at one revision, whole or not at all.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::harness::Place;
use super::store;

fn filled() -> Place {
    let place = Place::with_org();
    store::fill(place.path());
    place
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The kind of each row, in order, each once.
fn kinds(rows: &[Value]) -> Vec<String> {
    let mut kinds: Vec<String> = rows.iter().flat_map(|row| row.as_object().unwrap().keys().cloned()).collect();
    kinds.dedup();
    kinds
}

#[test]
fn everything_is_told_with_its_revision_and_its_end() {
    let place = filled();
    let ran = place.run(&["export", "--to", "all.jsonl"]);
    // What is missing is told as everywhere.
    ran.assert(0, "", "PARTIAL: ");
    let file = place.path().join("all.jsonl");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let told = lines(&std::fs::read_to_string(&file).unwrap());
    let (begin, rest) = told.split_first().unwrap();
    let (end, rows) = rest.split_last().unwrap();
    let head = &begin["export"];
    assert_eq!((&head["version"], &head["meta"]["completeness"]), (&1.into(), &"PARTIAL".into()));
    assert!(head["meta"]["revision"].as_u64().unwrap() > 0);
    let promised: u64 =
        head["row_counts"].as_array().unwrap().iter().map(|kind| kind["row_count"].as_u64().unwrap()).sum();
    assert_eq!((promised, end["end"]["rows"].as_u64().unwrap()), (rows.len() as u64, rows.len() as u64));
    assert_eq!(kinds(rows), ["user", "group", "group_member", "app", "app_user", "app_group"]);
    // The same lines, without the file.
    assert!(place.run(&["export"]).out == std::fs::read_to_string(&file).unwrap(), "without the file");
    let some = lines(&place.run(&["export", "--kinds", "app,user", "-o", "jsonl"]).out);
    assert_eq!(kinds(&some[1..some.len() - 1]), ["user", "app"]);
}

#[test]
fn a_csv_has_every_field_and_no_formula() {
    let place = filled();
    for kind in ["user", "group", "app", "app-user", "group-member", "app-group"] {
        let rows = lines(&place.run(&["export", "--kinds", kind]).out);
        let csv = place.run(&["export", "--kinds", kind, "-o", "csv"]).out;
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let columns: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), rows.len() - 2, "{kind}");
        assert!(!records.iter().flatten().any(|cell| cell.starts_with(['=', '+', '-', '@'])), "{csv}");
        for row in &rows[1..rows.len() - 1] {
            let (_, fields) = row.as_object().unwrap().iter().next().unwrap();
            for name in fields.as_object().unwrap().keys() {
                assert!(columns.contains(name), "{kind}: no column {name}");
            }
        }
    }
    place.run(&["export", "--kinds", "app-user", "-o", "csv"]).assert(0, "'=eve", "");
}

#[test]
fn what_cannot_be_exported_leaves_nothing_behind() {
    let place = filled();
    place.run(&["export", "-o", "json"]).assert(2, "", "--output jsonl or csv");
    place.run(&["export", "-o", "csv"]).assert(2, "", "one kind of rows");
    place.run(&["export", "--server", "http://127.0.0.1:1"]).assert(2, "", "watch --from-snapshot");
    place.run(&["export", "--to", "."]).assert(1, "", "--to .");
    place.run(&["export", "--to", "no/such/dir.jsonl"]).assert(1, "", "create no/such/");
    let before = std::fs::read_dir(place.path()).unwrap().count();
    let empty = Place::with_org();
    empty.run(&["export", "--to", "all.jsonl"]).assert(1, "", "look into org acme");
    assert!(!empty.path().join("all.jsonl").exists());
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), before);
    // Whoever reads only the beginning is not told of a failure.
    let ran = place.run_cut_off(&["export"], 10);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

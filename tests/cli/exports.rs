//! `export`: everything at one revision, whole or not at all.

use std::os::unix::fs::PermissionsExt as _;

use okta_idmap::core::ids::Timestamp;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
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
    assert_eq!(head["era"].as_str().map(str::len), Some(16));
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

/// A cell as JSON lines have it.
fn cell(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => (*flag).into(),
        Field::Long(number) => (*number).into(),
        Field::Str(text) => text.as_str().into(),
        Field::TimestampMillis(millis) => Timestamp::from_millis(*millis).to_iso().into(),
        Field::ListInternal(list) => list.elements().iter().map(cell).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_parquet_file_holds_what_the_lines_hold() {
    let place = filled();
    for (kind, name) in [
        ("user", "user"),
        ("group", "group"),
        ("app", "app"),
        ("app-user", "app_user"),
        ("group-member", "group_member"),
        ("app-group", "app_group"),
    ] {
        let told = lines(&place.run(&["export", "--kinds", kind]).out);
        let rows: Vec<Value> = told[1..told.len() - 1].iter().map(|row| row[name].clone()).collect();
        let ran = place.run(&["export", "--kinds", kind, "-o", "parquet", "--to", "rows.parquet"]);
        ran.assert(0, "", &format!("{} rows", rows.len()));
        let path = place.path().join("rows.parquet");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let file = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        let about = file.metadata().file_metadata();
        let value = |key: &str| {
            let pairs = about.key_value_metadata().unwrap();
            pairs
                .iter()
                .find(|pair| pair.key == format!("okta_idmap.{key}"))
                .and_then(|pair| pair.value.clone())
                .unwrap()
        };
        let meta = &told[0]["export"]["meta"];
        assert_eq!((value("kind").as_str(), value("version").as_str()), (name, "1"));
        assert_eq!(value("revision"), meta["revision"].to_string());
        assert_eq!(Value::from(value("era")), told[0]["export"]["era"]);
        assert_eq!(
            (Value::from(value("store_id")), Value::from(value("completeness"))),
            (meta["store_id"].clone(), meta["completeness"].clone())
        );
        assert_eq!(serde_json::from_str::<Value>(&value("meta")).unwrap()["gap_ids"], meta["gap_ids"]);
        let found: Vec<Value> = file
            .get_row_iter(None)
            .unwrap()
            .map(|row| row.unwrap().get_column_iter().map(|(name, field)| (name.clone(), cell(field))).collect())
            .collect();
        assert_eq!(found, rows, "{kind}");
    }
    // Times are times, and what has no value has none.
    let file = place.run(&["export", "--kinds", "user", "-o", "parquet", "--to", "rows.parquet"]);
    file.assert(0, "", "");
    let file = SerializedFileReader::new(std::fs::File::open(place.path().join("rows.parquet")).unwrap()).unwrap();
    let row = file.get_row_iter(None).unwrap().next().unwrap().unwrap();
    let of = |wanted: &str| row.get_column_iter().find(|(name, _)| *name == wanted).unwrap().1.clone();
    assert!(matches!(of("created_at"), Field::TimestampMillis(1_772_600_767_000)), "{row:?}");
    assert!(matches!((of("last_updated_at"), of("stale")), (Field::Null, Field::Bool(false))), "{row:?}");
    assert_eq!(
        std::fs::read_dir(place.path())
            .unwrap()
            .filter(|file| { file.as_ref().unwrap().file_name().to_string_lossy().starts_with(".rows") })
            .count(),
        0
    );
}

/// The unfinished files of an export.
fn unfinished(place: &Place) -> usize {
    let files = std::fs::read_dir(place.path()).unwrap().map(|file| file.unwrap().file_name());
    files.filter(|name| name.to_string_lossy().starts_with(".all.jsonl.")).count()
}

#[test]
fn a_signal_leaves_neither_file_nor_rest() {
    let place = Place::with_org();
    store::fill_many(place.path(), 4_000);
    std::fs::write(place.path().join("all.jsonl"), "the one before").unwrap();
    for signal in ["TERM", "INT", "HUP"] {
        // It may be over before the signal comes; then the next try begins from the same state.
        let mut is_caught = false;
        for _ in 0..20 {
            let mut running = place.start(&["export", "--to", "all.jsonl"]);
            let id = running.child().id();
            while unfinished(&place) == 0 && running.child().try_wait().unwrap().is_none() {
                std::thread::yield_now();
            }
            running.signal(signal);
            let ran = running.wait();
            assert_eq!(unfinished(&place), 0, "{signal} left a rest of {id}: {ran:?}");
            if ran.code == Some(1) {
                ran.assert(1, "", "interrupted: no file was made");
                is_caught = true;
                break;
            }
            assert_eq!(ran.code, Some(0), "{ran:?}");
            std::fs::write(place.path().join("all.jsonl"), "the one before").unwrap();
        }
        assert!(is_caught, "{signal}: it was never in the middle");
        assert_eq!(std::fs::read_to_string(place.path().join("all.jsonl")).unwrap(), "the one before");
    }
}

#[test]
fn a_file_that_has_no_room_is_named() {
    let place = Place::with_org();
    store::fill_many(place.path(), 2_000);
    std::fs::write(place.path().join("all.jsonl"), "the one before").unwrap();
    // A limit of 128 KiB in blocks of 512 bytes is what a full disk is: no write goes beyond it, and nobody is killed. What
    // SQLite makes beside the store is smaller.
    let ran = place.run_under("trap '' XFSZ; ulimit -f 256", &["export", "--to", "all.jsonl"]);
    ran.assert(1, "", "error: write all.jsonl: ");
    assert!(ran.err.contains("no file was made: make room there"), "{ran:?}");
    assert_eq!(unfinished(&place), 0);
    assert_eq!(std::fs::read_to_string(place.path().join("all.jsonl")).unwrap(), "the one before");
}

#[test]
fn what_cannot_be_exported_leaves_nothing_behind() {
    let place = filled();
    for form in ["json", "table"] {
        place.run(&["export", "-o", form]).assert(2, "", "--output jsonl, csv or parquet");
    }
    place.run(&["export", "-o", "parquet"]).assert(2, "", "one kind of rows");
    place.run(&["export", "-o", "csv"]).assert(2, "", "one kind of rows");
    place.run(&["export", "--server", "http://127.0.0.1:1"]).assert(2, "", "watch --from-snapshot");
    place.run(&["export", "--to", "."]).assert(1, "", "--to .");
    place.run(&["export", "--to", "no/such/dir.jsonl"]).assert(1, "", "create no/such/dir.jsonl: ");
    place.run(&["export", "--to", "-"]).assert(2, "", "--to -: without --to an export goes to standard output");
    let before = std::fs::read_dir(place.path()).unwrap().count();
    let empty = Place::with_org();
    empty.run(&["export", "--to", "all.jsonl"]).assert(1, "", "look into org acme");
    assert!(!empty.path().join("all.jsonl").exists());
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), before);
    // Whoever reads only the beginning is not told of a failure.
    let ran = place.run_cut_off(&["export"], 10);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

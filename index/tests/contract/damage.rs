//! Damage anywhere in any file: opening and searching answer or fail, and never panic or hang.

use std::fs;
use std::path::{Path, PathBuf};

use okta_idmap_index::{IndexDoc, Opened, Query, Reader, SuggestQuery, open, open_read_only};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::world::{World, expect_up_to, user};

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).expect("list").map(|entry| entry.expect("entry").path()).collect();
    paths.retain(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0));
    paths.sort();
    paths
}

fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().expect("temporary directory");
    for path in files(from) {
        fs::copy(&path, to.path().join(path.file_name().expect("name"))).expect("copy");
    }
    to
}

fn small_index() -> TempDir {
    let docs: Vec<IndexDoc> = (0..40)
        .map(|number| IndexDoc {
            names: vec![format!("Müller{number}"), "Anna-Maria".to_owned()],
            accounts: vec![format!("a{number}@example.com")],
            apps: vec![format!("app{}", number % 7)],
            status: "ACTIVE".to_owned(),
            ..user(number, &format!("Anna {number}"))
        })
        .collect();
    World::of(&docs).dir
}

/// Uses everything once. Errors are fine.
fn use_all(reader: &Reader) -> Vec<bool> {
    let searches = ["anna", "\"anna maria\"", "mulle*", "app:app1 -status:active", "annna~"];
    let mut worked: Vec<bool> = searches.iter().map(|text| reader.search(&Query::new(*text)).is_ok()).collect();
    worked.push(reader.suggest(&SuggestQuery::new("an")).is_ok());
    worked.push(reader.all_keys().is_ok());
    worked.push(reader.verify().is_ok());
    worked
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_never_panics(file in 0_usize..32, place in 0.0_f64..1.0, bytes in proptest::collection::vec(any::<u8>(), 0..12), cut in any::<bool>()) {
        thread_local! { static INDEX: TempDir = small_index(); }
        let dir = INDEX.with(|index| copy(index.path()));
        let paths = files(dir.path());
        let path = &paths[file % paths.len()];
        let mut content = fs::read(path).expect("read");
        // A place in the file, from its length; exact rounding does not matter.
        let offset = ((content.len() as f64) * place) as usize;
        if cut {
            content.truncate(offset);
        }
        content.splice(offset.min(content.len())..(offset + bytes.len()).min(content.len()), bytes);
        fs::write(path, &content).expect("write");
        if let Ok(reader) = open_read_only(dir.path()) {
            use_all(&reader);
        }
        match open(dir.path(), &expect_up_to(9)) {
            // Checksums of small files are compared, so whatever passes is whole.
            Ok(Opened::Ready(index, _)) => prop_assert!(use_all(&index.reader()).into_iter().all(|worked| worked), "{}", path.display()),
            Ok(Opened::Rebuild(index, _)) => prop_assert_eq!(index.reader().doc_count(), 0),
            Err(error) => prop_assert!(false, "{}: {error}", path.display()),
        }
    }
}

#[test]
fn damage_under_an_open_reader_is_an_error() {
    let dir = small_index();
    let reader = open_read_only(dir.path()).expect("read-only");
    assert_eq!(reader.verify().expect("verify"), Vec::<String>::new());
    let path = files(dir.path()).into_iter().find(|path| path.to_string_lossy().ends_with(".idx")).expect("postings");
    let mut content = fs::read(&path).expect("read");
    let middle = content.len() / 2;
    content[middle] ^= 0x55;
    fs::write(&path, &content).expect("write");
    let name = path.file_name().expect("name").to_string_lossy().into_owned();
    assert_eq!(reader.verify().expect("verify"), [name]);
    use_all(&reader);
}

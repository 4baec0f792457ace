//! The file by itself, and registers of stores that go on changing.
//!
//! Whether what a register answers is what is stored is compared by `Snapshot::check_remembered`, which panics; here are
//! the commits, the restarts and the questions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::for_tests::{Opened, app, app_id, app_user, group, user};
use super::super::named_tests::{APPS, NAMES, change, name};
use super::pages::{
    ENTRY_HEAD_BYTES, FRONT_BYTES, Head, PAGE_HEAD_BYTES, Page, PageWriter, Pages, Place, Section, Value,
};
use super::rows::{Holders, Person, StoredHolders, account, put_account};
use super::{Adopted, REGISTER_FILE, Step, versions};
use crate::core::batch::Batch;
use crate::core::filter::{DomainFilter, DomainPattern, Filter};
use crate::core::ids::{AppId, Revision, Timestamp, UserId};
use crate::core::model::{AppUser, Row, User, UserStatus};
use crate::core::normalize::lookup_key;
use crate::core::resolve::AskedOf;
use crate::store::Reader;

fn head() -> Head {
    let eras = ["a".to_owned(), String::new()];
    Head {
        versions: versions(),
        store_id: "s".to_owned(),
        oldest: Revision(3),
        newest: Revision(9),
        eras,
        made_at: Timestamp::from_millis(-4),
    }
}

/// A file of these entries, the same in both sections.
fn file(dir: &Path, entries: &BTreeMap<Place, Vec<u8>>) -> PathBuf {
    let path = dir.join("pages");
    let mut writer = PageWriter::create(&path, 5).unwrap();
    for section in [Section::Names, Section::People] {
        writer.begin(section).unwrap();
        for (place, value) in entries {
            let is_first = entries.range((place.0, 0)..*place).next().is_none();
            if section == Section::People && is_first {
                let group = entries.range((place.0, 0)..=(place.0, u32::MAX));
                writer.keep_together(group.map(|(_, value)| value.len() + ENTRY_HEAD_BYTES).sum()).unwrap();
            }
            writer.put(*place, value).unwrap();
        }
    }
    writer.finish(&head()).unwrap();
    path
}

/// Entries with neighbours that are told apart by either half of their places.
fn entries(random: &mut fastrand::Rng) -> BTreeMap<Place, Vec<u8>> {
    let count = random.usize(1..2_000);
    let (spread, is_uneven) = (random.i64(1..3_000), random.u32(0..3) == 0);
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        // Evenly spread, as hashes are, or in heaps, which nobody guesses.
        let first = match random.u32(0..20) {
            0 => i64::MIN,
            1 => i64::MAX,
            2 if is_uneven => random.i64(..),
            _ if is_uneven => 1 << random.u32(0..62),
            _ => random.i64(-spread..=spread),
        };
        let length = if random.u32(0..50) == 0 { random.usize(2_000..5_000) } else { random.usize(0..300) };
        entries.insert((first, random.u32(0..4)), vec![random.u8(..); length]);
    }
    entries
}

#[test]
fn every_entry_is_found_and_no_other() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (dir, entries) = (tempfile::tempdir().unwrap(), entries(&mut random));
        let (pages, read) = Pages::open(&file(dir.path(), &entries)).unwrap();
        assert_eq!(read, head());
        let mut page = Page::empty();
        let near = entries.keys().flat_map(|(first, second)| {
            [(first.wrapping_sub(1), 3), (*first, second.wrapping_sub(1)), (*first, *second), (*first, second + 1)]
        });
        for place in near.chain([(i64::MIN, 0), (i64::MAX, u32::MAX)]) {
            for section in [Section::Names, Section::People] {
                let value = pages.find(section, place, &mut page).unwrap();
                let expected = match entries.get(&place) {
                    None => Value::None,
                    Some(value) if value.is_empty() || value.len() > section.value_bytes_max() => Value::Elsewhere,
                    Some(value) => Value::Some(value),
                };
                assert_eq!(value, expected, "{place:?} with seed {seed}");
            }
        }
    }
}

#[test]
fn whatever_is_kept_together_is_one_read() {
    let mut random = fastrand::Rng::with_seed(3);
    let dir = tempfile::tempdir().unwrap();
    let (mut entries, mut groups) = (BTreeMap::new(), 0);
    for first in 0..300 {
        for second in 0..random.u32(1..12) {
            entries.insert((first, second), vec![1; random.usize(1..400)]);
        }
    }
    let (pages, _) = Pages::open(&file(dir.path(), &entries)).unwrap();
    for first in 0..300 {
        let group: Vec<_> = entries.range((first, 0)..(first + 1, 0)).collect();
        let bytes: usize = group.iter().map(|(_, value)| value.len() + ENTRY_HEAD_BYTES).sum();
        let mut page = Page::empty();
        let read: BTreeSet<u64> = group
            .iter()
            .map(|(place, value)| {
                assert_eq!(pages.find(Section::People, **place, &mut page).unwrap(), Value::Some(value));
                page.number()
            })
            .collect();
        if bytes + PAGE_HEAD_BYTES <= Section::People.page_bytes() {
            groups += 1;
            assert_eq!(read.len(), 1, "{first} has {bytes} bytes");
        }
    }
    assert!((100..290).contains(&groups), "{groups}");
}

#[test]
fn entries_out_of_order_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = PageWriter::create(&dir.path().join("pages"), 5).unwrap();
    writer.put((5, 1), b"x").unwrap();
    for place in [(5, 1), (5, 0), (4, 9)] {
        assert!(writer.put(place, b"x").is_err());
    }
    writer.put((5, 2), b"x").unwrap();
}

#[test]
fn no_damage_is_taken_for_an_answer() {
    let mut random = fastrand::Rng::with_seed(7);
    let dir = tempfile::tempdir().unwrap();
    let entries: BTreeMap<Place, Vec<u8>> = (0..200).map(|n| ((n, 0), vec![1; 50])).collect();
    let path = file(dir.path(), &entries);
    let whole = std::fs::read(&path).unwrap();
    let mut opened = 0;
    for round in 0..600 {
        let mut bytes = whole.clone();
        if round % 3 == 0 {
            bytes.truncate(random.usize(..bytes.len()));
        } else {
            let place = random.usize(..bytes.len());
            bytes[place] ^= 1 << random.u32(0..8);
        }
        std::fs::write(&path, &bytes).unwrap();
        let Ok((pages, read)) = Pages::open(&path) else { continue };
        opened += 1;
        assert_eq!(read, head());
        for (place, expected) in &entries {
            for section in [Section::Names, Section::People] {
                if let Ok(value) = pages.find(section, *place, &mut Page::empty()) {
                    assert_eq!(value, Value::Some(expected));
                }
            }
        }
    }
    assert!(opened > 100, "{opened}");
    // One that was never finished.
    let mut writer = PageWriter::create(&path, 5).unwrap();
    writer.put((1, 1), b"x").unwrap();
    drop(writer);
    assert!(Pages::open(&path).is_err());
}

fn person(random: &mut fastrand::Rng) -> Person {
    let id = UserId::new(&format!("00u{}", random.u8(..))).unwrap();
    if random.u32(0..5) == 0 {
        return Person { id, user: None };
    }
    let user = User {
        id: id.clone(),
        status: UserStatus::parse(["ACTIVE", "STAGED", "SOMETHING_NEW"][random.usize(0..3)]),
        login: text(random),
        email: text(random),
        second_email: text(random),
        first_name: text(random),
        last_name: text(random),
        display_name: text(random),
        created: time(random),
        last_updated: time(random),
        status_changed: time(random),
    };
    Person { id, user: Some(user) }
}

fn text(random: &mut fastrand::Rng) -> Option<Box<str>> {
    Some(["", "a", "ünï", "jdoe@example.com", "J", "SYNCHRONIZED", "ERROR"].get(random.usize(0..8)).copied()?.into())
}

fn time(random: &mut fastrand::Rng) -> Option<Timestamp> {
    random.bool().then(|| Timestamp::from_millis(random.i64(..)))
}

#[test]
fn rows_come_back_as_they_were() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..2_000 {
        let person = person(&mut random);
        let mut bytes = Vec::new();
        person.write(&mut bytes);
        assert_eq!(Person::read(&bytes).as_ref(), Some(&person));
        let Row::AppUser(row) = app_user(1, 1, "", random.bool().then(|| group(2))) else { unreachable!() };
        let row = AppUser {
            app: app_id(7),
            user: person.id.clone(),
            user_name: text(&mut random),
            external_id: text(&mut random),
            email: text(&mut random),
            sync_state: text(&mut random),
            created: time(&mut random),
            last_updated: time(&mut random),
            status_changed: time(&mut random),
            ..row
        };
        let mut of_account = Vec::new();
        put_account(&mut of_account, &row, &person);
        assert_eq!(account(&of_account, app_id(7), &person).as_ref(), Some(&row));
        // Cut short it is nothing.
        let short = random.usize(..bytes.len());
        assert_eq!(Person::read(&bytes[..short]), None);
        let short = random.usize(..of_account.len());
        assert_eq!(account(&of_account[..short], app_id(7), &person), None);
        // Whatever else stands there does no harm.
        let noise: Vec<u8> =
            (0..random.usize(0..60)).map(|_| if random.bool() { random.u8(0..5) } else { random.u8(..) }).collect();
        let _ = (Person::read(&noise), account(&noise, app_id(7), &person), StoredHolders::read(&noise));
    }
}

#[test]
fn holders_come_back_up_to_three() {
    for count in 0..6_u32 {
        for has_past in [false, true] {
            let mut holders = Holders { has_past, ..Holders::default() };
            (0..count).for_each(|user| [user, user].into_iter().for_each(|user| holders.add(user)));
            assert_eq!((holders.users.len(), holders.has_more), (count.min(3) as usize, count > 3));
            let mut bytes = Vec::new();
            holders.write(&mut bytes);
            let read = StoredHolders::read(&bytes).unwrap();
            let users = read.users().collect();
            assert_eq!(Holders { users, has_past: read.has_past, has_more: read.has_more }, holders);
        }
    }
    assert!(StoredHolders::read(&[]).is_none());
    assert!(StoredHolders::read(&[4]).is_none());
    assert!(StoredHolders::read(&[0, 1, 2, 3]).is_none());
    assert!(StoredHolders::read(&[0; 17]).is_none());
}

fn commit(opened: &Opened, random: &mut fastrand::Rng) {
    let mut batch = Batch { now: Timestamp::from_millis(1_000), ..Batch::default() };
    (0..random.usize(1..4)).for_each(|_| change(random, &mut batch));
    opened.commit(batch);
}

/// Asks for every name in every app; returns how many answers the register had.
fn look(reader: &Reader) -> u64 {
    let looked = reader.read(|snapshot| {
        let mut known = 0;
        for (n, of) in (0..NAMES + 2).flat_map(|n| (0..APPS).map(move |of| (n, of))) {
            let key = lookup_key(&name(n)).unwrap();
            for asked in [AskedOf::Accounts, AskedOf::AccountsAndUsers] {
                known += u64::from(snapshot.is_registered(&app_id(of), key, asked)?);
                snapshot.candidates(&app_id(of), key, asked, 1_000)?;
            }
        }
        Ok(known)
    });
    looked.unwrap()
}

/// Makes a register while others commit: between the steps, if it is to be.
fn make(opened: &Opened, mut between: impl FnMut(&Opened)) {
    let reader = &opened.store.reader;
    let mut builder = opened.wait(reader.begin_register(Timestamp::from_millis(1_000))).unwrap().in_steps_of(3);
    loop {
        builder = match opened.wait(reader.go_on_with_register(builder)).unwrap() {
            Step::Next(builder) => *builder,
            Step::Done(_) => return,
        };
        between(opened);
    }
}

/// As after a start.
fn adopt(opened: &Opened) -> Adopted {
    opened.wait(opened.store.reader.adopt_register(false)).unwrap()
}

#[test]
fn what_is_registered_is_what_is_stored() {
    let (mut known, mut adopted) = (0, 0);
    let seeds = std::env::var("REGISTER_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(5);
    for seed in 0..seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut opened = Opened::new(Filter::default());
        opened.commit(Batch { rows: (0..APPS).map(|n| app(n, "Jira")).collect(), ..Batch::default() });
        for _ in 0..6 {
            (0..random.usize(0..20)).for_each(|_| commit(&opened, &mut random));
            match random.u32(0..4) {
                0 => {
                    let outcome = adopt(&opened);
                    assert!(matches!(outcome, Adopted::Yes | Adopted::Missing), "{outcome:?} with seed {seed}");
                }
                1 => opened = opened.stopped(|_| {}),
                _ => {
                    let busy = random.bool();
                    let mut others = fastrand::Rng::with_seed(random.u64(..));
                    make(&opened, |opened| (0..if busy { 3 } else { 0 }).for_each(|_| commit(opened, &mut others)));
                    // As after an end of the process before it was taken into use.
                    let is_own = random.bool();
                    if !is_own {
                        (0..random.usize(0..5)).for_each(|_| commit(&opened, &mut random));
                        opened = opened.stopped(|_| {});
                        (0..random.usize(0..5)).for_each(|_| commit(&opened, &mut random));
                    }
                    let outcome = opened.wait(opened.store.reader.adopt_register(is_own)).unwrap();
                    assert_eq!(outcome, Adopted::Yes, "seed {seed}");
                    adopted += 1;
                }
            }
            known += look(&opened.store.reader);
            (0..random.usize(0..3)).for_each(|_| commit(&opened, &mut random));
            known += look(&opened.store.reader);
        }
    }
    assert!(known > 80 * seeds && adopted > seeds, "{known} answers of {adopted} registers");
}

#[test]
fn a_register_of_something_else_is_removed() {
    let opened = Opened::new(Filter::default());
    opened.commit(Batch {
        rows: vec![app(0, "Jira"), user(1, "one", ""), app_user(0, 1, "one", None)],
        ..Batch::default()
    });
    assert_eq!(adopt(&opened), Adopted::Missing);
    make(&opened, |_| {});
    let file = opened.dir.path().join(REGISTER_FILE);
    let mine = std::fs::read(&file).unwrap();
    let is_known = |opened: &Opened, app: u64| {
        let key = lookup_key("one").unwrap();
        let known = opened.store.reader.read(|snapshot| snapshot.is_registered(&app_id(app), key, AskedOf::Accounts));
        known.unwrap()
    };
    assert!(!is_known(&opened, 0), "it is not in use yet");
    assert_eq!(adopt(&opened), Adopted::Yes);
    assert!(is_known(&opened, 0));
    let refused = |opened: &Opened| {
        let Adopted::No(reason) = adopt(opened) else { panic!("it was taken into use") };
        assert!(!opened.dir.path().join(REGISTER_FILE).exists() && !is_known(opened, 0), "{reason}");
        reason
    };
    // Another store.
    let other = Opened::new(Filter::default());
    std::fs::write(other.dir.path().join(REGISTER_FILE), &mine).unwrap();
    assert_eq!(refused(&other), "it is of another store");
    // What somebody else wrote.
    std::fs::write(&file, b"hello").unwrap();
    refused(&opened);
    // The store as it was, put back from a backup, goes on by another way.
    let (before, store) = (tempfile::tempdir().unwrap(), opened.dir.path().join(crate::store::STORE_FILE));
    let opened = opened.stopped(|dir| {
        std::fs::copy(dir.join(crate::store::STORE_FILE), before.path().join("backup")).unwrap();
    });
    opened.commit(Batch { rows: vec![user(2, "two", "")], ..Batch::default() });
    make(&opened, |_| {});
    let opened = opened.stopped(|_| {
        std::fs::copy(before.path().join("backup"), &store).unwrap();
    });
    opened.commit(Batch { rows: vec![user(3, "three", "")], ..Batch::default() });
    assert_eq!(refused(&opened), "the store was put back from a backup");
    // Of people whom another filter keeps out.
    let mut opened = opened;
    opened.commit(Batch { rows: vec![user(4, "four@a.test", "")], ..Batch::default() });
    make(&opened, |_| {});
    opened.filter = Filter { users: DomainFilter::new(DomainPattern::parse("a.test")), ..Filter::default() };
    let file_of = |dir: &Path| dir.join(REGISTER_FILE);
    let opened = opened.stopped(|dir| {
        assert!(file_of(dir).exists());
        std::fs::write(dir.join("register.bin.new"), b"half").unwrap();
    });
    assert!(!file_of(opened.dir.path()).exists(), "names were purged since it was made");
    assert!(!opened.dir.path().join("register.bin.new").exists());
    // Given up on purpose.
    make(&opened, |_| {});
    assert_eq!(adopt(&opened), Adopted::Yes);
    opened.wait(opened.store.reader.drop_register()).unwrap();
    assert!(!file.exists() && !is_known(&opened, 0));
}

#[test]
fn a_page_that_is_damaged_is_not_answered_from() {
    let opened = Opened::new(Filter::default());
    opened.commit(Batch {
        rows: vec![app(0, "Jira"), user(1, "one", ""), app_user(0, 1, "one", None)],
        ..Batch::default()
    });
    make(&opened, |_| {});
    let file = opened.dir.path().join(REGISTER_FILE);
    let mut bytes = std::fs::read(&file).unwrap();
    // In the page of the names, behind the head.
    bytes[FRONT_BYTES + 30] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(adopt(&opened), Adopted::Yes, "pages are looked at where they are read");
    let look = || opened.store.reader.register_look().unwrap();
    assert!(look().is_in_use);
    let ask = |app: AppId| {
        let key = lookup_key("one").unwrap();
        opened.store.reader.read(|snapshot| snapshot.candidates(&app, key, AskedOf::Accounts, 10)).unwrap().len()
    };
    assert_eq!(ask(app_id(0)), 1, "read from the store");
    assert!(!look().is_in_use, "it is made anew");
}

#[test]
fn where_names_are_crowded_the_steps_are_shorter() {
    let opened = Opened::new(Filter::default());
    let people = 0..60;
    let mut rows: Vec<Row> = (0..APPS).map(|n| app(n, "Jira")).collect();
    for n in people.clone() {
        rows.push(user(n, &name(n), ""));
        rows.extend((0..APPS).map(|of| app_user(of, n, &name(n), None)));
    }
    opened.commit(Batch { rows, ..Batch::default() });
    let reader = &opened.store.reader;
    // A step takes in the names of one person at most.
    let begun = opened.wait(reader.begin_register(Timestamp::from_millis(1_000))).unwrap();
    let (mut builder, mut steps) = (begun.in_steps_of(1), 0);
    let made = loop {
        builder = match opened.wait(reader.go_on_with_register(builder)).unwrap() {
            Step::Next(builder) => *builder,
            Step::Done(made) => break made,
        };
        steps += 1;
    };
    let bytes = std::fs::metadata(opened.dir.path().join(REGISTER_FILE)).unwrap().len();
    assert_eq!(made.bytes, bytes);
    assert_eq!((made.names, made.accounts), (60 * (1 + APPS), 60 * APPS));
    // Ranges of keys and people, if nobody had a range with somebody else.
    let calm = 60 * (1 + APPS) + 60;
    assert!(steps > calm && steps < 8 * calm, "{steps} steps");
    assert_eq!(adopt(&opened), Adopted::Yes);
    for n in people {
        let key = lookup_key(&name(n)).unwrap();
        let known = reader.read(|snapshot| snapshot.is_registered(&app_id(1), key, AskedOf::AccountsAndUsers));
        assert!(known.unwrap(), "{n}");
    }
}

//! Times filling, searching and suggesting at a number of users: `cargo bench -p okta-idmap-index -- 1000000`.
//!
//! Entry point: `main`. Each user has five mappings. Without a number it runs tiny, to stay correct. The output is one
//! JSON line per figure; `hash` is over the keys found, so a change in results shows besides a change in speed.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::time::{Duration, Instant};

use okta_idmap_index::{DocKind, Era, Expect, FieldBytes, IndexDoc, Mark, Opened, Query, Reader, SuggestQuery, open};

/// Users without an argument: enough for several segments' worth of code, done in a second.
const USERS_DEFAULT: u64 = 500;
const MAPPINGS_PER_USER: u64 = 5;
const APPS: u64 = 200;
/// As the follower does while it fills.
const DOCS_PER_COMMIT: u64 = 200_000;
const HEAP_BYTES: usize = 60_000_000;
const QUERIES: u64 = 2_000;
/// Of all revisions here.
const ERA: &str = "of this run";

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` and `cargo test --benches` add flags of their own.
    let users = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(USERS_DEFAULT);
    let dir = tempfile::tempdir()?;
    let expect = Expect {
        store_id: "bench".to_owned(),
        eras: vec![Era { name: ERA.to_owned(), first: 0 }],
        revisions: 0..=u64::MAX,
    };
    let (Opened::Rebuild(index, _) | Opened::Ready(index, _)) = open(dir.path(), &expect)?;
    let mut writer = index.writer(HEAP_BYTES)?;
    let mut random = Random(7);
    let (mut docs, mut in_put) = (0_u64, Duration::ZERO);
    let (start, cpu_start) = (Instant::now(), cpu());
    for number in 0..users {
        let person = Person::new(number, &mut random);
        for doc in std::iter::once(person.user()).chain((0..MAPPINGS_PER_USER).map(|place| person.mapping(place))) {
            let before = Instant::now();
            writer.put_new(&doc)?;
            in_put += before.elapsed();
            docs += 1;
            if docs.is_multiple_of(DOCS_PER_COMMIT) {
                writer.commit_at(&Mark { store_id: "bench".to_owned(), era: ERA.to_owned(), revision: docs })?;
            }
        }
    }
    writer.commit_at(&Mark { store_id: "bench".to_owned(), era: ERA.to_owned(), revision: docs })?;
    let filled = start.elapsed();
    writer.finish()?;
    let (merged, cpu_used) = (start.elapsed(), cpu().saturating_sub(cpu_start));
    let bytes: u64 = std::fs::read_dir(dir.path())?.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum();
    let mut out = std::io::stdout().lock();
    let per_document = |bytes: u64| bytes as f64 / docs as f64;
    let per_doc = |time: Duration| time.as_secs_f64() * 1e6 / (docs as f64);
    writeln!(
        out,
        r#"{{"figure":"fill","docs":{docs},"put_us":{:.2},"with_commit_us":{:.2},"with_merges_us":{:.2},"cpu_us":{:.2},"bytes_per_doc":{}}}"#,
        per_doc(in_put),
        per_doc(filled),
        per_doc(merged),
        per_doc(cpu_used),
        bytes / docs
    )?;
    replace(&index, users, &mut out)?;
    let reader = index.reader();
    let started = Instant::now();
    drop(index);
    let Opened::Ready(reopened, _) = open(dir.path(), &expect)? else { return Err("must be ready".into()) };
    writeln!(out, r#"{{"figure":"open","us":{}}}"#, started.elapsed().as_micros())?;
    drop(reopened);
    for bytes in reader.bytes_by_field()? {
        let FieldBytes { field, terms, postings, positions, column, other } = &bytes;
        writeln!(
            out,
            r#"{{"figure":"bytes per document, {field}","all":{:.2},"terms":{:.2},"postings":{:.2},"positions":{:.2},"column":{:.2},"other":{:.2}}}"#,
            per_document(bytes.total()),
            per_document(*terms),
            per_document(*postings),
            per_document(*positions),
            per_document(*column),
            per_document(*other)
        )?;
    }
    searches(&reader, users, &mut out)?;
    suggestions(&reader, users, &mut out)?;
    Ok(())
}

/// Replaces a thousand documents, as the follower does after a burst of events.
fn replace(index: &okta_idmap_index::Index, users: u64, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut writer = index.writer(HEAP_BYTES)?;
    let mut random = Random(11);
    let count = users.min(1_000);
    let start = Instant::now();
    for _ in 0..count {
        let number = random.below(users);
        writer.put(&Person::new(number, &mut random).mapping(0))?;
    }
    writer.commit_at(&Mark { store_id: "bench".to_owned(), era: ERA.to_owned(), revision: u64::MAX })?;
    writeln!(
        out,
        r#"{{"figure":"replace","docs":{count},"us_per_doc":{:.1}}}"#,
        start.elapsed().as_secs_f64() * 1e6 / (count as f64)
    )?;
    Ok(())
}

fn searches(reader: &Reader, users: u64, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let shapes: [(&str, Shape); 9] = [
        ("full name", |person| format!("{} {}", person.first, person.last)),
        ("last name", |person| person.last.clone()),
        ("beginning", |person| format!("{} {}", person.first, &person.last[..2])),
        ("login", |person| person.login.clone()),
        ("e-mail", |person| format!("{}@example.com", person.login)),
        ("misspelt", |person| format!("{}x {}", person.first, person.last)),
        ("filtered", |person| format!("{} kind:user status:ACTIVE app:{}", person.first, app_id(person.number % APPS))),
        ("two edits", |person| format!("{}{}~", person.last, person.first)),
        ("domain", |_| "example".to_owned()),
    ];
    for (name, shape) in shapes {
        for facets in [true, false] {
            let label = format!("search {name}{}", if facets { "" } else { ", no facets" });
            measure(&label, users, out, |person, hasher| {
                let results = reader.search(&Query { facets, ..Query::new(shape(person)) })?;
                results.total.hash(hasher);
                results.hits.iter().for_each(|hit| hit.key.hash(hasher));
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn suggestions(reader: &Reader, users: u64, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let shapes: [(&str, Shape); 8] = [
        ("first letter", |person| person.first[..1].to_owned()),
        ("two letters of the last name", |person| person.last[..2].to_owned()),
        ("four letters of the last name", |person| person.last[..4].to_owned()),
        ("full name", |person| format!("{} {}", person.first, person.last)),
        ("initials", |person| format!("{} {}", &person.last[..1], &person.first[..1])),
        ("login beginning", |person| person.login[..person.login.len() - 1].to_owned()),
        ("misspelt", |person| format!("{}x{}", &person.last[..2], &person.last[2..])),
        ("nothing", |person| format!("zq{}", person.last)),
    ];
    for (name, shape) in shapes {
        measure(&format!("suggest {name}"), users, out, |person, hasher| {
            let hits = reader.suggest(&SuggestQuery::new(shape(person)))?;
            hits.iter().for_each(|hit| hit.key.hash(hasher));
            Ok(())
        })?;
    }
    Ok(())
}

fn measure(
    label: &str,
    users: u64,
    out: &mut impl Write,
    mut ask: impl FnMut(&Person, &mut DefaultHasher) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut random = Random(3);
    let mut hasher = DefaultHasher::new();
    let mut times = Vec::new();
    let (began, cpu_start) = (Instant::now(), cpu());
    for _ in 0..QUERIES.min(users) {
        let person = Person::new(random.below(users), &mut Random(random.next()));
        let start = Instant::now();
        ask(&person, &mut hasher)?;
        times.push(start.elapsed());
        if began.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_micros();
    let cpu_mean_us = cpu().saturating_sub(cpu_start).as_micros() / (times.len() as u128);
    writeln!(
        out,
        r#"{{"figure":"{label}","queries":{},"cpu_mean_us":{cpu_mean_us},"p50_us":{},"p99_us":{},"max_us":{},"hash":"{:016x}"}}"#,
        times.len(),
        at(50),
        at(99),
        at(100),
        hasher.finish()
    )?;
    Ok(())
}

/// Processor time of this process, all threads; zero where the system does not tell. Other load on the machine does not
/// change it, unlike the times.
fn cpu() -> Duration {
    /// The unit of the kernel's counters; 100 a second on every Linux there is.
    const TICK_MS: u64 = 10;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * TICK_MS)
}

/// What somebody types who looks for a person.
type Shape = fn(&Person) -> String;

/// A made-up person; the same for the same number, apart from what `random` decides.
struct Person {
    number: u64,
    first: String,
    last: String,
    login: String,
}

impl Person {
    fn new(number: u64, random: &mut Random) -> Self {
        let _decides_nothing_yet = random.next();
        let mut own = Random(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        own.next();
        // Few first names, many last names, both more often short than rare.
        let (first_rank, last_rank) = (own.skewed(1_500), own.skewed(60_000));
        let (first, last) = (name(first_rank, 2), name(last_rank + 7_777, 3));
        let login = format!("{first}.{last}{number}");
        Self { number, first, last, login }
    }

    fn user(&self) -> IndexDoc {
        let apps = (0..MAPPINGS_PER_USER).map(|place| self.app(place));
        let mut accounts: Vec<String> = (0..MAPPINGS_PER_USER).flat_map(|place| self.names_in_app(place)).collect();
        accounts.sort_unstable();
        accounts.dedup();
        let (title, user_id) = (format!("{} {}", self.first, self.last), okta_id("00u", self.number));
        IndexDoc {
            names: vec![title.clone(), format!("{}@example.com", self.login)],
            accounts,
            ids: vec![user_id.clone()],
            status: if self.number.is_multiple_of(20) { "SUSPENDED" } else { "ACTIVE" }.to_owned(),
            app_labels: apps.clone().map(|app| format!("Application {app}")).collect(),
            apps: apps.map(app_id).collect(),
            ..IndexDoc::new(DocKind::User, format!("user/{user_id}"), title)
        }
    }

    /// User name, and in every other app an id.
    fn names_in_app(&self, place: u64) -> Vec<String> {
        let app = self.app(place);
        let name = match place {
            0 | 1 | 3 => format!("{}@example.com", self.login),
            2 => self.login[..4].to_owned() + &self.number.to_string(),
            _ => format!("E{:07}", self.number),
        };
        std::iter::once(name).chain(app.is_multiple_of(2).then(|| okta_id("005", self.number ^ (app << 40)))).collect()
    }

    fn mapping(&self, place: u64) -> IndexDoc {
        let (app, user_id) = (self.app(place), okta_id("00u", self.number));
        let accounts = self.names_in_app(place);
        let title = accounts.first().cloned().unwrap_or_default();
        IndexDoc {
            ids: std::iter::once(user_id.clone()).chain(accounts.get(1).cloned()).collect(),
            accounts,
            status: "ACTIVE".to_owned(),
            apps: vec![app_id(app)],
            app_labels: vec![format!("Application {app}")],
            ..IndexDoc::new(DocKind::Mapping, format!("mapping/{}/{user_id}", app_id(app)), title)
        }
    }

    fn app(&self, place: u64) -> u64 {
        (self.number + place * 37) % APPS
    }
}

fn app_id(app: u64) -> String {
    okta_id("0oa", app)
}

/// An id as Okta makes them: 20 characters of which 11 are drawn.
fn okta_id(prefix: &str, number: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = Random(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1).next().wrapping_mul(0x94D0_49BB_1331_11EB);
    let mut id = prefix.to_owned();
    for _ in 0..11 {
        id.push(char::from(DIGITS[usize::try_from(rest % 62).unwrap_or(0)]));
        rest = (rest / 62) ^ (rest << 40);
    }
    id + "k7Sim1"
}

fn name(rank: u64, syllables: u32) -> String {
    let (consonants, vowels) = (b"bdfghjklmnprstvw", b"aeiou");
    let mut rest = rank.wrapping_mul(2_654_435_761) % 80_u64.pow(syllables);
    let mut name = String::new();
    for _ in 0..syllables {
        let syllable = rest % 80;
        rest /= 80;
        name.push(char::from(consonants[usize::try_from(syllable / 5).unwrap_or(0)]));
        name.push(char::from(vowels[usize::try_from(syllable % 5).unwrap_or(0)]));
    }
    name
}

/// A xorshift generator: the same documents on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Small numbers more often than large ones.
    fn skewed(&mut self, limit: u64) -> u64 {
        self.below(limit).min(self.below(limit))
    }
}

//! Runs a fuzz target: its corpus as it is, then mutations of it. Entry point: [`run`].
//!
//! Invariants:
//! - A target fails on a panic, on a broken property, and on an input that takes longer than [`INPUT_TIME_MAX`].
//! - A target that accepts nothing or refuses nothing of its corpus tests nothing, and fails.
//! - Without `FUZZ_CASES` every run is the same; with it, every run has another seed, which it tells.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// Cases of a usual run: all targets together take a few seconds without optimisation.
const CASES: u32 = 2_000;

/// Longest input, in bytes. What is longer than a limit of the program is tested beside that limit.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Longest that one input may take, also without optimisation and beside other tests.
const INPUT_TIME_MAX: Duration = Duration::from_secs(20);

/// Characters of an input that a failure shows.
const INPUT_CHARS_SHOWN: usize = 8_000;

/// Most changes that are made to an input.
const MUTATIONS_MAX: usize = 12;

/// What is put into inputs of every target, beside the words of its own.
const WORDS: [&str; 34] = [
    "\0",
    "\n",
    "\r\n",
    "\t",
    " ",
    "\"",
    "'",
    "\\",
    "\\u0000",
    "\\ud800",
    "<",
    ">",
    ",",
    ";",
    ":",
    "=",
    "/",
    "//",
    "..",
    "%00",
    "%2f",
    "@",
    "-1",
    "0",
    "9999999999",
    "18446744073709551616",
    "1e999",
    "null",
    "true",
    "[]",
    "{}",
    "\u{202e}",
    "ü",
    "\u{feff}",
];

/// A target.
pub(crate) struct Target {
    /// Its name, and that of its directory in the corpus.
    pub(crate) name: &'static str,
    /// What its inputs are made of.
    pub(crate) words: &'static [&'static str],
    /// How many times fewer cases it gets than others, because one takes longer.
    pub(crate) cost: u32,
}

/// Whether the input was accepted, or the property that is broken.
pub(crate) type Checked = Result<bool, TestCaseError>;

/// One change of an input. The numbers are brought within bounds when it is made.
#[derive(Clone, Debug)]
struct Mutation {
    kind: u8,
    at: u32,
    length: u8,
    word: u16,
    byte: u8,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    (0..10_u8, any::<u32>(), any::<u8>(), any::<u16>(), any::<u8>())
        .prop_map(|(kind, at, length, word, byte)| Mutation { kind, at, length, word, byte })
}

impl Mutation {
    fn apply(&self, input: &mut Vec<u8>, words: &[&str], corpus: &[(String, Vec<u8>)]) {
        let at = self.at as usize % (input.len() + 1);
        let end = (at + usize::from(self.length) % 33).min(input.len());
        let word = words[usize::from(self.word) % words.len()].as_bytes();
        match self.kind {
            0 if at < input.len() => input[at] = self.byte,
            1 => input.insert(at, self.byte),
            2 | 3 => drop(input.splice(at..at, word.iter().copied())),
            4 => drop(input.drain(at..end)),
            5 => {
                let piece = input[at..end].to_vec();
                drop(input.splice(at..at, piece));
            }
            6 => {
                let (_, other) = &corpus[usize::from(self.word) % corpus.len()];
                let from = usize::from(self.byte) * other.len() / 256;
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            7 if self.byte < 64 => input.truncate(at),
            8 => drop(input.splice(at..end, word.iter().copied())),
            9 => {
                let many = word.repeat(1 << (self.byte % 12));
                drop(input.splice(at..at, many));
            }
            _ => {}
        }
        input.truncate(INPUT_BYTES_MAX);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// The files of a target, by name.
fn corpus_of(name: &str) -> Vec<(String, Vec<u8>)> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus")).join(name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), std::fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Runs a target.
#[expect(clippy::disallowed_methods, reason = "how long an input takes is in real time")]
pub(crate) fn run(target: &Target, check: impl Fn(&[u8]) -> Checked) {
    let corpus = corpus_of(target.name);
    let (accepted, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let timed = |input: &[u8]| -> Result<(), TestCaseError> {
        let begun = Instant::now();
        let is_accepted = check(input)?;
        let took = begun.elapsed();
        prop_assert!(took < INPUT_TIME_MAX, "it takes {took:?}");
        if is_accepted { &accepted } else { &refused }.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    for (file, input) in &corpus {
        match catch_unwind(AssertUnwindSafe(|| timed(input))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("{}: {file}: {error}", target.name),
            Err(_) => panic!("{}: {file}: it panics", target.name),
        }
    }
    let counted = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
    let (good, bad) = (counted(&accepted), counted(&refused));
    assert!(good > 0 && bad > 0, "{}: the corpus has {good} good and {bad} bad inputs", target.name);

    let asked = number("FUZZ_CASES");
    let seed = number("FUZZ_SEED").unwrap_or_else(|| match asked {
        Some(_) => std::process::id().into(),
        None => 1,
    });
    let cases = (asked.map_or(CASES, |cases| u32::try_from(cases).expect("fewer cases")) / target.cost).max(1);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let mut seed_bytes = [0; 32];
    seed_bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed_bytes));
    let words: Vec<&str> = target.words.iter().chain(&WORDS).copied().collect();
    let make = |(file, mutations): &(u16, Vec<Mutation>)| {
        // Beside the files, nothing at all is an input to begin with.
        let begin = corpus.get(usize::from(*file) % (corpus.len() + 1));
        let mut input = begin.map(|(_, input)| input.clone()).unwrap_or_default();
        mutations.iter().for_each(|mutation| mutation.apply(&mut input, &words, &corpus));
        input
    };
    // Mostly few: after many an input is soon refused at its first byte.
    let mutations = prop_oneof![
        3 => proptest::collection::vec(mutation(), 1..=3),
        1 => proptest::collection::vec(mutation(), 1..=MUTATIONS_MAX),
    ];
    let strategy = (any::<u16>(), mutations);
    let begun = Instant::now();
    let ended = runner.run(&strategy, |made| timed(&make(&made)));
    if let Err(TestError::Fail(reason, made)) = ended {
        let input = make(&made);
        let text = String::from_utf8_lossy(&input);
        let mut text = format!("{text:?}");
        if std::str::from_utf8(&input).is_err() {
            text.push_str(&format!("\nbytes: {input:02x?}"));
        }
        let text: String = text.chars().take(INPUT_CHARS_SHOWN).collect();
        panic!(
            "{}: {reason}\ninput: {text}\nFUZZ_SEED={seed} FUZZ_CASES={}; put the input into tests/fuzz/corpus/{}",
            target.name,
            u64::from(cases) * u64::from(target.cost),
            target.name,
        );
    }
    ended.expect("the target runs");
    if asked.is_some() {
        let (good, bad) = (counted(&accepted), counted(&refused));
        let told = format!(
            "fuzz {}: {cases} cases in {:.1} s, {good} accepted, {bad} refused, seed {seed}",
            target.name,
            begun.elapsed().as_secs_f32()
        );
        let _ = writeln!(std::io::stderr(), "{told}");
    }
}

/// Cuts an answer out of an input: a line with the status, lines of headers, an empty line, the body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn cut(input: &[u8]) -> Self {
        let split = input.windows(2).position(|pair| pair == b"\n\n");
        let (head, body) = split.map_or((input, &[][..]), |at| (&input[..at], &input[at + 2..]));
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(400);
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { status, headers, body: body.to_vec() }
    }

    /// Names and values.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// That a message for people and logs is one line of bounded length.
pub(crate) fn check_message(message: &str, chars_max: usize) -> Result<(), TestCaseError> {
    let chars = message.chars().count();
    prop_assert!(chars <= chars_max, "a message of {chars} characters: {message:.200}");
    prop_assert!(!message.contains(char::is_control), "a message with control characters: {message:?}");
    Ok(())
}
